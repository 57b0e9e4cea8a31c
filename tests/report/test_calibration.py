"""The calibration error of numbers that a hand can bin."""

import numpy as np
import pytest

from vidcls.report.calibration import calibration


def test_by_hand():
    # Bins of a fifth: (0.2, 0.4] has 0.3 and its upper edge 0.4; (0.8, 1] has 0.9 three times.
    found = calibration(np.array([0.3, 0.4, 0.9, 0.9, 0.9]), np.array([0, 1, 1, 1, 0]), bins=5)
    assert found.clips.tolist() == [0, 2, 0, 0, 3]
    np.testing.assert_allclose(found.confidence[[1, 4]], [0.35, 0.9])
    np.testing.assert_allclose(found.accuracy[[1, 4]], [0.5, 2 / 3])
    assert found.error == pytest.approx((2 * 0.15 + 3 * (0.9 - 2 / 3)) / 5)


def test_edges_lie_in_a_bin():
    found = calibration(np.array([0.0, 1 / 15, 1.0, np.float32(1.0000001)]), np.ones(4))
    assert found.clips[0] == 2 and found.clips[-1] == 2 and found.clips.sum() == 4


def test_no_clip_has_no_error():
    assert calibration(np.zeros(0), np.zeros(0)).error == 0
