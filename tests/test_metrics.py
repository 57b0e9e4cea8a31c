"""Scores counted by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from vidcls import metrics


def test_cross_entropy_by_hand():
    logits = jnp.log(jnp.array([[0.5, 0.25, 0.25]]))
    second = jnp.array([[0.0, 1.0, 0.0]])
    assert metrics.cross_entropy(logits, second)[0] == pytest.approx(np.log(4), rel=1e-6)
    spread = jnp.array([[0.1, 0.8, 0.1]])
    expected = 0.1 * np.log(2) + 0.8 * np.log(4) + 0.1 * np.log(4)
    assert metrics.cross_entropy(logits, spread)[0] == pytest.approx(expected, rel=1e-6)


def test_top_k_gives_nothing_for_ties_and_nan():
    scores = jnp.array([[3.0, 2.0, 1.0], [1.0, 1.0, 0.0], [jnp.nan, 0.0, 1.0], [0.0, jnp.nan, 1.0]])
    labels = jnp.array([1, 0, 0, 2])
    assert metrics.in_top_k(scores, labels, 1).tolist() == [False, False, False, False]
    assert metrics.in_top_k(scores, labels, 2).tolist() == [True, True, False, False]


def test_scores_of_two_views():
    # Three videos of classes 0, 0, 1; two views each. Probabilities, the first class's: 0.8 0.7 | 0.9 0.2 | 0.6 0.7.
    first = np.array([[0.8, 0.7], [0.9, 0.2], [0.6, 0.7]])
    logits = np.log(np.stack([first, 1 - first], axis=-1)).astype(np.float32)
    scores = metrics.summarize(logits, np.array([0, 0, 1]))
    assert scores['top1'] == pytest.approx(2 / 3)  # means 0.75, 0.55, 0.65
    assert scores['clip_top1'] == pytest.approx(3 / 6)
    assert scores['mean_class_accuracy'] == pytest.approx((1 + 0) / 2)
    assert not {'top5', 'clip_top5'} & set(scores)  # of two classes both are among the five best
    assert metrics.hits_by_class(logits, np.array([0, 0, 1])) == {0: (2, 2), 1: (0, 1)}
    assert scores['loss'] == pytest.approx(-np.log([0.75, 0.55, 0.35]).mean(), rel=1e-5)
    assert scores['num_videos'] == 3
    assert scores['num_classes_present'] == 2


def test_top_5_is_measured_from_six_classes_on():
    assert [metrics.ranks(count) for count in (2, 5, 6, 400)] == [(1,), (1,), (1, 5), (1, 5)]
    # One video, label 0 is the sixth of six, then the fifth.
    logits = np.array([[[0, 5, 4, 3, 2, 1]], [[1, 5, 4, 3, 2, 0]]], np.float32)
    scores = metrics.summarize(logits, np.array([0, 0]))
    assert (scores['top1'], scores['top5'], scores['clip_top5']) == (0, 0.5, 0.5)
    five = metrics.summarize(logits[:, :, :5], np.array([0, 0]))
    assert 'top1' in five and 'top5' not in five


def test_a_video_with_a_logit_that_is_no_number_is_wrong():
    logits = np.array([[[2, 0], [2, 0]], [[2, 0], [np.nan, 0]]], np.float32)
    scores = metrics.summarize(logits, np.array([0, 0]))
    assert scores['top1'] == 0.5
    assert np.isnan(scores['loss'])
