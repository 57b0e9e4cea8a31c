"""Decoding: order, times, colours, sizes, rotation, and files that are not whole."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import simplejpeg
from PIL import Image

from tests.made_videos import (
    grey_levels,
    scenery,
    turn_clockwise,
    write_gif,
    write_plane_levels,
    write_sound,
    write_video,
)
from vidcls.data import container, decoding, frame_jpeg, frame_times, live, video

LEVELS = (10, 40, 70, 100, 130, 160, 190, 220)


def levels(frames: np.ndarray) -> list[int]:
    """Which of LEVELS each plain frame shows."""
    return [LEVELS[np.abs(np.array(LEVELS) - f.mean()).argmin()] for f in frames]


def luma(rgb: np.ndarray) -> np.ndarray:
    return rgb @ np.array([0.299, 0.587, 0.114])


@pytest.fixture
def counted(tmp_path):
    return write_video(tmp_path / 'counted.mp4', grey_levels(LEVELS))


def test_probe_tells_frames_rate_and_size(counted):
    info = video.probe(counted)
    assert (info.num_frames, info.fps, info.height, info.width) == (8, 10.0, 32, 48)
    assert info.damage == ''


def test_chosen_frames_come_in_the_order_asked_for_with_repeats(counted):
    frames = video.read_frames(counted, [5, 0, 5, 7])
    assert frames.shape == (4, 32, 48, 3) and frames.dtype == np.uint8
    assert levels(frames) == [160, 10, 160, 220]


def test_chosen_frames_are_the_stored_ones_bit_for_bit(counted):
    _, jpegs = video.encode(counted)
    assert video.read_jpegs(counted, [7, 2]) == [jpegs[7], jpegs[2]]
    _, jpegs = video.encode(counted, fps=5)
    assert video.read_jpegs(counted, [3, 1], fps=5) == [jpegs[3], jpegs[1]]


def test_frames_that_are_not_wanted_are_not_converted(counted, monkeypatch):
    made = []
    encode = frame_jpeg.FrameEncoder.__call__
    monkeypatch.setattr(frame_jpeg.FrameEncoder, '__call__', lambda self, f: made.append(f.pts) or encode(self, f))
    video.probe(counted)
    video.read_frames(counted, [6, 1, 6])
    assert len(made) == 2


def test_a_frame_that_is_not_there_is_an_error(counted):
    with pytest.raises(video.VideoError, match='no frame 8, only 8'):
        video.read_frames(counted, [8])
    with pytest.raises(video.VideoError, match='no frame 4, only 4'):
        video.read_frames(counted, [4], fps=5)


def test_fps_takes_the_frame_on_screen(counted):
    # 8 frames at 10 a second last 0.8 s: at 5 a second that is 0, 0.2, 0.4 and 0.6 s.
    info = video.probe(counted, fps=5)
    assert (info.num_frames, info.fps) == (4, 5.0)
    assert levels(video.read_frames(counted, range(4), fps=5)) == [10, 70, 130, 190]
    # And at 20 every frame twice.
    assert video.probe(counted, fps=20).decoded.tolist() == sorted([*range(8)] * 2)


def test_resample_on_a_variable_time_line():
    times = np.array([0, 0.1, 0.2, 1.0, 1.1])
    # The mean rate is 4 / 1.1, so the last frame ends at 1.375 s: 0, 0.25 ... 1.25 s at 4 a second.
    assert frame_times.resample(times, 4 / 1.1, 4).tolist() == [0, 2, 2, 2, 3, 4]
    assert frame_times.resample(np.array([5.0]), 25, 1).tolist() == [0]
    # A Matroska clock in whole milliseconds: 1/30 s is written as 0.033, 2/30 as 0.067.
    assert frame_times.resample(np.array([0, 0.033, 0.067, 0.1]), 30, 30).tolist() == [0, 1, 2, 3]


def test_a_variable_rate_stores_every_frame_at_the_mean_rate(tmp_path):
    path = write_video(tmp_path / 'v.mp4', grey_levels(LEVELS[:5]), times=[0, 1, 2, 10, 11])
    info = video.probe(path)
    assert levels(video.read_frames(path, range(5))) == list(LEVELS[:5])
    assert info.fps == pytest.approx(4 / 1.1, rel=0.06)
    assert video.probe(path, fps=10).decoded.tolist()[:12] == [0, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 4]


def test_frame_times():
    # AVIs with packed B-frames number the frames 1, 4, 3, 5 though they come in order.
    times, rate = frame_times.frame_times([1 / 30, 4 / 30, 3 / 30, 5 / 30], 30.0)
    np.testing.assert_allclose(times * 30, [1, 3, 4, 5])
    assert rate == pytest.approx(3 / (4 / 30))  # 22.5: more than 5 % off 30
    assert frame_times.frame_times([0, 0.04, 0.08, 0.121], 25.0)[1] == 25.0
    assert frame_times.frame_times([None, None, None], 10.0)[0].tolist() == pytest.approx([0, 0.1, 0.2])
    assert frame_times.frame_times([3.0], None)[1] == frame_times.IMAGE_FPS


# Y, Cb and Cr of pure red, green and blue: ITU-R BT.601-7 and BT.709-6, item 3.5 and following.
@pytest.mark.parametrize(
    ('matrix', 'value_range', 'planes'),
    [
        (2, 0, ((81, 90, 240), (145, 54, 34), (41, 240, 110))),  # untagged: BT.601, limited
        (6, 1, ((81, 90, 240), (145, 54, 34), (41, 240, 110))),
        (5, 2, ((76, 85, 255), (150, 44, 21), (29, 255, 107))),  # BT.601, full range
        (1, 1, ((63, 102, 240), (173, 42, 26), (32, 240, 118))),  # BT.709, limited
        (1, 2, ((54, 99, 255), (182, 30, 12), (18, 255, 116))),  # BT.709, full range
    ],
)
def test_colours(tmp_path, matrix, value_range, planes):
    for colour, yuv in enumerate(planes):
        path = write_plane_levels(tmp_path / 'c.mp4', yuv, matrix=matrix, value_range=value_range)
        expected = np.eye(3)[colour] * 255
        assert np.abs(video.read_frames(path, [1])[0] - expected).max() <= 4


@pytest.mark.parametrize(
    ('codec', 'pixels', 'scale'),
    [('libx265', 'yuv420p', 1), ('libx264', 'yuv420p10le', 4), ('libsvtav1', 'yuv420p', 1)],
)
def test_hevc_ten_bits_and_av1(tmp_path, codec, pixels, scale):
    yuv = (145 * scale, 54 * scale, 34 * scale)
    path = write_plane_levels(tmp_path / 'c.mkv', yuv, codec=codec, pixels=pixels, size=(64, 64))
    assert video.probe(path).num_frames == 3
    assert np.abs(video.read_frames(path, [2])[0] - np.array([0, 255, 0])).max() <= 4


@pytest.mark.parametrize(
    ('size', 'stored'),
    [
        ((480, 640), (256, 341)),
        ((640, 480), (341, 256)),
        ((50, 50), (50, 50)),
        ((33, 47), (33, 47)),
        ((301, 517), (256, 440)),
    ],
)
def test_sizes(tmp_path, size, stored):
    picture = scenery(1, size)
    path = write_video(tmp_path / 's.mkv', picture, codec='ffv1')
    frame = video.read_frames(path, [0], short_side=256)[0]
    assert frame.shape == (*stored, 3)
    expected = cv2.resize(picture[0], stored[::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(luma(frame) - luma(expected)).mean() < 1


def test_an_odd_size_is_encoded_from_its_own_pixels(tmp_path):
    """libjpeg-turbo reads past an odd row; what lies there must not depend on the memory's past."""
    path = write_video(tmp_path / 'o.mkv', scenery(2, (33, 47)), codec='ffv1')
    assert video.encode(path)[1] == video.encode(path)[1]
    frame = simplejpeg.decode_jpeg(video.encode(path)[1][0])
    clean = scenery(2, (33, 47))[0]
    assert np.abs(luma(frame[-1]) - luma(clean[-1])).mean() < 1
    assert np.abs(luma(frame[:, -1]) - luma(clean[:, -1])).mean() < 1


def test_rotation_is_applied(tmp_path):
    picture = scenery(1, (48, 64))
    path = turn_clockwise(write_video(tmp_path / 'r.mp4', picture))
    info = video.probe(path)
    assert (info.height, info.width) == (64, 48)
    upright = np.rot90(picture[0], k=-1)
    assert np.abs(video.read_frames(path, [0])[0].astype(int) - upright).mean() < 1.5


def test_frames_that_change_size_are_resized_to_the_first(tmp_path):
    pictures = [grey_levels([50], (48, 64))[0], grey_levels([200], (96, 128))[0]]
    jpegs = [simplejpeg.encode_jpeg(p, quality=95, colorsubsampling='420') for p in pictures]
    path = tmp_path / 'sizes.mjpeg'
    path.write_bytes(b''.join(jpegs))
    frames = video.read_frames(path, [0, 1])
    assert frames.shape == (2, 48, 64, 3)
    assert frames.mean(axis=(1, 2, 3)).round().tolist() == [50, 200]


def test_a_cut_file_is_used_as_far_as_it_goes(tmp_path):
    whole = write_video(tmp_path / 'w.avi', scenery(40, (96, 128)), codec='mpeg4')
    cut = tmp_path / 'cut.avi'
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    info, jpegs = video.encode(cut)
    assert 10 <= info.num_frames <= 25
    assert info.damage.startswith('it ends after')
    assert jpegs[:4] == video.encode(whole)[1][:4]


def _write(path, data: bytes):
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ('make', 'reason'),
    [
        (lambda p: _write(p, b''), 'an empty file'),
        (lambda p: _write(p, b'version https://git-lfs.github.com/spec/v1\n'), 'Invalid data'),
        (write_sound, 'no video stream'),
        (lambda p: p, 'no such file'),
        (lambda p: p.mkdir() or p, 'Is a directory'),
    ],
)
def test_what_cannot_be_read_is_named_with_the_reason(tmp_path, make, reason):
    path = make(tmp_path / 'clip.avi')
    for read in (video.probe, video.encode, lambda p: video.read_frames(p, [0])):
        with pytest.raises(video.VideoError, match=f'{re.escape(str(path))}: {reason}'):
            read(path)


READERS = (video.probe, video.encode, lambda p: video.read_frames(p, [0]), lambda p: video.encode_images([p]))


def _without_codec(path: Path) -> Path:
    write_video(path, scenery(3), codec='mpeg4')
    return _write(path, path.read_bytes().replace(b'FMP4', b'ZZZZ'))


def _without_pictures(path: Path) -> Path:
    write_video(path, grey_levels(LEVELS), codec='mpeg4')
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    data = path.read_bytes()
    for packet in packets:
        data = data.replace(packet, bytes(len(packet)))
    return _write(path, data)


@pytest.mark.parametrize(
    ('make', 'reason'),
    [
        (_without_codec, 'the codec of its video stream is unknown to FFmpeg'),
        (_without_pictures, 'no frame can be decoded'),
        (lambda p: write_gif(p, (16_000, 16_000), 40), 'no frame can be decoded: .* more than 67,108,864 pixels'),
        (lambda p: write_gif(p, (1, 65_501), 2), 'its frames have 65501 x 1 pixels; .* a side of 65,500'),
        (lambda p: os.mkfifo(p) or p, 'not a file but a pipe'),
        (lambda p: p.symlink_to('/dev/zero') or p, 'not a file but a pipe, a socket or a device'),
        (lambda p: p.symlink_to(p) or p, 'Too many levels of symbolic links'),
    ],
)
def test_hostile_files_are_named_with_the_reason(tmp_path, make, reason):
    path = make(tmp_path / 'clip.avi')
    for read in READERS:
        with pytest.raises(video.VideoError, match=f'{re.escape(str(path))}: {reason}'):
            read(path)


def test_the_size_that_a_header_states_is_checked_first(counted, monkeypatch):
    monkeypatch.setattr(container, 'MAX_PIXELS', 32 * 48 - 1)
    for read in READERS:
        with pytest.raises(video.VideoError, match='its frames have 48 x 32 pixels; at most 1,535'):
            read(counted)


def test_a_picture_that_grows_ends_what_is_used(tmp_path, monkeypatch):
    monkeypatch.setattr(container, 'MAX_PIXELS', 48 * 64)
    jpegs = [simplejpeg.encode_jpeg(grey_levels([50], size)[0]) for size in ((48, 64), (48, 64), (96, 128))]
    info = video.probe(_write(tmp_path / 'sizes.mjpeg', b''.join(jpegs)))
    assert info.num_frames == 2 and info.damage.startswith('2 frames, then ')


@pytest.mark.parametrize('ticks', [10**10, 5 * 10**7, 6010])
def test_a_time_stamp_far_away(tmp_path, ticks):
    """A tenth of a second is a tick: at 25 a second 10^10 of them want 200 GB of frame numbers."""
    path = write_video(tmp_path / 'v.mkv', grey_levels(LEVELS[:4]), codec='ffv1', times=[0, 1, 2, ticks])
    with pytest.raises(video.VideoError, match=f'frame 3 comes {(ticks - 2) / 10:,.0f} s after .* at most 600 s'):
        video.probe(path, fps=25)
    info = video.probe(path)
    assert (info.num_frames, info.fps) == (4, 10.0)


def test_a_long_pause_is_filled(tmp_path):
    path = write_video(tmp_path / 'v.mkv', grey_levels(LEVELS[:4]), codec='ffv1', times=[0, 1, 2, 5902])
    decoded = video.probe(path, fps=2).decoded
    assert decoded.tolist() == [0] + [2] * 1180 + [3] * 393  # the last stays for the mean gap, 590.2 / 3 s


def test_more_frames_than_a_clip_holds(counted):
    # 0.8 s; 2^30 bytes hold 1.8 million JPEGs, were each nothing but its tables.
    with pytest.raises(video.VideoError, match='at 1e.07 frames a second it has 8,000,000, .* at most 1,789,569'):
        video.encode(counted, fps=1e7)


def test_what_nobody_foresaw_names_the_file_and_the_place(counted, monkeypatch):
    def broken(*_):
        raise KeyError('no such\nthing')

    monkeypatch.setattr(frame_jpeg.FrameEncoder, '__init__', broken)
    reason = r"internal error: KeyError at test_video.py:\d+: 'no such\\nthing'"
    for read in (*READERS, lambda p: list(live.watch(str(p)))):
        with pytest.raises(video.VideoError, match=f'{re.escape(str(counted))}: {reason}') as raised:
            read(counted)
        assert isinstance(raised.value.__cause__, KeyError)


def test_each_frame_is_reported(counted, monkeypatch):
    seen = []
    monkeypatch.setattr(decoding, '_report_frame', lambda: seen.append(1))
    video.encode(counted, fps=5)
    assert len(seen) == 8 + 7  # counted to the end, then decoded up to the last that is stored


def test_a_clip_too_large_for_a_record_is_refused(counted, monkeypatch):
    monkeypatch.setattr(video, 'MAX_CLIP_BYTES', 1000)
    with pytest.raises(video.VideoError, match='limit of one clip'):
        video.encode(counted)


@pytest.mark.parametrize('name', ['-dash.mp4', 'two words.mp4', 'файл 视频.mp4', 'a:b.mp4', '%d.mp4', b'\xff\xe9.mp4'])
def test_names(tmp_path, monkeypatch, name):

    monkeypatch.chdir(tmp_path)
    made = write_video(tmp_path / 'plain.mp4', grey_levels(LEVELS[:2]))
    path = Path(os.fsdecode(name))
    made.rename(path)
    assert video.probe(path).num_frames == 2


def test_metadata_that_is_not_utf8(tmp_path):
    path = write_video(tmp_path / 'm.mkv', grey_levels(LEVELS[:2]), codec='ffv1')
    data = path.read_bytes()
    assert b'Lavf' in data
    path.write_bytes(data.replace(b'Lavf', b'L\xff\xe9f'))
    assert video.probe(path).num_frames == 2


def test_frame_images(tmp_path):
    picture = scenery(1, (50, 61))[0]
    for ending in ('png', 'bmp', 'webp', 'tif', 'jpg'):
        Image.fromarray(picture).save(tmp_path / f'i.{ending}', quality=100, lossless=True)
        height, width, (jpeg,) = video.encode_images([tmp_path / f'i.{ending}'])
        assert (height, width) == (50, 61)
        stored = np.asarray(Image.open(io.BytesIO(jpeg)))
        assert np.abs(luma(stored) - luma(picture)).mean() < 1
        assert np.abs(stored.astype(int) - picture).mean() < 3
    Image.new('L', (32, 32), 77).save(tmp_path / 'grey.png')
    jpeg = video.encode_images([tmp_path / 'grey.png'])[2][0]
    assert np.abs(simplejpeg.decode_jpeg(jpeg).astype(int) - 77).max() <= 1
    (tmp_path / 'bad.png').write_text('not a picture')
    with pytest.raises(video.VideoError, match='bad.png: '):
        video.encode_images([tmp_path / 'grey.png', tmp_path / 'bad.png'])


# What each real file comes to: frames, frames per second, height and width as stored.
REAL = {
    'decord_unordered.mov': (4, 32.0, 50, 50),
    'decord_video_0.mov': (3, 30.0, 256, 454),
    'decord_video_90.mov': (3, 30.0, 454, 256),
    'decord_video_180.mov': (3, 30.0, 256, 454),
    'derived_one_frame.mp4': (1, 25.0, 240, 320),
    'derived_three_frames.mp4': (3, 25.0, 240, 320),
    'derived_vertical.mp4': (48, 25.0, 320, 240),
    'ntu_S001C001P001R001A001_rgb.avi': (103, 30.0, 256, 455),
    'torchcodec_av1_video.mkv': (125, 25.0, 256, 455),
    'torchcodec_h265_video.mp4': (10, 10.0, 128, 128),
    'vggsound_v_GGSY1Qvo990.mp4': (355, 19.62, 240, 320),
    'ava_Gt61_Yekkgc_1146.avi': (75, 24.944, 256, 455),  # says 30, but drops frames
    '../hmdb51/cartwheel/Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi': (
        83,
        30.0,
        240,
        320,
    ),
}


@pytest.mark.parametrize('name', REAL)
def test_real_files(shared_data, name):
    info = video.probe(shared_data / 'misc' / name)
    assert (info.num_frames, info.height, info.width) == (REAL[name][0], *REAL[name][2:])
    assert info.fps == pytest.approx(REAL[name][1], abs=1e-3)
    assert info.damage == ''


@pytest.mark.parametrize(
    ('name', 'frames', 'damage'),
    [
        ('decord_corrupted.mp4', 28, '28 frames, then Invalid data'),
        ('derived_truncated_half.avi', 56, 'it ends after 2.24 s of the 4.32 s'),
    ],
)
def test_real_damage(shared_data, name, frames, damage):
    info, jpegs = video.encode(shared_data / 'misc' / name)
    assert (info.num_frames, len(jpegs)) == (frames, frames)
    assert info.damage.startswith(damage)


def test_a_real_frame_has_the_colours_of_another_decoder(shared_data):
    path = shared_data / 'misc' / 'paddlevideo_example.avi'
    reader = cv2.VideoCapture(str(path))
    other = [reader.read()[1][:, :, ::-1] for _ in range(131)]
    frames = video.read_frames(path, [0, 64, 130])
    for frame, number in zip(frames, [0, 64, 130]):
        assert np.abs(frame.astype(int) - other[number]).mean() < 2


def test_real_frames_are_in_the_order_of_presentation(shared_data):
    """HMDB51's clocks run 1, 4, 3, 5; in that order a clip would jump back and forth."""
    path = next((shared_data / 'hmdb51' / 'cartwheel').glob('*.avi'))
    frames = video.read_frames(path, range(12)).astype(int)
    near = np.abs(np.diff(frames, axis=0)).mean()
    swapped = np.abs(np.diff(frames[[0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 11]], axis=0)).mean()
    assert near < 0.8 * swapped


def test_neither_tensorflow_nor_jax_is_imported():
    """A worker process starts in a fraction of a second, and prediction needs no TensorFlow."""
    code = 'import sys, vidcls.data.video, data_prep.example; sys.exit(bool({"tensorflow", "jax"} & set(sys.modules)))'
    assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0
