"""Handles SIGTERM and SIGINT: a script ends at once, except that training first finishes and saves the running step.

Python calls a signal's handler only between two operations of the main thread, and one operation may be minutes of
compilation. Besides, an exception that a handler raises is lost if jax or the garbage collector is calling back into
Python at that moment. Therefore a separate thread, which the signal itself wakes, ends the process of a script. Two
contexts change this for a while: with `Listener` the thread ends the process only at a second signal, and with `raised`
not at all.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any, NoReturn, Self

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_PATIENCE = 2.0  # seconds
_words = ''
_follower: threading.Thread | None = None


class Interrupted(Exception):
    """Training saved its state and stopped because of a signal. Scripts then exit with status 128 + `signum`."""

    def __init__(self, signum: int, step: int, num_steps: int):
        name = signal.Signals(signum).name
        super().__init__(f'{name} after step {step} of {num_steps}: saved; the same command resumes the run')
        self.signum = signum


class Listener:
    """A context in which the first signal is only recorded, and a second signal ends the process.

    Only the main thread can set handlers; in another thread the context does nothing.

    Attributes:
      signum: the number of the first signal; 0 if there was none.
    """

    def __init__(self) -> None:
        self.signum = 0
        self._previous: dict[int, Any] = {}
        self._seen = 0

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, signum: int, frame) -> None:
        if self.signum:
            _end(signum, frame)
        self.signum = signum

    def is_second(self) -> bool:
        """Counts a signal, and returns whether it was at least the second.

        The thread of `end_at_once` calls this, perhaps long before the main thread handles the signal.
        """
        self._seen += 1
        return self._seen > 1


def end_at_once(words: str = '') -> None:
    """Makes SIGTERM and SIGINT end the process from now on, whatever the main thread does. For scripts.

    Args:
      words: what to print beside the signal's name. A second call of the function changes only this.
    """
    global _words, _follower
    _words = words
    if _follower:
        return
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write)
    _follower = threading.Thread(target=_follow, args=(read,), daemon=True)
    _follower.start()
    for number in _SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # a shell ignores SIGINT for what it runs with &
            signal.signal(number, _end)


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """A context in which Ctrl-C raises KeyboardInterrupt, for work that cleans up after itself."""
    previous = signal.getsignal(signal.SIGINT)
    if previous == signal.SIG_IGN:
        yield
        return
    wakeups = signal.set_wakeup_fd(-1)  # otherwise the thread might look when the previous handler is back already
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
        signal.set_wakeup_fd(wakeups)


def _end(signum: int, frame) -> NoReturn:
    """A signal handler that waits for the thread to end the process.

    A child made by `fork` does not have the thread; this function then ends the process itself.
    """
    if _follower and _follower.is_alive():
        _follower.join(_PATIENCE)
    os._exit(128 + signum)


def _follow(wakeups: int) -> None:
    """Runs in the thread: reads the signals that Python writes to a pipe, and ends the process where they demand it."""
    while True:
        (signum,) = os.read(wakeups, 1)
        handler = signal.getsignal(signum)
        listener = getattr(handler, '__self__', None)
        if handler is _end:
            _say_and_exit(signum, _words)
        if isinstance(listener, Listener) and listener.is_second():
            _say_and_exit(signum, 'the last whole checkpoint is kept')


def _say_and_exit(signum: int, words: str) -> NoReturn:
    line = f'{signal.Signals(signum).name}: ended at once' + (f'; {words}' if words else '')
    with contextlib.suppress(OSError):  # nobody reads standard error
        os.write(2, ('\n' * os.isatty(2) + line + '\n').encode())
    flush = threading.Thread(target=sys.stdout.flush, daemon=True)  # a flush may wait for a reader or the main thread
    flush.start()
    flush.join(_PATIENCE / 2)
    os._exit(128 + signum)
