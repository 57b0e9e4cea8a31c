"""Measures the conversion of videos beside simpler ways, in frames per second with two processes.

    python -m benchmarks.convert

Ours is a whole conversion: decoding, JPEGs of quality 95, records, TFDS's description and the index of frames. Its time
includes the start of the worker processes, but not the import of TensorFlow, which takes 7 s once. The peers only write
JPEGs of quality 95. They are two OpenCV processes that append to one file each; the course book's loop, which writes a
file for every frame; and, if ffmpeg is installed, two ffmpeg processes at -q:v 2.

With optical flow, ours is a whole conversion with --flow=dis. The peers are two OpenCV processes that compute the same
flow and append its pictures to one file each, once with the frames and once without. Ours and the peers take turns, and
a ratio is the median of the rounds' ratios.
"""

import multiprocessing
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from absl import logging

from benchmarks.table import print_table, row
from vidcls.data.flow import PRESETS, FlowSettings
from vidcls.data.frame_storage import FrameStorage

SHARED_DATA = Path(__file__).resolve().parents[2] / 'shared' / 'data'
_CLIPS = 88
_ROUNDS = 3
_PROCESSES = 2
_FLOW = FlowSettings()
_Work = Callable[[Sequence[Path], Path], None]  # a function of videos and an empty folder, which it fills


def run(clips: int = _CLIPS, rounds: int = _ROUNDS) -> list[dict]:
    """The rows of the table: name, unit, ours, peer and ratio (ours / peer). Numbers are medians over the rounds."""
    import tensorflow  # noqa: F401  imported here, so that its import is not timed
    import tensorflow_datasets  # noqa: F401

    logging.set_verbosity(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        files = _files(Path(folder) / 'videos', clips)
        peers: dict[str, _Work] = {
            'two OpenCV processes, one file each': partial(_opencv_pair, _append_jpegs),
            'loop of the course book, a file a frame': _loop_of_images,
        }
        if shutil.which('ffmpeg'):
            peers['two ffmpeg -q:v 2'] = _ffmpeg_pair
        with_flow: dict[str, _Work] = {
            'two OpenCV processes, flow': partial(_opencv_pair, partial(_append_flow, frames=False)),
            'two OpenCV processes, flow and frames': partial(_opencv_pair, partial(_append_flow, frames=True)),
        }
        out = Path(folder) / 'out'
        return [
            *_compare(f'convert {len(files)} videos', _ours, peers, files, out, rounds),
            *_compare(f'... with flow ({_FLOW.preset})', partial(_ours, flow=_FLOW), with_flow, files, out, rounds),
        ]


def _compare(
    name: str, ours: _Work, peers: dict[str, _Work], files: Sequence[Path], out: Path, rounds: int
) -> list[dict]:
    frames, rates, theirs = _count_frames(files), [], {peer: [] for peer in peers}
    for _ in range(rounds):
        rates.append(frames / _seconds(ours, files, out))
        for peer, work in peers.items():
            theirs[peer].append(frames / _seconds(work, files, out))
    return [row(f'{name} / {peer}', 'frames/s', rates, theirs[peer]) for peer in peers]


def _files(folder: Path, clips: int) -> list[Path]:
    """Videos of UCF101, spread over its classes, if they lie beside the checkout; otherwise generated videos."""
    real = sorted((SHARED_DATA / 'ucf101').glob('*/*.avi'))
    if real:
        return real[:: -(-len(real) // clips)]
    from data_prep import motion

    folder.mkdir()
    look = motion.Look(size=240, frames=60)
    files = [folder / f'{number}.mp4' for number in range(clips)]
    for number, file in enumerate(files):
        name = list(motion.CLASSES)[number % len(motion.CLASSES)]
        motion.write_video(file, motion.render(name, number, look))
    return files


def _count_frames(files: Sequence[Path]) -> int:
    from vidcls.data import video

    return sum(video.probe(file).num_frames for file in files)


def _seconds(work: _Work, files: Sequence[Path], out: Path) -> float:
    out.mkdir()
    start = time.perf_counter()
    work(files, out)
    seconds = time.perf_counter() - start
    shutil.rmtree(out)
    return seconds


def _ours(files: Sequence[Path], out: Path, flow: FlowSettings | None = None) -> None:
    from data_prep import convert
    from data_prep.source import Clip, Source

    clips = [Clip(str(number), 0, 'train', (file,)) for number, file in enumerate(files)]
    source = Source('bench', 'Clips to measure with.', ('all',), clips, {'train': ['train']})
    convert.convert(source, out, convert.Options(FrameStorage(flow=flow), workers=_PROCESSES))


def _opencv_pair(append: _Work, files: Sequence[Path], out: Path) -> None:
    spawn = multiprocessing.get_context('spawn')
    processes = [spawn.Process(target=append, args=(files[i::_PROCESSES], out / str(i))) for i in range(_PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0, 'the OpenCV process failed'


def _append_jpegs(files: Sequence[Path], out: Path) -> None:
    import cv2

    cv2.setNumThreads(1)
    with open(out, 'wb') as sink:
        for file in files:
            sink.writelines(
                cv2.imencode('.jpg', frame, [cv2.IMWRITE_JPEG_QUALITY, 95])[1] for frame in _opencv_frames(file)
            )


def _append_flow(files: Sequence[Path], out: Path, frames: bool) -> None:
    import cv2
    import numpy as np

    cv2.setNumThreads(1)
    dis = cv2.DISOpticalFlow.create(PRESETS.index(_FLOW.preset))
    encode = lambda picture: cv2.imencode('.jpg', picture, [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
    with open(out, 'wb') as sink:
        for file in files:
            before = None
            for frame in _opencv_frames(file):
                grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
                if frames:
                    sink.write(encode(frame))
                if before is not None:
                    motion = dis.calc(before, grey, None).clip(-20, 20)
                    eight_bits = np.rint((motion + 20) * (255 / 40)).astype(np.uint8)
                    sink.writelines(map(encode, cv2.split(eight_bits)))
                before = grey


def _loop_of_images(files: Sequence[Path], out: Path) -> None:
    import cv2

    for number, file in enumerate(files):
        for index, frame in enumerate(_opencv_frames(file)):
            cv2.imwrite(f'{out}/{number}_{index}.jpg', frame, [cv2.IMWRITE_JPEG_QUALITY, 95])


def _opencv_frames(file: Path):
    import cv2

    capture = cv2.VideoCapture(str(file))
    success, frame = capture.read()
    while success:
        yield frame
        success, frame = capture.read()
    capture.release()


def _ffmpeg_pair(files: Sequence[Path], out: Path) -> None:
    def extract(file: Path) -> None:
        command = ['ffmpeg', '-loglevel', 'error', '-i', os.fspath(file), '-q:v', '2']
        subprocess.run([*command, f'{out}/{file.stem}_%05d.jpg'], check=True)

    with ThreadPoolExecutor(_PROCESSES) as pool:
        list(pool.map(extract, files))


if __name__ == '__main__':
    print_table(run())
