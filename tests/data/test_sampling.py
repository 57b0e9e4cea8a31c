"""Exact frame numbers, worked out by hand."""

import numpy as np
import pytest

from vidcls.config import SamplingConfig
from vidcls.data import sampling
from vidcls.data.sampling import Sampler
from vidcls.errors import UserError


def test_segments_centre():
    # tick = 12 / 3 = 4: centres at 2, 6, 10.
    assert sampling.segments(12, 3, 1, 0.5).tolist() == [2, 6, 10]
    # tsn-pytorch's int(tick / 2 + tick * i), tick = 100 / 7 = 14.28...
    assert sampling.segments(100, 7, 1, 0.5).tolist() == [int(100 / 7 / 2 + 100 / 7 * i) for i in range(7)]


def test_segments_take_consecutive_frames():
    # tick = (11 - 2 + 1) / 2 = 5: snippets at 2 and 7 (2.5 and 7.5, cut off).
    assert sampling.segments(11, 2, 2, 0.5).tolist() == [2, 3, 7, 8]
    # The last place of the last segment ends with the video's last frame.
    assert sampling.segments(11, 2, 2, 0.999).tolist() == [4, 5, 9, 10]


def test_random_segments_stay_in_theirs_and_reach_every_frame():
    sampler = Sampler(SamplingConfig(num_segments=3), training=True)
    draws = np.stack([sampler.draw(10, 25.0, np.random.default_rng(seed)) for seed in range(300)])
    # tick = 10 / 3: segments [0, 3.33), [3.33, 6.67), [6.67, 10).
    assert [sorted(set(column)) for column in draws.T.tolist()] == [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]


@pytest.mark.parametrize(('num_frames', 'expected'), [(1, [0, 0, 0, 0]), (2, [0, 0, 1, 1]), (3, [0, 1, 1, 2])])
def test_segments_of_a_short_video_repeat_frames_in_order(num_frames, expected):
    assert sampling.segments(num_frames, 4, 1, 0.5).tolist() == expected


def test_a_snippet_longer_than_the_video_repeats_its_last_frame():
    assert sampling.segments(2, 2, 3, 0.5).tolist() == [0, 1, 1, 0, 1, 1]


def test_dense_centre_and_views():
    sampler = Sampler(SamplingConfig(scheme='dense', num_segments=4, sampling_rate=2), training=False)
    # Span of 7 frames in 20: free = 13, centre starts at 6.5.
    assert sampler.view(20, 25.0).tolist() == [6, 8, 10, 12]
    views = [sampler.view(20, 25.0, view, 3).tolist() for view in range(3)]
    assert views == [[0, 2, 4, 6], [6, 8, 10, 12], [13, 15, 17, 19]]


def test_dense_draws_every_start():
    sampler = Sampler(SamplingConfig(scheme='dense', num_segments=3, sampling_rate=2), training=True)
    starts = {tuple(sampler.draw(8, 25.0, np.random.default_rng(seed))) for seed in range(200)}
    assert starts == {(0, 2, 4), (1, 3, 5), (2, 4, 6), (3, 5, 7)}


def test_dense_on_a_short_video_repeats_the_last_frame():
    sampler = Sampler(SamplingConfig(scheme='dense', num_segments=4, sampling_rate=2), training=True)
    assert sampler.draw(5, 25.0, np.random.default_rng(0)).tolist() == [0, 2, 4, 4]


def test_linspace_from_the_start_is_timesformers_own_test():
    """datasets/decoder.py: start = delta * clip_idx / num_clips, linspace(start, start + clip_size - 1), cut off."""
    config = SamplingConfig(scheme='linspace', num_segments=8, sampling_rate=32, view_offset='start')
    sampler = Sampler(config, training=False)
    # 300 frames at 30 fps: clip_size 256, delta 44, steps of 255 / 7.
    assert sampler.view(300, 30.0).tolist() == [0, 36, 72, 109, 145, 182, 218, 255]
    assert sampler.view(300, 30.0, 1, 2).tolist() == [22, 58, 94, 131, 167, 204, 240, 277]
    # The last of three starts at 44 * 2 / 3 = 29.33 and stops short of the end.
    assert sampler.view(300, 30.0, 2, 3).tolist() == [29, 65, 102, 138, 175, 211, 247, 284]
    # 25 fps: clip_size 213.33, steps of 212.33 / 7.
    assert sampler.view(250, 25.0).tolist() == [0, 30, 60, 91, 121, 151, 182, 212]
    assert sampler.view(100, 30.0).tolist() == [0, 36, 72, 99, 99, 99, 99, 99]


def test_dense_from_the_start():
    sampler = Sampler(SamplingConfig('dense', 4, sampling_rate=2, view_offset='start'), training=False)
    assert [sampler.view(20, 25.0, view, 2).tolist() for view in range(2)] == [[0, 2, 4, 6], [6, 8, 10, 12]]


def test_a_place_that_is_a_whole_number_is_that_frame():
    # The last of 96 frames 4 apart is 0 + 383, and 383 / 95 * 95 in floating point is less than that.
    config = SamplingConfig(scheme='linspace', num_segments=96, sampling_rate=4, view_offset='start')
    assert Sampler(config, training=False).view(500, 30.0)[[0, -1]].tolist() == [0, 383]
    # The middle of 122 frames, likewise.
    assert sampling.segments(122, 7, 1, 0.5)[3] == 61


def test_linspace_is_the_timesformer_reader():
    sampler = Sampler(SamplingConfig(scheme='linspace', num_segments=8, sampling_rate=32), training=False)
    # 300 frames at 30 fps: a span of 8 * 32 = 256, free 44, the centre from 22 to 22 + 255.
    expected = np.linspace(22, 22 + 255, 8).astype(int)
    assert sampler.view(300, 30.0).tolist() == expected.tolist()
    # At 15 fps the same seconds are half as many frames.
    assert sampler.view(150, 15.0, 0, 2).tolist() == np.linspace(0, 127, 8).astype(int).tolist()
    assert sampler.view(150, 15.0, 1, 2)[-1] == 149  # the last view reaches the end
    # A video shorter than the span: from its start, the last frame repeated.
    assert sampler.view(100, 30.0).tolist() == [0, 36, 72, 99, 99, 99, 99, 99]


def test_testing_has_its_own_number_of_segments():
    config = SamplingConfig(num_segments=3, test_segments=7, seg_len=2)
    assert Sampler(config, training=True).num_frames == 6
    assert Sampler(config, training=False).num_frames == 14
    assert Sampler(SamplingConfig(num_segments=3), training=False).num_frames == 3


class _First:
    """The first frames of a clip, in training and testing."""

    def __init__(self, config):
        self._count = config.num_frames

    def draw(self, num_frames, fps, rng):
        return np.minimum(np.arange(self._count), num_frames - 1)

    def view(self, num_frames, fps, view, views):
        return self.draw(num_frames, fps, None)


def test_a_scheme_of_ones_own(monkeypatch):
    monkeypatch.setitem(sampling.SCHEMES, 'first', _First)
    config = SamplingConfig(scheme='first', num_segments=3, test_segments=2, seg_len=2)
    rng = np.random.default_rng(0)
    assert Sampler(config, training=True).draw(5, 25.0, rng).tolist() == [0, 1, 2, 3, 4, 4]
    assert Sampler(config, training=False).view(3, 25.0).tolist() == [0, 1, 2, 2]


def test_an_unknown_scheme_is_refused_with_the_known_ones():
    expected = r"--config.sampling.scheme='denss': must be one of segments, dense, linspace \(did you mean dense\?\)"
    with pytest.raises(UserError, match=expected):
        Sampler(SamplingConfig(scheme='denss'), training=True)
