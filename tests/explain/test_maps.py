"""Cells become maps of pixels."""

import numpy as np
import pytest

from vidcls.data.windows import Window
from vidcls.explain import maps


def test_smooth_cells_are_linear_between_their_centres():
    row = maps.resize(np.float32([[[0, 4]]]), (1, 1, 8), smooth=True)[0, 0]
    np.testing.assert_allclose(row, [0, 0, 0.5, 1.5, 2.5, 3.5, 4, 4])


def test_blocks_keep_their_edges():
    assert maps.resize(np.float32([[[1, 2, 3]]]), (2, 1, 7), smooth=False)[1, 0].tolist() == [1, 1, 2, 2, 2, 3, 3]


@pytest.mark.parametrize('smooth', [True, False])
def test_every_axis_is_resized_and_the_mean_stays(smooth):
    cells = np.random.default_rng(0).random((2, 3, 4)).astype(np.float32)
    resized = maps.resize(cells, (8, 15, 12), smooth)
    assert resized.shape == (8, 15, 12)
    assert resized.mean() == pytest.approx(cells.mean(), rel=1e-6)


def test_parts_are_added_without_what_speaks_against():
    cells = {'a': np.float32([[[-1, 2]]]), 'b': np.float32([[[3]]])}
    np.testing.assert_array_equal(maps.merged(cells, (1, 1, 2), False, False), [[[3, 5]]])
    np.testing.assert_array_equal(maps.merged(cells, (1, 1, 2), True, False), [[[5, 3]]])


def test_weights_are_shares_of_the_mass():
    def weights(values):
        explanation = maps.Explanation(
            '',
            'a',
            0.5,
            'gradcam',
            0,
            1,
            np.zeros((2, 4, 5, 3), np.uint8),
            Window(1, 2, 2, 3),
            np.arange(2.0),
            values,
            {},
            True,
        )
        assert explanation.seen.shape == (2, 2, 3, 3)
        return explanation.weights.tolist()

    assert weights(np.stack([np.full((2, 3), 1), np.full((2, 3), 3)])) == [0.25, 0.75]
    assert weights(np.zeros((2, 2, 3))) == [0, 0]
