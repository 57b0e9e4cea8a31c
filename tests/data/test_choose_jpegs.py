"""Chosen frames of a video, decoded once: the frames of probing and reading, and how many were decoded for them."""

import numpy as np
import pytest

from tests import made_videos
from vidcls.data import decoding, video


@pytest.fixture
def decoded(monkeypatch):
    """Collects an entry for each frame that is decoded."""
    frames = []
    original = decoding.DecodedFrames._decode

    def count(self, container):
        for frame in original(self, container):
            frames.append(frame.pts)
            yield frame

    monkeypatch.setattr(decoding.DecodedFrames, '_decode', count)
    return frames


def _thirds(num_frames: int, fps: float) -> np.ndarray:
    return np.array([num_frames - 1, 0, num_frames // 3, 0])


def _expected(path, fps):
    info = video.probe(path, fps=fps)
    return info, video.read_jpegs(path, _thirds(info.num_frames, info.fps), fps=fps)


def _assert_same(ours, expected):
    assert ours[0].decoded.tolist() == expected[0].decoded.tolist()
    assert (ours[0].fps, ours[0].damage) == (expected[0].fps, expected[0].damage)
    assert ours[1] == expected[1]


@pytest.mark.parametrize('fps', [None, 4.0, 25.0])
def test_every_frame_is_decoded_once(tmp_path, decoded, fps):
    # A pause in the middle, so that frames at a fixed rate are not every n-th.
    times = [*range(10), *range(20, 30)]
    path = made_videos.write_video(tmp_path / 'a.mp4', made_videos.scenery(20), times=times)
    expected = _expected(path, fps)
    decoded.clear()
    ours = video.choose_jpegs(path, _thirds, fps=fps)
    assert len(decoded) == 20
    _assert_same(ours, expected)


def test_packets_that_tell_something_else_cost_a_second_pass_and_no_more(tmp_path, decoded, monkeypatch):
    path = made_videos.write_video(tmp_path / 'a.mp4', made_videos.scenery(20))
    expected = _expected(path, 5.0)
    for likely in ([], [0, 19], [3, 10**9]):
        monkeypatch.setattr(video, '_likely', lambda *args, likely=likely: likely)
        decoded.clear()
        ours = video.choose_jpegs(path, _thirds, fps=5.0)
        assert len(decoded) <= 40
        _assert_same(ours, expected)


@pytest.mark.parametrize('fps', [None, 10.0])
def test_real_files_give_the_same_frames(shared_data, decoded, fps):
    tried = 0
    small = [path for path in sorted((shared_data / 'misc').iterdir()) if path.stat().st_size < 10**5]
    for path in [min((shared_data / 'hmdb51').rglob('*.avi')), *small]:
        try:
            expected = _expected(path, fps)
        except video.VideoError as error:
            with pytest.raises(video.VideoError) as ours:
                video.choose_jpegs(path, _thirds, fps=fps)
            assert str(ours.value) == str(error)
            continue
        decoded.clear()
        video.probe(path)
        once = len(decoded)
        _assert_same(video.choose_jpegs(path, _thirds, fps=fps), expected)
        # A damaged file may be read a second time; the AVIs of HMDB51 have a packet more than frames, and are not.
        assert len(decoded) == 2 * once or expected[0].damage, path
        tried += 1
    assert tried >= 6


def test_no_time_stamp_sizes_an_array(tmp_path):
    path = made_videos.write_video(tmp_path / 'a.mkv', made_videos.scenery(3), times=[0, 1, 200_000_000])
    assert video._likely(path, _thirds, 30.0) == []
