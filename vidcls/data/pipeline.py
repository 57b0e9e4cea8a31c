"""Clips -> batches, with tf.data. Order and augmentation are a pure function of (seed, position).

Position p of a training run is clip `order(epoch)[p % n]` of epoch p // n, with draws from a generator keyed by
(seed, p): a run that starts again at any step sees what it would have seen, and nothing of the pipeline needs saving.
Batches run on across the ends of epochs, so that no clip is dropped.

Frames are chosen before anything is read; the bytes of those frames alone are read, and of each JPEG only the window is
decoded, onto a canvas of fixed size. All else is the device's work (`transform`).
"""

import functools
import weakref
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from vidcls.config import Config
from vidcls.data import augment
from vidcls.data.augment import Window
from vidcls.data.dataset import Dataset
from vidcls.data.sampling import Sampler
from vidcls.data.transform import Clips

_ORDER, _DRAWS = 0, 1  # keep the two kinds of randomness apart


class Batch(NamedTuple):
    """A batch of b clips, each seen in v views (training: one).

    Attributes:
      clips: of b * v views, the views of a clip side by side.
      label: int32[b].
      clip: int64[b], the clip's number in the dataset.
      mask: bool[b], False where a place was filled up to complete the batch.
    """

    clips: Clips
    label: np.ndarray
    clip: np.ndarray
    mask: np.ndarray


class View(NamedTuple):
    """What to decode: frames int64[t] of a clip, and the window."""

    frames: np.ndarray
    window: Window


class Share(NamedTuple):
    """One host's part of each global batch: places host * size to (host + 1) * size - 1."""

    batch_size: int  # of the global batch
    host: int
    num_hosts: int

    @property
    def size(self) -> int:
        return self.batch_size // self.num_hosts

    def position(self, number: int) -> int:
        """The global position of this host's clip number `number`."""
        step, place = divmod(number, self.size)
        return step * self.batch_size + self.host * self.size + place


def generator(seed: int, stream: int, number: int) -> np.random.Generator:
    """A generator that is a pure function of its arguments."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, 2 * number + stream], np.uint64)))


@functools.lru_cache(maxsize=4)
def epoch_order(seed: int, epoch: int, num_clips: int) -> np.ndarray:
    """int64[n]: the permutation of one epoch."""
    return generator(seed, _ORDER, epoch).permutation(num_clips)


def train_batches(
    dataset: Dataset,
    config: Config,
    start_step: int = 0,
    host: int = 0,
    num_hosts: int = 1,
) -> Iterator[Batch]:
    """Endless batches of `config.batch_size / num_hosts` clips, from `start_step` on.

    Host h of several reads the h-th part of each global batch.

    Raises:
      ValueError: the split is unknown or empty.
    """
    selected = dataset.clips(config.data.train_split)
    index = dataset.index
    sampler = Sampler(config.sampling, training=True)

    def plan(position: int) -> tuple[int, list[View]]:
        epoch, place = divmod(position, len(selected))
        clip = int(selected[epoch_order(config.seed, epoch, len(selected))[place]])
        rng = generator(config.seed, _DRAWS, position)
        frames = sampler.draw(index.num_frames(clip), float(index.fps[clip]), rng)
        window = augment.draw(int(index.height[clip]), int(index.width[clip]), config.augment, rng)
        return clip, [View(frames, window)]

    share = Share(config.batch_size, host, num_hosts)
    return _batches(dataset, plan, share, start_step, None, 1, sampler.num_frames)


def eval_batches(
    dataset: Dataset,
    config: Config,
    split: str,
    clips: int = 1,
    crops: int = 1,
    host: int = 0,
    num_hosts: int = 1,
) -> Iterator[Batch]:
    """Each clip of the split once, in `clips * crops` views, in batches of `config.test.batch_size / num_hosts`.

    The last batches are filled up with masked places, so that all have the same shape and every host has as many.

    Raises:
      ValueError: the split is unknown or empty.
    """
    selected = dataset.clips(split)
    index = dataset.index
    sampler = Sampler(config.sampling, training=False)

    def plan(position: int) -> tuple[int, list[View]]:
        clip = int(selected[min(position, len(selected) - 1)])
        num_frames, fps = index.num_frames(clip), float(index.fps[clip])
        return (
            clip if position < len(selected) else -1,
            test_views(sampler, config, num_frames, fps, index.height[clip], index.width[clip], clips, crops),
        )

    share = Share(config.test.batch_size, host, num_hosts)
    steps = -(-len(selected) // config.test.batch_size)
    return _batches(dataset, plan, share, 0, steps, clips * crops, sampler.num_frames)


def test_views(
    sampler: Sampler, config: Config, num_frames: int, fps: float, height: int, width: int, clips: int, crops: int
) -> list[View]:
    """The views of one video under a test protocol: `clips` in time, each in `crops` windows."""
    windows = augment.views(int(height), int(width), config.augment, crops)
    frames = [sampler.view(num_frames, fps, clip, clips) for clip in range(clips)]
    return [View(chosen, window) for chosen in frames for window in windows]


def _batches(
    dataset: Dataset,
    plan: Callable[[int], tuple[int, list[View]]],
    share: Share,
    start_step: int,
    end_step: int | None,
    num_views: int,
    num_frames: int,
) -> Iterator[Batch]:
    """The tf.data pipeline. `plan` maps a position to (clip, or -1 for a filled-up place, and its views)."""
    import tensorflow as tf

    tf.config.set_visible_devices([], 'GPU')  # or TensorFlow takes the accelerator's memory
    reader, labels = dataset.reader(), dataset.index.labels
    side = int(np.minimum(dataset.index.height, dataset.index.width).max())

    def fetch(number):
        clip, views = plan(share.position(int(number)))
        jpegs = [reader.read(max(clip, 0), view.frames) for view in views]
        windows = np.array([view.window[:4] for view in views], np.int32)
        flips = np.array([view.window.flip for view in views])
        return np.array(jpegs, object), windows, flips, labels[max(clip, 0)], np.int64(clip)

    def decode(number):
        jpegs, windows, flips, label, clip = tf.numpy_function(
            fetch, [number], (tf.string, tf.int32, tf.bool, tf.int32, tf.int64), stateful=False
        )
        jpegs.set_shape([num_views, num_frames])
        canvas = []
        for view in range(num_views):
            window = tf.ensure_shape(windows[view], [4])
            padding = tf.stack([[0, side - window[2]], [0, side - window[3]], [0, 0]])
            for frame in range(num_frames):
                # The accurate transform costs nothing that shows, and makes the pixels those of every other decoder.
                pixels = tf.io.decode_and_crop_jpeg(
                    jpegs[view, frame], window, channels=3, dct_method='INTEGER_ACCURATE'
                )
                canvas.append(tf.ensure_shape(tf.pad(pixels, padding), [side, side, 3]))
        canvas = tf.reshape(tf.stack(canvas), [num_views, num_frames, side, side, 3])
        return canvas, windows[:, 2:], flips, label, clip

    end = tf.int64.max if end_step is None else end_step * share.size
    data = tf.data.Dataset.range(start_step * share.size, end)
    data = data.map(decode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    data = data.batch(share.size, drop_remainder=True).prefetch(2)
    return _Batches(data)


class _Batches:
    """Iterates over the pipeline's batches, and shuts it down before the interpreter goes.

    TensorFlow's threads call `fetch`; one that is still at it when Python finalises waits for ever, and the exit with it.
    """

    def __init__(self, data):
        self._iterators = [data.as_numpy_iterator()]
        weakref.finalize(self, self._iterators.clear)  # at the latest, when the interpreter exits

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        canvas, size, flip, label, clip = next(self._iterators[0])
        merge = lambda array: array.reshape(-1, *array.shape[2:])  # (b v) ...
        return Batch(Clips(merge(canvas), merge(size), merge(flip)), label, clip, mask=clip >= 0)
