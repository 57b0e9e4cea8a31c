"""Processes: order, bounds, errors, and a worker that dies."""

import multiprocessing
import os
import time

import pytest

from data_prep import pool
from vidcls.errors import UserError


def slow_square(x: int) -> int:
    time.sleep(0.02 * (x % 3))
    return x * x


def fail_at_three(x: int) -> int:
    if x == 3:
        raise KeyError(x)
    return x


def die_at_three(x: int) -> int:
    if x == 3:
        os._exit(1)
    return x


@pytest.mark.parametrize('workers', [1, 2])
def test_results_come_in_order(workers):
    assert list(pool.map_in_order(slow_square, range(40), workers)) == [x * x for x in range(40)]


@pytest.mark.parametrize('workers', [1, 2])
def test_errors_reach_the_caller(workers):
    with pytest.raises(KeyError):
        list(pool.map_in_order(fail_at_three, range(10), workers))


def test_a_worker_that_dies_is_an_error():
    with pytest.raises(UserError, match='a worker process died'):
        list(pool.map_in_order(die_at_three, range(10), 2))


def test_few_are_in_flight_and_none_is_left():
    taken = []
    results = pool.map_in_order(slow_square, (taken.append(x) or x for x in range(1000)), 2)
    next(results)
    assert len(taken) <= 16
    results.close()
    limit = time.monotonic() + 10
    while multiprocessing.active_children() and time.monotonic() < limit:
        time.sleep(0.05)
    assert not multiprocessing.active_children()
