"""Conversion of videos beside simpler ways, in frames per second on two processes.

    python -m benchmarks.convert

Ours is a whole conversion: decoding, JPEGs of quality 95, records, TFDS's description and the index of frames. Its time
includes the start of the worker processes, and excludes the import of TensorFlow (once, 7 s). The peers only write JPEGs of
quality 95: two OpenCV processes that append to one file each; the course book's loop with a file for every frame; and two
ffmpeg processes at -q:v 2, if ffmpeg is installed. Rounds alternate, and a ratio is the median of the rounds' ratios.
"""

import multiprocessing
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from absl import logging

from benchmarks.table import print_table, row

SHARED_DATA = Path(__file__).resolve().parents[2] / 'shared' / 'data'
_CLIPS = 88
_ROUNDS = 3
_PROCESSES = 2


def run(clips: int = _CLIPS, rounds: int = _ROUNDS) -> list[dict]:
    """Rows of name, unit, ours, peer, ratio (ours / peer), each a median over the rounds."""
    import tensorflow  # noqa: F401  imported here, so that its import is not timed
    import tensorflow_datasets  # noqa: F401

    logging.set_verbosity(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        files = _files(Path(folder) / 'videos', clips)
        peers = {
            'two OpenCV processes, one file each': _opencv_pair,
            'loop of the course book, a file a frame': _loop_of_images,
        }
        if shutil.which('ffmpeg'):
            peers['two ffmpeg -q:v 2'] = _ffmpeg_pair
        out = Path(folder) / 'out'
        frames = _count_frames(files)
        ours, theirs = [], {name: [] for name in peers}
        for _ in range(rounds):
            ours.append(frames / _seconds(_ours, files, out))
            for name, peer in peers.items():
                theirs[name].append(frames / _seconds(peer, files, out))
    return [row(f'convert {len(files)} videos / {name}', 'frames/s', ours, rates) for name, rates in theirs.items()]


def _files(folder: Path, clips: int) -> list[Path]:
    """Videos of every class of UCF101 if they lie beside the checkout; generated videos otherwise."""
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


def _seconds(work: Callable[[Sequence[Path], Path], None], files: Sequence[Path], out: Path) -> float:
    out.mkdir()
    start = time.perf_counter()
    work(files, out)
    seconds = time.perf_counter() - start
    shutil.rmtree(out)
    return seconds


def _ours(files: Sequence[Path], out: Path) -> None:
    from data_prep import convert
    from data_prep.source import Clip, Source

    clips = [Clip(str(number), 0, 'train', (file,)) for number, file in enumerate(files)]
    source = Source('bench', 'Clips to measure with.', ('all',), clips, {'train': ['train']})
    convert.convert(source, out, convert.Options(workers=_PROCESSES))


def _opencv_pair(files: Sequence[Path], out: Path) -> None:
    spawn = multiprocessing.get_context('spawn')
    processes = [
        spawn.Process(target=_append_jpegs, args=(files[i::_PROCESSES], out / str(i))) for i in range(_PROCESSES)
    ]
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
