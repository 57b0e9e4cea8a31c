"""What the workers of test_pool do; apart from the tests, for a worker that imports pytest or PyAV starts late."""

import os
import signal
import time

from data_prep import pool


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


def same(x):
    return x


def unsendable(x: int):
    return (lambda: x) if x == 3 else x


class EndsAtOnce:
    """A function that ends the process that receives it."""

    def __reduce__(self):
        return os._exit, (9,)
