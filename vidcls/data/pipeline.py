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

import einops
import numpy as np

from vidcls.config import Config
from vidcls.data import augment
from vidcls.data.augment import Window
from vidcls.data.dataset import Dataset
from vidcls.data.frame_index import FrameReader
from vidcls.data.sampling import Sampler
from vidcls.data.transform import Clips

_ORDER, _DRAWS = 0, 1  # keep the two kinds of randomness apart
# TensorFlow gets larger arrays from the system anew each time, in small pages: a quarter fewer frames a second.
_PIECE_BYTES = 24 * 2**20
_CLIPS_PER_CALL = 16  # from TensorFlow into Python: one clip a call read 12 % fewer frames a second


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


# A position -> the clip's number, or -1 for a place that is filled up, and its views.
Plan = Callable[[int], tuple[int, list[View]]]


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
    plan: Plan,
    share: Share,
    start_step: int,
    end_step: int | None,
    num_views: int,
    num_frames: int,
) -> Iterator[Batch]:
    """The tf.data pipeline over this host's clips from `start_step` to `end_step` (None: endless)."""
    import tensorflow as tf

    tf.config.set_visible_devices([], 'GPU')  # or TensorFlow takes the accelerator's memory
    reader = dataset.reader()
    fetch = functools.partial(_fetch, reader, dataset.index.labels, plan, share)
    side = int(np.minimum(dataset.index.height, dataset.index.width).max())

    def read(numbers):
        jpegs, windows, label, clip = tf.numpy_function(
            fetch, [numbers], (tf.string, tf.int32, tf.int32, tf.int64), stateful=False
        )
        jpegs.set_shape([None, num_views * num_frames])
        windows.set_shape([None, num_views, 5])
        label.set_shape([None])
        clip.set_shape([None])
        return jpegs, windows, label, clip

    def decode(jpegs, windows, label, clip):
        pixels = [
            # The accurate transform costs nothing that shows, and makes the pixels those of every other decoder.
            tf.io.decode_and_crop_jpeg(
                jpegs[view * num_frames + frame], windows[view, :4], channels=3, dct_method='INTEGER_ACCURATE'
            )
            for view in range(num_views)
            for frame in range(num_frames)
        ]
        # The windows of a clip's views are of one size; `padded_batch` lays them on the canvas as it collects them.
        return tf.stack(pixels), windows, label, clip

    end = tf.int64.max if end_step is None else end_step * share.size
    data = tf.data.Dataset.range(start_step * share.size, end)
    data = data.batch(_CLIPS_PER_CALL).map(read).unbatch()
    data = data.map(decode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    shapes = ([num_views * num_frames, side, side, 3], [num_views, 5], [], [])
    pieces = _num_pieces(share.size, int(np.prod(shapes[0])))
    size = share.size // pieces
    data = data.padded_batch(size, shapes, drop_remainder=True).prefetch(2 * pieces)

    def check(piece: int) -> None:
        # A call that reads several clips fails with the piece that has the first of them.
        last = -(-(piece + 1) * size // _CLIPS_PER_CALL) * _CLIPS_PER_CALL
        for number in range(start_step * share.size + piece * size, start_step * share.size + last):
            clip, views = plan(share.position(number))
            for view in views:
                reader.check(max(clip, 0), view.frames)

    return _Batches(data, pieces, check)


def _num_pieces(size: int, clip_bytes: int) -> int:
    """How many equal parts a batch of `size` clips is read in, so that each is small enough."""
    fits = (n for n in range(1, size) if size % n == 0 and size // n * clip_bytes <= _PIECE_BYTES)
    return next(fits, size)


def _fetch(reader: FrameReader, labels: np.ndarray, plan: Plan, share: Share, numbers: np.ndarray):
    """What to decode for a host's clips `numbers`: JPEGs [b (v t)], windows int32[b v 5], labels, clip numbers."""
    planned = [plan(share.position(int(number))) for number in numbers]
    clip = np.array([clip for clip, _ in planned])
    stored = np.maximum(clip, 0)  # a filled-up place shows some clip, and is masked
    jpegs = [
        [jpeg for view in views for jpeg in reader.read(row, view.frames)] for row, (_, views) in zip(stored, planned)
    ]
    windows = np.array([[view.window for view in views] for _, views in planned], np.int32)
    return np.array(jpegs, object), windows, labels[stored], clip


class _Batches:
    """Iterates over the pipeline's batches, and shuts it down before the interpreter goes.

    TensorFlow's threads call `fetch`; one that is still at it when Python finalises waits for ever, and the exit with it.

    Args:
      data: tf.data.Dataset of pieces; `pieces` of them are a batch.
      check: raises what is wrong with the clips of a piece, given its number: TensorFlow's own error names none.
    """

    def __init__(self, data, pieces: int, check: Callable[[int], None]):
        self._pieces, self._check, self._done = pieces, check, 0
        self._iterators = [data.as_numpy_iterator()]
        weakref.finalize(self, self._iterators.clear)  # at the latest, when the interpreter exits

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        found = [self._piece() for _ in range(self._pieces)]
        # numpy asks for large pages.
        canvas, windows, label, clip = map(np.concatenate, zip(*found)) if self._pieces > 1 else found[0]
        canvas = einops.rearrange(canvas, 'b (v t) y x c -> (b v) t y x c', v=windows.shape[1])
        windows = einops.rearrange(windows, 'b v window -> (b v) window')
        return Batch(Clips(canvas, windows[:, 2:4], windows[:, 4].astype(bool)), label, clip, mask=clip >= 0)

    def _piece(self):
        import tensorflow as tf

        try:
            piece = next(self._iterators[0])
        except tf.errors.OpError:
            self._check(self._done)
            raise
        self._done += 1
        return piece
