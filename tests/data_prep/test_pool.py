"""Processes: order, bounds, errors, and workers that die, hang or never start."""

import multiprocessing
import time

import numpy as np
import pytest

from data_prep import pool
from tests.data_prep.working import (
    EndsAtOnce,
    die_at_threes,
    fail_at_three,
    hang_at_three,
    leave_at_three,
    same,
    slow_square,
    unsendable,
)
from vidcls.errors import UserError


def _lost(item: int, reason: str) -> tuple[int, str]:
    return item, reason


def _no_child_is_left() -> bool:
    limit = time.monotonic() + 10
    while multiprocessing.active_children() and time.monotonic() < limit:
        time.sleep(0.05)
    return not multiprocessing.active_children()


@pytest.mark.parametrize('workers', [1, 2])
def test_results_come_in_order(workers):
    assert list(pool.map_in_order(slow_square, range(40), workers)) == [x * x for x in range(40)]
    assert _no_child_is_left()


@pytest.mark.parametrize('workers', [1, 2])
def test_errors_reach_the_caller_with_their_place(workers):
    results = pool.map_in_order(fail_at_three, range(10), workers)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError) as raised:
        next(results)
    assert 'in fail_at_three' in raised.value.__notes__[0]
    assert _no_child_is_left()


def test_no_items_need_no_worker():
    assert list(pool.map_in_order(slow_square, [], 2)) == []


@pytest.mark.parametrize('workers', [1, 2])
def test_a_worker_that_dies_costs_the_item_it_held(workers):
    found = list(pool.map_in_order(die_at_threes, range(30), workers, lost=_lost))
    killed = 'its worker process died of SIGKILL, perhaps for want of memory'
    crashed = 'its worker process died of SIGSEGV'
    reasons = {3: (3, killed), 13: (13, crashed), 23: (23, killed)}
    assert found == [reasons.get(x, x) for x in range(30)]


def test_a_worker_that_dies_is_an_error_where_nothing_takes_its_place():
    with pytest.raises(UserError, match='exit status 7; fewer --workers take less memory'):
        list(pool.map_in_order(leave_at_three, range(10), 2))
    assert _no_child_is_left()


@pytest.mark.parametrize('workers', [1, 2])
def test_a_worker_without_progress_costs_the_item_it_held(workers):
    start = time.monotonic()
    found = list(pool.map_in_order(hang_at_three, range(10), workers, timeout=1.2, lost=_lost))
    assert found == [(3, 'no progress for 1.2 s (--clip_timeout)') if x == 3 else x for x in range(10)]
    assert time.monotonic() - start > 2.2  # 5 took its time


def test_who_reads_results_late_blames_no_worker():
    found = []
    for result in pool.map_in_order(same, [np.full(100_000, x) for x in range(8)], 2, timeout=1, lost=_lost):
        found.append(int(result[0]))
        time.sleep(1.1 if len(found) < 3 else 0)
    assert found == list(range(8))


def test_what_is_larger_than_a_pipe_goes_through():
    """With an item in hand and one ahead, both ends would wait for room in the other's pipe."""
    items = [np.full(50_000 + x, x) for x in range(20)]
    for item, result in zip(items, pool.map_in_order(same, iter(items), 2), strict=True):
        assert np.array_equal(item, result)


def test_a_result_that_cannot_be_sent_is_an_error():
    with pytest.raises(RuntimeError, match='a function cannot be sent from a worker process'):
        list(pool.map_in_order(unsendable, range(5), 1))


def test_workers_that_die_as_they_start():
    with pytest.raises(UserError, match='3 worker processes ended as they started: .* exit status 9'):
        list(pool.map_in_order(EndsAtOnce(), range(5), 2))
    assert _no_child_is_left()


def test_few_are_in_flight_and_none_is_left():
    taken = []
    results = pool.map_in_order(slow_square, (taken.append(x) or x for x in range(1000)), 2)
    next(results)
    assert len(taken) <= 16
    results.close()
    assert _no_child_is_left()
