"""Measures reading from a converted dataset, beside PyTorch DataLoaders that read JPEG files, in frames per second.

    python -m benchmarks.read

Each reader makes training batches of 32 clips of 3 and of 8 frames, one frame of each segment, with a multi-scale crop
and a flip, on two cores. Ours ends at the uint8 canvas that goes to the device, where resizing costs next to nothing;
the peers resize on the CPU. The fastest known peer decodes with simplejpeg, resizes with OpenCV and gives uint8. The
course book's way uses PIL and gives normalised floats. The peer `bare` is libjpeg-turbo alone: it decodes such windows
on both cores and does nothing else. Ours and the peers take turns; a ratio is the median of the rounds' ratios.
"""

import io
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import simplejpeg
from absl import logging

from benchmarks.convert import SHARED_DATA
from benchmarks.table import print_table, row
from vidcls.config import CHANNELS, AugmentConfig, Config, DataConfig, SamplingConfig
from vidcls.data import pipeline
from vidcls.data.dataset import Dataset, open_dataset
from vidcls.data.sampling import segments
from vidcls.data.windows import draw_window

_BATCH = 32
_BATCHES = 12
_ROUNDS = 3
_CORES = 2


def run(rounds: int = _ROUNDS) -> list[dict]:
    """The rows of the table: name, unit, ours, peer and ratio (ours / peer). Numbers are medians over the rounds."""
    with tempfile.TemporaryDirectory() as folder:
        dataset = open_dataset(_convert(Path(folder)))
        files = _write_jpegs(dataset, Path(folder) / 'jpegs')
        rows = []
        for frames in (3, 8):
            rows += _compare(dataset, files, frames, rounds)
        return rows


def _compare(dataset: Dataset, files: list[list[Path]], frames: int, rounds: int) -> list[dict]:
    sources: dict[str, Callable[[], Iterator]] = {
        'ours': lambda: our_batches(dataset, frames),
        'bare libjpeg-turbo': lambda: _bare(dataset, frames),
    }
    try:
        import torch  # noqa: F401

        sources['DataLoader, simplejpeg, OpenCV'] = lambda: _loader(files, frames, fast=True)
        sources['DataLoader, PIL, float'] = lambda: _loader(files, frames, fast=False)
    except ImportError:
        logging.warning('torch is not installed: reading is measured without its DataLoader')
    rates = {name: [] for name in sources}
    for _ in range(rounds):
        for name, source in sources.items():
            rates[name].append(frames_per_second(source(), frames))
    ours = rates.pop('ours')
    return [row(f'read {frames} frames a clip / {name}', 'frames/s', ours, peer) for name, peer in rates.items()]


def frames_per_second(batches: Iterator, frames: int) -> float:
    """Measures how many frames a second come from `batches`.

    Args:
      batches: batches of clips.
      frames: the number of frames of a clip.
    """
    for _ in itertools.islice(batches, 3):  # the start is not timed
        pass
    start = time.perf_counter()
    for _ in itertools.islice(batches, _BATCHES):
        pass
    return _BATCHES * _BATCH * frames / (time.perf_counter() - start)


def our_batches(dataset: Dataset, frames: int, start_step: int = 0) -> Iterator:
    """An iterator over our training batches. Each clip has `frames` frames."""
    return pipeline.train_batches(dataset, _config(frames), start_step)


def _config(frames: int) -> Config:
    return Config(
        data=DataConfig(train_split='train+validation+test'),
        sampling=SamplingConfig(num_segments=frames),
        augment=AugmentConfig(),
        batch_size=_BATCH,
    )


def _convert(folder: Path) -> Path:
    from data_prep import convert, motion
    from data_prep import folder as folder_source

    videos = SHARED_DATA / 'ucf101'
    if not videos.is_dir():
        return motion.make(folder, motion.Look(clips_per_class=8, size=240, frames=48))
    return convert.convert(folder_source.read(videos, name='ucf101', seed=0), folder, convert.Options())


def _write_jpegs(dataset: Dataset, folder: Path) -> list[list[Path]]:
    """Writes the dataset's frames as the peers read them, a file for each frame; returns the files of each clip."""
    reader, files = dataset.reader(), []
    for clip in range(len(dataset.index)):
        (folder / str(clip)).mkdir(parents=True)
        count = dataset.index.num_frames(clip)
        paths = [folder / str(clip) / f'{frame}.jpg' for frame in range(count)]
        for path, jpeg in zip(paths, reader.read(clip, range(count)), strict=True):
            path.write_bytes(jpeg)
        files.append(paths)
    return files


class _Clips:
    """A map-style dataset for PyTorch's DataLoader: uint8[t h w c], or normalised float32[t c h w]."""

    def __init__(self, files: list[list[Path]], frames: int, fast: bool):
        self._files, self._frames = files, frames
        self._read = self._read_fast if fast else self._read_with_pil

    def __len__(self) -> int:
        return 1000 * len(self._files)

    def __getitem__(self, item: int):
        rng = np.random.default_rng(item)
        files = self._files[item % len(self._files)]
        chosen = segments(len(files), self._frames, 1, rng.random(self._frames))
        return self._read([files[frame].read_bytes() for frame in chosen], rng)

    @staticmethod
    def _read_fast(jpegs: list[bytes], rng: np.random.Generator) -> np.ndarray:
        import cv2

        cv2.setNumThreads(1)
        frames = [simplejpeg.decode_jpeg(jpeg) for jpeg in jpegs]
        top, left, height, width, flip = draw_window(*frames[0].shape[:2], AugmentConfig(), rng)
        frames = [cv2.resize(f[top : top + height, left : left + width], (224, 224)) for f in frames]
        return np.stack([cv2.flip(f, 1) for f in frames] if flip else frames)

    @staticmethod
    def _read_with_pil(jpegs: list[bytes], rng: np.random.Generator) -> np.ndarray:
        from PIL import Image

        images = [Image.open(io.BytesIO(jpeg)).convert('RGB') for jpeg in jpegs]
        top, left, height, width, flip = draw_window(images[0].height, images[0].width, AugmentConfig(), rng)
        images = [i.crop((left, top, left + width, top + height)).resize((224, 224), Image.BILINEAR) for i in images]
        if flip:
            images = [image.transpose(Image.FLIP_LEFT_RIGHT) for image in images]
        video = np.stack([np.asarray(image, np.float32).transpose(2, 0, 1) / 255 for image in images])
        mean, std = (np.array(v, np.float32)[:, None, None] for v in CHANNELS['rgb'][1:])
        return (video - mean) / std


def _loader(files: list[list[Path]], frames: int, fast: bool) -> Iterator:
    from torch.utils.data import DataLoader

    # Worker processes are spawned, since a fork of a process with TensorFlow's threads can hang.
    options = {'shuffle': True, 'num_workers': _CORES, 'multiprocessing_context': 'spawn'}
    return iter(DataLoader(_Clips(files, frames, fast), batch_size=_BATCH, **options))


def _bare(dataset: Dataset, frames: int) -> Iterator:
    """An iterator over batches of windows, which libjpeg-turbo decodes from memory on both cores."""
    import tensorflow as tf

    rng, index, reader = np.random.default_rng(0), dataset.index, dataset.reader()
    jpegs, windows = [], []
    for clip in range(len(index)):
        jpegs += reader.read(clip, [index.num_frames(clip) // 2])
        windows.append(draw_window(int(index.height[clip]), int(index.width[clip]), AugmentConfig(), rng)[:4])
    count = _BATCH * frames
    data = tf.data.Dataset.from_tensor_slices((jpegs, np.array(windows, np.int32))).repeat()
    # One pixel of each frame is kept, so that decoding is not optimised away.
    decode = lambda jpeg, window: tf.io.decode_and_crop_jpeg(jpeg, window, 3, dct_method='INTEGER_ACCURATE')[0, 0]
    return data.map(decode, num_parallel_calls=_CORES, deterministic=False).batch(count).as_numpy_iterator()


if __name__ == '__main__':
    print_table(run())
