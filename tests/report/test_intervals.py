"""Intervals against what can be counted by hand, against scipy's, and over groups."""

import numpy as np
import pytest
import scipy.stats

from vidcls.report import intervals


def test_two_clips_are_counted_by_hand():
    # The mean of two draws from {0, 1} is 0, 1/2, 1 with probability 1/4, 1/2, 1/4: both tails reach past 2.5 %.
    assert intervals.of_mean(np.array([0, 1]), intervals.each_clip(2)) == (0.0, 1.0)
    # The classes' means by the same draws: (0, 1), or one class alone.
    assert intervals.of_class_means(np.array([0, 1]), np.array([5, 9]), intervals.each_clip(2)) == (0.0, 1.0)


def test_a_mean_agrees_with_scipy():
    values = np.random.default_rng(3).random(400) < 0.7
    theirs = scipy.stats.bootstrap((values,), np.mean, n_resamples=4000, method='percentile', rng=1).confidence_interval
    ours = intervals.of_mean(values, intervals.each_clip(400), draws=4000)
    np.testing.assert_allclose(ours, theirs, atol=0.004)
    half = 1.96 * np.sqrt(values.mean() * (1 - values.mean()) / 400)
    np.testing.assert_allclose(ours, [values.mean() - half, values.mean() + half], atol=0.006)


def test_class_means_agree_with_scipy():
    rng = np.random.default_rng(4)
    labels = rng.choice(3, 300, p=[0.7, 0.2, 0.1])
    values = rng.random(300) < np.array([0.9, 0.5, 0.2])[labels]
    mean = lambda values, labels: np.mean([values[labels == k].mean() for k in range(3)])
    theirs = scipy.stats.bootstrap(
        (values, labels), mean, n_resamples=2000, method='percentile', paired=True, vectorized=False, rng=1
    ).confidence_interval
    np.testing.assert_allclose(intervals.of_class_means(values, labels, intervals.each_clip(300)), theirs, atol=0.01)


def test_groups_of_equal_clips_are_worth_one_clip_each():
    values = np.random.default_rng(5).random(100) < 0.6
    grouped = intervals.of_groups('film', np.repeat(np.arange(100) * 7, 9))
    assert grouped.count == 100
    # The same units are drawn with the same seed, and nine equal clips have the mean of one.
    np.testing.assert_allclose(
        intervals.of_mean(np.repeat(values, 9), grouped),
        intervals.of_mean(values, intervals.each_clip(100)),
        atol=1e-12,
    )
    clips = intervals.of_mean(np.repeat(values, 9), intervals.each_clip(900))
    assert clips.high - clips.low == pytest.approx(
        (
            intervals.of_mean(values, intervals.each_clip(100)).high
            - intervals.of_mean(values, intervals.each_clip(100)).low
        )
        / 3,
        rel=0.15,
    )


def test_pieces_change_nothing(monkeypatch):
    values, labels = np.arange(50) % 3 == 0, np.arange(50) % 4
    whole = intervals.of_class_means(values, labels, intervals.each_clip(50))
    monkeypatch.setattr(intervals, '_AT_ONCE', 50 * 7)
    assert intervals.of_class_means(values, labels, intervals.each_clip(50)) == pytest.approx(whole)


@pytest.fixture
def kinds(monkeypatch):
    """Collects, of each interval, how many units are of each kind that is drawn."""
    found, drawn = [], intervals._drawn
    monkeypatch.setattr(intervals, '_drawn', lambda count, *args: found.append(count.tolist()) or drawn(count, *args))
    return found


def test_equal_units_are_drawn_as_one_kind(kinds):
    """Recordings 0 and 3 have the same clips in another order; 1 differs from both in a value, and 2 in a class."""
    values, labels = np.array([1, 0, 0, 0, 1, 0, 0, 1]), np.array([5, 7, 5, 7, 7, 7, 7, 5])
    intervals.of_class_means(values, labels, intervals.of_groups('film', np.array([0, 0, 1, 1, 2, 2, 3, 3])))
    assert kinds == [[2, 1, 1]]


def test_many_clips_are_few_kinds(kinds):
    """Kinetics has 240,000 clips, of which 2,000 draws clip by clip would be 3.8 GB."""
    rng = np.random.default_rng(6)
    labels = rng.integers(400, size=60_000)
    values = rng.random(60_000) < 0.7
    low, high = intervals.of_class_means(values, labels, intervals.each_clip(60_000))
    assert len(kinds[0]) == 800 and sum(kinds[0]) == 60_000
    # Classes have about the same size, so the mean of their means deviates as the mean of all clips does.
    assert (high - low) / 2 == pytest.approx(1.96 * np.sqrt(0.7 * 0.3 / 60_000), rel=0.1)


def test_one_clip():
    assert intervals.of_mean(np.array([True]), intervals.each_clip(1)) == (1.0, 1.0)
