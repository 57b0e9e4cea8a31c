"""Flow of made clips whose motion is known, its 8 bits against the published formula, and frames of every size."""

import sys

import cv2
import numpy as np
import pytest

from tests.made_videos import grey_levels, moving
from vidcls.data import flow
from vidcls.data.flow import FlowSettings
from vidcls.errors import UserError

DIS = [FlowSettings('dis', preset) for preset in flow.PRESETS]
TVL1 = [FlowSettings('tvl1')] if hasattr(cv2, 'optflow') else []  # of OpenCV's contrib build
ALL = [*DIS, FlowSettings('farneback'), *TVL1]
FAST = FlowSettings()


def pixels(quantised: np.ndarray, bound: float = flow.BOUND) -> np.ndarray:
    """8 bits -> pixels a frame."""
    return quantised.astype(float) * 2 * bound / 255 - bound


@pytest.mark.parametrize('settings', ALL, ids=str)
def test_a_known_motion_is_found(settings):
    found = pixels(flow.compute(moving((3, -2), 4), settings))
    assert found.shape == (4, 96, 128, 2)
    assert np.abs(found[:, 16:-16, 16:-16] - (3, -2)).max() < 0.3


def test_each_flow_leads_to_the_next_frame_and_the_last_pair_is_repeated():
    first, second = moving((3, -2), 4), moving((-4, 1), 3)
    turning = np.concatenate([first, second[:, ::-1]])  # a cut lies between the two
    found = flow.compute(turning, FAST)
    inner = pixels(found)[:, 16:-16, 16:-16].mean((1, 2))
    np.testing.assert_allclose(inner[:3], [(3, -2)] * 3, atol=0.15)
    np.testing.assert_allclose(inner[4:], [(-4, -1)] * 3, atol=0.15)
    assert (found[6] == found[5]).all() and (found[6] != found[4]).any()
    assert (found[:3] == flow.compute(first, FAST)[:3]).all()  # the cut reaches no other pair


@pytest.mark.parametrize('settings', ALL, ids=str)
def test_no_motion_is_128(settings):
    # Farneback's flow of a still texture is 1e-8 pixels to either side of 0, where 127 and 128 meet.
    least = 127 if settings.algorithm == 'farneback' else 128
    for frames in (moving((0, 0), 3), moving((3, -2), 1), grey_levels([90, 90])):
        found = flow.compute(frames, settings)
        assert found.min() >= least and found.max() == 128


def test_eight_bits_are_those_of_denseflow():
    rng = np.random.default_rng(0)
    motion = np.concatenate([[0, 20, -20, 20.1, -20.1, 400, -400, 0.07, -0.07, 0.08, -0.08], rng.normal(0, 12, 9_999)])
    motion = motion.astype(np.float32)
    for bound in (20.0, 32.0, 7.5):
        # Python's `round` rounds half to even.
        expected = [
            255 if v > bound else 0 if v < -bound else round(255 * (v + bound) / (2 * bound)) for v in motion.tolist()
        ]
        found = flow.quantise(
            motion.reshape(-1, 1, 2) if len(motion) % 2 == 0 else motion[:-1].reshape(-1, 1, 2), bound
        )
        assert found.dtype == np.uint8
        assert found.ravel().tolist() == expected[: found.size]


def test_the_bound_scales_the_range():
    clip = moving((3, -2), 2)
    found = flow.compute(clip, FlowSettings(bound=4.0))
    np.testing.assert_allclose(pixels(found, 4.0)[:, 16:-16, 16:-16].mean((0, 1, 2)), (3, -2), atol=0.1)
    cut_off = flow.compute(clip, FlowSettings(bound=1.0))[:, 16:-16, 16:-16]
    assert (cut_off == (255, 0)).all()


@pytest.mark.parametrize('settings', ALL, ids=str)
@pytest.mark.parametrize('size', [(1, 1), (2, 7), (11, 11), (1, 300), (300, 1), (8, 200), (16, 300), (40, 90)], ids=str)
def test_frames_of_every_size_have_a_flow(settings, size):
    rng = np.random.default_rng(0)
    found = flow.compute(rng.integers(0, 256, (3, *size, 3), np.uint8), settings)
    assert found.shape == (3, *size, 2) and found.dtype == np.uint8


def test_the_motion_of_a_wide_clip_is_found():
    found = pixels(flow.compute(moving((3, -2), 2, (48, 160)), FAST))[:, 16:-16, 16:-16]
    assert np.abs(found - (3, -2)).max() < 0.3


def test_threads_change_nothing():
    clip, threads = moving((3, -2), 3), cv2.getNumThreads()
    found = []
    for number in (1, 4):
        cv2.setNumThreads(number)
        found.append(flow.compute(clip, FAST))
    cv2.setNumThreads(threads)
    assert (found[0] == found[1]).all()


def test_dis_has_a_default_preset_and_others_have_none():
    assert FlowSettings() == FlowSettings('dis', 'fast', 20.0) == FlowSettings('dis', '')
    assert FlowSettings('tvl1').preset == ''


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        (('brox',), "flow algorithm 'brox': must be one of dis, farneback, tvl1"),
        (('dis', 'slow'), "flow preset 'slow': must be one of ultrafast, fast, medium with dis"),
        (('farneback', 'fast'), "flow preset 'fast'"),
        (('dis', 'fast', 0.0), 'flow bound 0.0: must be more than 0'),
        (('dis', 'fast', float('nan')), 'flow bound nan'),
        (('dis', 'fast', '20'), "flow bound '20'"),
        ((['dis'],), 'flow algorithm'),
    ],
)
def test_settings_that_do_not_exist(values, message):
    with pytest.raises(UserError, match=message):
        FlowSettings(*values)


def test_what_is_not_installed_is_said_with_the_remedy(monkeypatch):
    if not hasattr(cv2, 'optflow'):
        with pytest.raises(UserError, match='pip install opencv-contrib-python-headless'):
            flow.check_installed(FlowSettings('tvl1'))
    monkeypatch.setitem(sys.modules, 'cv2', None)
    with pytest.raises(UserError, match=r"pip install 'vidcls\[flow\]'"):
        flow.compute(moving((3, -2), 2), FAST)
