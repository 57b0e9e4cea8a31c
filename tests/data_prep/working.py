"""What workers do in test_pool and test_convert; apart from the tests, for a worker that imports pytest starts late."""

import os
import signal
import time
from pathlib import Path

import numpy as np

from data_prep import example, pool
from data_prep.clips import Clip
from data_prep.example import Result, Storage
from vidcls.data import video


def slow_square(x: int) -> int:
    time.sleep(0.02 * (x % 3))
    return x * x


def fail_at_three(x: int) -> int:
    if x == 3:
        raise KeyError(x)
    return x


def die_at_threes(x: int) -> int:
    if x % 10 == 3:
        os.kill(os.getpid(), signal.SIGSEGV if x == 13 else signal.SIGKILL)
    time.sleep(0.005)
    return x


def leave_at_three(x: int) -> int:
    return os._exit(7) if x == 3 else x


def hang_at_three(x: int) -> int:
    """Nothing comes of 3; 5 takes as long and is at work all the time."""
    for _ in range(75 if x in (3, 5) else 0):
        time.sleep(0.03)
        if x == 5:
            pool.report_progress()
    return x


def same(x: np.ndarray) -> np.ndarray:
    return x


def unsendable(x: int):
    return (lambda: x) if x == 3 else x


class EndsAtOnce:
    """A function that ends the process that receives it."""

    def __reduce__(self):
        return os._exit, (9,)


# In place of `convert_clip`: what goes wrong with clip a/2.


def _fail():
    raise KeyError('no such thing')


def fail_on_2(clip: Clip, storage: Storage, spool: Path) -> Result:
    video.check_size = (lambda *_: _fail()) if clip.id == 'a/2' else (lambda *_: None)
    return example.convert_clip(clip, storage, spool)


def crash_on_2(clip: Clip, storage: Storage, spool: Path) -> Result:
    if clip.id == 'a/2':
        (spool / 'half').touch()
        os.kill(os.getpid(), signal.SIGSEGV)
    return example.convert_clip(clip, storage, spool)


def hang_on_2(clip: Clip, storage: Storage, spool: Path) -> Result:
    if clip.id == 'a/2':
        (spool / 'half').touch()
        time.sleep(600)
    return example.convert_clip(clip, storage, spool)
