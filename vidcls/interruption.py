"""SIGTERM and SIGINT as a request: what runs now is finished and saved. A second one ends the process at once."""

import os
import signal
import threading
from typing import Self


class Interrupted(Exception):
    """Training stopped because it was asked to, and saved; the scripts exit with 128 + `signum`."""

    def __init__(self, signum: int, step: int, num_steps: int):
        name = signal.Signals(signum).name
        super().__init__(f'{name} after step {step} of {num_steps}: saved; the same command continues')
        self.signum = signum


class Listener:
    """Listens while it is entered; `signum` is the signal that came, or 0. Silent outside the main thread."""

    def __init__(self):
        self.signum = 0
        self._previous = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, signum: int, frame) -> None:
        if self.signum:
            os._exit(128 + signum)
        self.signum = signum
