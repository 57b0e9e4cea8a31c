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


def test_one_clip():
    assert intervals.of_mean(np.array([True]), intervals.each_clip(1)) == (1.0, 1.0)
