"""SIGTERM and SIGINT: a script ends at once, but training first saves the step that runs.

Python calls a handler between two operations of the main thread: XLA compiles for minutes in one, and what a handler
raises while jax or the garbage collector calls back into Python is swallowed. So in scripts a thread, woken by the signal
itself, ends the process. Whoever sets another handler (`Listener`, `raised`) takes over, until it sets the old one again.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import NoReturn, Self

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_PATIENCE = 2.0  # seconds
_words = ''
_follower: threading.Thread | None = None


class Interrupted(Exception):
    """Training stopped because it was asked to, and saved; the scripts exit with 128 + `signum`."""

    def __init__(self, signum: int, step: int, num_steps: int):
        name = signal.Signals(signum).name
        super().__init__(f'{name} after step {step} of {num_steps}: saved; the same command continues')
        self.signum = signum


class Listener:
    """Takes a signal as a request while it is entered; `signum` is the one that came, or 0. A second one ends the process.

    Silent outside the main thread.
    """

    def __init__(self):
        self.signum = 0
        self._previous = {}
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
        """Counts what the thread of `end_at_once` sees, perhaps long before the main thread handles it."""
        self._seen += 1
        return self._seen > 1


def end_at_once(words: str = '') -> None:
    """From here on a signal ends the process, wherever the main thread is. For scripts; may be called again.

    Args:
      words: what the line that is then printed says beside the signal's name.
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
        if signal.getsignal(number) != signal.SIG_IGN:  # as a shell has it for what it runs with &
            signal.signal(number, _end)


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """Ctrl-C inside raises KeyboardInterrupt, for work that cleans up after itself."""
    previous = signal.getsignal(signal.SIGINT)
    if previous == signal.SIG_IGN:
        yield
        return
    wakeups = signal.set_wakeup_fd(-1)  # the thread may come to look at the handler when the old one is back
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
        signal.set_wakeup_fd(wakeups)


def _end(signum: int, frame) -> NoReturn:
    """The handler in the main thread, which waits for the thread to end the process; a fork has no such thread."""
    if _follower and _follower.is_alive():
        _follower.join(_PATIENCE)
    os._exit(128 + signum)


def _follow(wakeups: int) -> None:
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
    flush = threading.Thread(target=sys.stdout.flush, daemon=True)  # may wait for a reader, or for the main thread
    flush.start()
    flush.join(_PATIENCE / 2)
    os._exit(128 + signum)
