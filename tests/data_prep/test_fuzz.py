"""Damaged files by the hundred: each is converted or named, and what is converted can be read.

VIDCLS_FUZZ_SEED draws others. With the real clips beside the checkout these are damaged too.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from data_prep import folder
from data_prep.convert import Options, convert
from tests.conftest import SHARED_DATA
from tests.made_videos import grey_levels, scenery, write_gif, write_video
from vidcls.data import dataset, video
from vidcls.data.frame_storage import FrameStorage

SEED = int(os.environ.get('VIDCLS_FUZZ_SEED', '17'))
LARGEST = 1_500_000  # bytes of a real file
# Boxes, chunks and elements that say how much of what there is.
NAMES = re.compile(
    b'ftyp|moov|mvhd|trak|tkhd|edts|elst|mdia|mdhd|hdlr|stbl|stsd|stts|ctts|stsc|stsz|stco|avcC|mdat'
    b'|RIFF|avih|strh|strf|idx1|movi|00dc|LIST|JUNK|\x1a\x45\xdf\xa3|\x16\x54\xae\x6b|\x1f\x43\xb6\x75|\x21\xf9\x04'
)


def _flip_bits(data: bytearray, rng: np.random.Generator, _) -> None:
    for place in rng.integers(len(data), size=rng.integers(1, 64)):
        data[place] ^= 1 << rng.integers(8)


def _flip_header_bits(data: bytearray, rng: np.random.Generator, _) -> None:
    for place in rng.integers(min(len(data), 1000), size=rng.integers(1, 16)):
        data[place] ^= 1 << rng.integers(8)


def _cut(data: bytearray, rng: np.random.Generator, _) -> None:
    del data[rng.integers(1, len(data)) :]


def _take_out(data: bytearray, rng: np.random.Generator, _) -> None:
    start, end = np.sort(rng.integers(len(data), size=2))
    del data[start : min(end, start + 5000)]


def _zero(data: bytearray, rng: np.random.Generator, _) -> None:
    start = rng.integers(len(data))
    end = min(len(data), start + rng.integers(1, 4000))
    data[start:end] = bytes(end - start)


def _splice(data: bytearray, rng: np.random.Generator, other: bytes) -> None:
    data[rng.integers(len(data)) :] = other[rng.integers(len(other)) :]


def _duplicate(data: bytearray, rng: np.random.Generator, _) -> None:
    start = rng.integers(len(data))
    piece = data[start : start + rng.integers(1, 4000)]
    data[start:start] = piece


def _insert(data: bytearray, rng: np.random.Generator, _) -> None:
    start = rng.integers(len(data))
    data[start:start] = rng.bytes(rng.integers(1, 2000))


def _wrong_size(data: bytearray, rng: np.random.Generator, _) -> None:
    """The number before a box's name, or one of those behind it or behind a chunk's, is another."""
    places = [match.start() for match in NAMES.finditer(data)] or [4]
    place = int(rng.choice(places)) + int(rng.choice([-4, 4, 8, 12, 16, 20]))
    value = rng.choice([0, 1, 0x7F, 0x7FFFFFFF, 0xFFFFFFFF, int(rng.integers(2**32))])
    data[max(0, place) : max(0, place) + 4] = int(value).to_bytes(4, rng.choice(['little', 'big']))


MUTATIONS: tuple[Callable[[bytearray, np.random.Generator, bytes], None], ...] = (
    _flip_bits, _flip_header_bits, _cut, _take_out, _zero, _splice, _duplicate, _insert, _wrong_size, _wrong_size,
)  # fmt: skip


@pytest.fixture(scope='module')
def originals(tmp_path_factory) -> list[Path]:
    """Small videos of every kind, and the real ones from small to large."""
    root = tmp_path_factory.mktemp('originals')
    frames = scenery(6, (64, 64))
    made = [
        write_video(root / 'h264.mp4', frames),
        write_video(root / 'h264.mov', frames, times=[0, 1, 2, 10, 11, 12]),
        write_video(root / 'mpeg4.avi', frames, codec='mpeg4'),
        write_video(root / 'mpeg2.mpg', frames, codec='mpeg2video', rate=25),
        write_video(root / 'h264.ts', frames),
        write_video(root / 'h264.flv', frames),
        write_video(root / 'ffv1.mkv', frames, codec='ffv1'),
        write_video(root / 'hevc.mp4', frames, codec='libx265'),
        write_video(root / 'av1.mkv', frames, codec='libsvtav1'),
        write_video(root / 'vp9.webm', frames, codec='libvpx-vp9'),
        write_gif(root / 'gif.gif', (64, 64), 6),
    ]
    real = (file for file in SHARED_DATA.rglob('*') if file.suffix.lower() in video.SUFFIXES and file.stat().st_size)
    small = sorted((file for file in real if file.stat().st_size <= LARGEST), key=lambda file: file.stat().st_size)
    return made + small


def mutate(originals: list[Path], number: int, to: Path) -> set[Path]:
    """Writes `number` damaged copies, a third of them of made videos."""
    rng, paths = np.random.default_rng(SEED), set()
    for n in range(number):
        # The smallest real ones where there is little time.
        share = originals[:11] if n % 3 == 0 else originals[: number // 3 + 11]
        one, other = (share[i] for i in rng.integers(len(share), size=2))
        data = bytearray(one.read_bytes())
        for _ in range(rng.integers(1, 4)):
            if data:
                MUTATIONS[rng.integers(len(MUTATIONS))](data, rng, other.read_bytes())
        paths.add(to / f'{n:04d}_{one.stem[:20]}{one.suffix}')
        (to / f'{n:04d}_{one.stem[:20]}{one.suffix}').write_bytes(data)
    return paths


@pytest.mark.parametrize('number', [100, pytest.param(1500, marks=pytest.mark.slow)])
def test_damaged_files_are_converted_or_named(originals, tmp_path, number):
    clips = tmp_path / 'clips' / 'x'
    write_video(clips / 'whole.mp4', grey_levels([10, 200]))
    paths = mutate(originals, number, clips) | {clips / 'whole.mp4'}
    for fps in (None, 12.0):
        options = Options(FrameStorage(short_side=48, fps=fps), workers=2)
        made = convert(folder.read(clips.parent), tmp_path / f'out_{fps}', options)
        failed = dict(line.split('\t') for line in (made / 'failures.tsv').read_text().splitlines())
        data = dataset.open_dataset(made)
        stored = {str(path) for path in paths if f'x/{path.stem}' in set(data.index.ids)}
        said = f'VIDCLS_FUZZ_SEED={SEED}, fps {fps}: {len(stored)} stored, {len(failed)} named'
        print(said, *sorted(set(failed.values())), sep='\n  ')
        assert stored | failed.keys() == {str(path) for path in paths} and not stored & failed.keys(), said
        assert not [reason for reason in failed.values() if reason.startswith('internal error')], said
        assert 0.2 * number < len(stored) < number, said
        reader = data.reader()
        for clip, frames in enumerate(np.diff(data.index.first)):
            for jpeg in reader.read(clip, [0, int(frames) - 1]):
                assert simplejpeg.decode_jpeg(jpeg).ndim == 3, said
