"""SIGTERM and SIGINT: a script ends at once, except that training first saves the step that is running.

Python calls a signal's handler between two operations of the main thread, and one operation may be minutes of compilation;
an exception of a handler is lost if it is raised while jax or the garbage collector calls back into Python. Therefore a
thread, which the signal itself wakes, ends the process of a script. `Listener` and `raised` set other handlers for a while;
meanwhile the thread leaves the process alone.
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
    """Training saved its state and stopped, as a signal asked for; the scripts exit with 128 + `signum`."""

    def __init__(self, signum: int, step: int, num_steps: int):
        name = signal.Signals(signum).name
        super().__init__(f'{name} after step {step} of {num_steps}: saved; the same command resumes the run')
        self.signum = signum


class Listener:
    """A context in which a first signal is a request, and a second one ends the process.

    Only the main thread can set handlers; in another thread the context does nothing.

    Attributes:
      signum: the signal that came; 0 if none did.
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
        """Counts a signal that the thread of `end_at_once` saw, perhaps long before the main thread handles it."""
        self._seen += 1
        return self._seen > 1


def end_at_once(words: str = '') -> None:
    """From here on a signal ends the process, whatever the main thread does. For scripts; may be called again.

    Args:
      words: what to print beside the signal's name.
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
    wakeups = signal.set_wakeup_fd(-1)  # else the thread might read the handler after the previous one was restored
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
        signal.set_wakeup_fd(wakeups)


def _end(signum: int, frame) -> NoReturn:
    """A handler: waits for the thread, which ends the process. A child made by `fork` has no thread, and ends itself."""
    if _follower and _follower.is_alive():
        _follower.join(_PATIENCE)
    os._exit(128 + signum)


def _follow(wakeups: int) -> None:
    """The thread: reads each signal from the pipe that Python writes to, and ends the process if it is due."""
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
    with contextlib.suppress(OSError):  # nobody reads
        os.write(2, ('\n' * os.isatty(2) + line + '\n').encode())
    flush = threading.Thread(target=sys.stdout.flush, daemon=True)  # may wait for a reader or for the main thread
    flush.start()
    flush.join(_PATIENCE / 2)
    os._exit(128 + signum)
