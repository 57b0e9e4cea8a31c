"""Video and image files that want memory, time, or other files: refused with a reason, or used as far as they go."""

import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from data_prep.convert import Options, convert
from data_prep.source import Clip, Source
from tests.made_videos import grey_levels, scenery, write_gif, write_video
from tests.security.confined import attack, check_refused
from vidcls.data import video
from vidcls.data.frame_storage import FrameStorage


def _patched(path: Path, name: bytes, behind: int, *values: int) -> Path:
    """Big-endian numbers into an MP4, `behind` bytes after a box's name."""
    data = bytearray(path.read_bytes())
    place = data.index(name) + 4 + behind
    data[place : place + 4 * len(values)] = struct.pack(f'>{len(values)}I', *values)
    path.write_bytes(data)
    return path


def _promising(frames: int) -> Callable[[Path], Path]:
    """An MP4 of 2 kB whose tables promise so many frames of one byte, all in one chunk, each of one tick."""

    def make(path: Path) -> Path:
        write_video(path, grey_levels([10, 20, 30, 40]))
        _patched(path, b'stsz', 4, 1, frames)
        _patched(path, b'stsc', 12, frames)
        return _patched(path, b'stts', 8, frames)

    return make


def _large_jpeg(path: Path) -> Path:
    """16,000 x 16,000 by its header."""
    data = simplejpeg.encode_jpeg(grey_levels([10])[0])
    place = data.index(b'\xff\xc0') + 5
    path.write_bytes(data[:place] + struct.pack('>HH', 16_000, 16_000) + data[place + 4 :])
    return path


def _large_png(path: Path) -> Path:
    head = b'\x89PNG\r\n\x1a\n' + struct.pack('>I4sIIBBBBB', 13, b'IHDR', 30_000, 30_000, 8, 2, 0, 0, 0)
    path.write_bytes(head + bytes(4) + struct.pack('>I4s', 0, b'IDAT') + bytes(4))
    return path


def _far_times(seconds: int) -> Callable[[Path], Path]:
    frames = grey_levels([10, 20, 30, 40])
    return lambda path: write_video(path, frames, codec='ffv1', times=[0, 1, 2, 10 * seconds])


def _long_pauses(path: Path) -> Path:
    """Each as long as is filled, 550 s, and a thousand of them: 13.7 million frames at 25 a second."""
    return write_video(path, grey_levels([10] * 1000, (16, 16)), codec='ffv1', times=range(0, 5_500_000, 5500))


def _text(content: str) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        secret = write_video(path.parent / 'secret.mp4', grey_levels([10, 20]))
        path.write_text(content.format(secret=secret))
        return path

    return make


def _socket(path: Path) -> Path:
    socket.socket(socket.AF_UNIX).bind(str(path))
    return path


def _pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def _linked(to: str) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        path.symlink_to(to)
        return path

    return make


HOSTILE = {
    'gif_of_256_megapixels.gif': lambda path: write_gif(path, (16_000, 16_000), 40),
    'gif_of_900_megapixels.gif': lambda path: write_gif(path, (30_000, 30_000), 40),
    'gif_of_a_long_line.gif': lambda path: write_gif(path, (1, 65_535), 40),
    'jpeg_of_256_megapixels.mp4': _large_jpeg,
    'png_of_900_megapixels.mp4': _large_png,
    'mp4_of_10_9_frames.mp4': _promising(10**9),
    'mp4_of_8_10_7_frames.mp4': _promising(8 * 10**7),
    'mp4_of_4_10_9_frames.mp4': _promising(4 * 10**9),
    'mkv_to_next_year.mkv': _far_times(10**9),
    'mkv_to_next_month.mkv': _far_times(5 * 10**6),
    'mkv_of_long_pauses.mkv': _long_pauses,
    'hls.mp4': _text('#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n'),
    'concat.mp4': _text('ffconcat version 1.0\nfile {secret}\n'),
    'sdp.mp4': _text('v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n'),
    'dash.mp4': _text(
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
        '<Representation id="0"><BaseURL>file://{secret}</BaseURL></Representation></AdaptationSet></Period></MPD>'
    ),
    'pipe.mp4': _pipe,
    'socket.mp4': _socket,
    'endless.mp4': _linked('/dev/zero'),
    'terminal.mp4': _linked('/dev/tty'),
    'loop.mp4': _linked('loop.mp4'),
}  # fmt: skip


def encode(path: Path) -> None:
    video.encode(path, fps=25)


def probe_then_read(path: Path) -> None:
    """As prediction does."""
    number = video.probe(path, fps=25).num_frames
    video.read_frames(path, np.linspace(0, number - 1, 8).astype(int), fps=25)


def encode_image(path: Path) -> None:
    video.encode_images([path])


@pytest.mark.parametrize('name', HOSTILE)
def test_hostile_videos(tmp_path, name):
    path = HOSTILE[name](tmp_path / name)
    for function in (encode, probe_then_read):
        outcome = attack(function, path)
        check_refused(outcome)
        assert outcome.message.startswith(f'{path}: ')


@pytest.mark.parametrize(
    'name', [name for name in HOSTILE if name.startswith(('gif', 'jpeg', 'png', 'pipe', 'socket', 'endless', 'loop'))]
)
def test_hostile_frames(tmp_path, name):
    path = HOSTILE[name](tmp_path / name)
    outcome = attack(encode_image, path)
    check_refused(outcome)
    assert outcome.message.startswith(f'{path}: ')


def test_an_avi_that_promises_much_is_used_for_what_it_has(tmp_path):
    """4 billion frames, 10^-9 a second."""
    path = write_video(tmp_path / 'a.avi', scenery(8, (64, 64)), codec='mpeg4')
    data = bytearray(path.read_bytes())
    place = data.index(b'strh') + 8
    data[place + 20 : place + 36] = struct.pack('<IIII', 2**30, 1, 0, 0xFFFFFFFF)  # scale, rate, start, length
    path.write_bytes(data)
    outcome = attack(video.encode, path)
    assert (outcome.error, outcome.status) == ('', 0) and outcome.seconds < 5
    info = video.probe(path)
    assert info.num_frames == 8 and info.damage.startswith('it ends after')


def convert_all(files: list[tuple[Path, bool]], out: Path) -> None:
    clips = [Clip(path.stem, 0, 'train', (path,), is_images) for path, is_images in files]
    source = Source('clips', 'Hostile ones.', ('x',), clips, {'train': ['train']})
    convert(source, out, Options(FrameStorage(fps=25.0), workers=2))


def test_a_conversion_names_them_all_and_goes_on(tmp_path):
    clips = tmp_path / 'clips'
    files = [(write_video(clips / 'whole.mp4', grey_levels([10, 20])), False), (_pipe(clips / 'frame.png'), True)]
    files += [(make(clips / name), False) for name, make in HOSTILE.items()]
    outcome = attack(convert_all, files, tmp_path / 'out')
    assert (outcome.error, outcome.status) == ('', 0), outcome
    rows = (tmp_path / 'out' / 'clips' / '1.0.0' / 'failures.tsv').read_text().splitlines()
    reasons = dict(row.split('\t') for row in rows)
    assert {Path(path).name for path in reasons} == {'frame.png', *HOSTILE}
    assert not [reason for reason in reasons.values() if reason.startswith(('internal', 'no progress', 'its worker'))]


@pytest.mark.parametrize('head', ['ffconcat version 1.0', '#EXTM3U\n#EXT-X-TARGETDURATION:1'])
def test_a_list_of_other_files_is_refused(tmp_path, head):
    os.mkfifo(tmp_path / 'pipe.mp4')  # whoever opened it would wait for ever
    path = tmp_path / 'list.mp4'
    path.write_text(f'{head}\nfile pipe.mp4\n')
    with pytest.raises(video.VideoError, match='a list of other files, not a video'):
        video.probe(path)
