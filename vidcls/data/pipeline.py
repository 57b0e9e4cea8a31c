"""Clips -> batches, with tf.data. Order and augmentation are a pure function of (seed, position).

Position p of a training run is clip `order(epoch)[p % n]` of epoch p // n, with draws from a generator keyed by
(seed, p): a run that starts again at any step sees what it would have seen, and nothing of the pipeline needs saving.
Batches run on across the ends of epochs, so that no clip is dropped.

Frames are chosen before anything is read; the bytes of those frames alone are read, and each JPEG is decoded once, only
the rectangle that holds all windows, onto a canvas of fixed size. All else is the device's work (`transform`).
"""

import functools
import weakref
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from vidcls.config import Config
from vidcls.data.dataset import Dataset
from vidcls.data.frame_index import FrameReader
from vidcls.data.sampling import Sampler
from vidcls.data.transform import Views
from vidcls.data.windows import Window, bounding_window, draw_window, test_windows

_ORDER, _DRAWS = 0, 1  # keep the two kinds of randomness apart
# TensorFlow gets larger arrays from the system anew each time, in small pages: a quarter fewer frames a second.
_PIECE_BYTES = 24 * 2**20
_CLIPS_PER_CALL = 16  # from TensorFlow into Python: one clip a call read 12 % fewer frames a second


class Batch(NamedTuple):
    """A batch of b clips, each seen through v windows (training: one).

    Attributes:
      clips: canvas [b t y x c], windows [b v 5].
      label: int32[b].
      clip: int64[b], the clip's number in the dataset.
      mask: bool[b], False where a place was filled up to complete the batch.
    """

    clips: Views
    label: np.ndarray
    clip: np.ndarray
    mask: np.ndarray


class Sample(NamedTuple):
    """What to decode: the clip's number, or -1 for a place that is filled up; frames int64[t]; the windows on them."""

    clip: int
    frames: np.ndarray
    windows: list[Window]


Plan = Callable[[int], Sample]  # of a position


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

    def plan(position: int) -> Sample:
        epoch, place = divmod(position, len(selected))
        clip = int(selected[epoch_order(config.seed, epoch, len(selected))[place]])
        rng = generator(config.seed, _DRAWS, position)
        frames = sampler.draw(index.num_frames(clip), float(index.fps[clip]), rng)
        window = draw_window(int(index.height[clip]), int(index.width[clip]), config.augment, rng)
        return Sample(clip, frames, [window])

    share = Share(config.batch_size, host, num_hosts)
    side = int(np.minimum(index.height, index.width).max())  # of the canvas: no window is larger
    return _batches(dataset, plan, share, start_step, None, (1, sampler.num_frames, side, side))


def eval_batches(
    dataset: Dataset,
    config: Config,
    split: str,
    batch_size: int,
    clips: int = 1,
    crops: int = 1,
    host: int = 0,
    num_hosts: int = 1,
) -> Iterator[Batch]:
    """Each clip of the split `clips` times, at as many moments one after the other, each in `crops` windows.

    The last batches are filled up with masked places, so that all have the same shape and every host has as many.

    Args:
      batch_size: moments of clips in a batch of all hosts together.

    Raises:
      ValueError: the split is unknown or empty.
    """
    selected = dataset.clips(split)
    index = dataset.index
    sampler = Sampler(config.sampling, training=False)

    def plan(position: int) -> Sample:
        row, moment = divmod(min(position, len(selected) * clips - 1), clips)
        clip = int(selected[row])
        frames = sampler.view(index.num_frames(clip), float(index.fps[clip]), moment, clips)
        windows = test_windows(int(index.height[clip]), int(index.width[clip]), config.augment, crops)
        return Sample(clip if position < len(selected) * clips else -1, frames, windows)

    share = Share(batch_size, host, num_hosts)
    steps = -(-len(selected) * clips // batch_size)
    canvas = _canvas_size(dataset, config, selected, crops)
    return _batches(dataset, plan, share, 0, steps, (crops, sampler.num_frames, *canvas))


def _canvas_size(dataset: Dataset, config: Config, selected: np.ndarray, crops: int) -> tuple[int, int]:
    """Height and width, pixels, that hold the windows of every selected clip."""
    if crops == 1:
        # One shape for all splits, training's too.
        return (int(np.minimum(dataset.index.height, dataset.index.width).max()),) * 2
    sizes = np.unique(np.stack([dataset.index.height[selected], dataset.index.width[selected]], axis=1), axis=0)
    boxes = [bounding_window(test_windows(*size, config.augment, crops)) for size in sizes.tolist()]
    return max(box.height for box in boxes), max(box.width for box in boxes)


def _batches(
    dataset: Dataset, plan: Plan, share: Share, start_step: int, end_step: int | None, shape: tuple[int, int, int, int]
) -> Iterator[Batch]:
    """The tf.data pipeline over this host's clips from `start_step` to `end_step` (None: endless).

    Args:
      shape: windows and frames of a clip, height and width of the canvas.
    """
    import tensorflow as tf

    tf.config.set_visible_devices([], 'GPU')  # or TensorFlow takes the accelerator's memory
    num_windows, num_frames, height, width = shape
    reader = dataset.reader()
    fetch = functools.partial(_fetch, reader, dataset.index.labels, plan, share)

    def read(numbers):
        jpegs, box, windows, label, clip = tf.numpy_function(
            fetch, [numbers], (tf.string, tf.int32, tf.int32, tf.int32, tf.int64), stateful=False
        )
        jpegs.set_shape([None, num_frames])
        box.set_shape([None, 4])
        windows.set_shape([None, num_windows, 5])
        label.set_shape([None])
        clip.set_shape([None])
        return jpegs, box, windows, label, clip

    def decode(jpegs, box, windows, label, clip):
        pixels = [
            # The accurate transform costs nothing that shows, and makes the pixels those of every other decoder.
            tf.io.decode_and_crop_jpeg(jpegs[frame], box, channels=3, dct_method='INTEGER_ACCURATE')
            for frame in range(num_frames)
        ]
        # `padded_batch` lays them on the canvas as it collects them.
        return tf.stack(pixels), windows, label, clip

    end = tf.int64.max if end_step is None else end_step * share.size
    data = tf.data.Dataset.range(start_step * share.size, end)
    data = data.batch(_CLIPS_PER_CALL).map(read).unbatch()
    data = data.map(decode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    shapes = ([num_frames, height, width, 3], [num_windows, 5], [], [])
    pieces = _num_pieces(share.size, int(np.prod(shapes[0])))
    size = share.size // pieces
    data = data.padded_batch(size, shapes, drop_remainder=True).prefetch(2 * pieces)

    def check(piece: int) -> None:
        # A call that reads several clips fails with the piece that has the first of them.
        last = -(-(piece + 1) * size // _CLIPS_PER_CALL) * _CLIPS_PER_CALL
        for number in range(start_step * share.size + piece * size, start_step * share.size + last):
            sample = plan(share.position(number))
            reader.check(max(sample.clip, 0), sample.frames)

    return _Batches(data, pieces, check)


def _num_pieces(size: int, clip_bytes: int) -> int:
    """How many equal parts a batch of `size` clips is read in, so that each is small enough."""
    fits = (n for n in range(1, size) if size % n == 0 and size // n * clip_bytes <= _PIECE_BYTES)
    return next(fits, size)


def _fetch(reader: FrameReader, labels: np.ndarray, plan: Plan, share: Share, numbers: np.ndarray):
    """What to decode for a host's clips `numbers`.

    Returns:
      JPEGs [b t], the rectangle to decode of each int32[b 4], windows within it int32[b v 5], labels, clip numbers.
    """
    samples = [plan(share.position(int(number))) for number in numbers]
    clip = np.array([sample.clip for sample in samples])
    stored = np.maximum(clip, 0)  # a filled-up place shows some clip, and is masked
    jpegs = [reader.read(row, sample.frames) for row, sample in zip(stored, samples)]
    boxes = np.array([bounding_window(sample.windows)[:4] for sample in samples], np.int32)
    windows = np.array([sample.windows for sample in samples], np.int32)
    windows[..., :2] -= boxes[:, None, :2]
    return np.array(jpegs, object), boxes, windows, labels[stored], clip


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
        return Batch(Views(canvas, windows), label, clip, mask=clip >= 0)

    def _piece(self):
        import tensorflow as tf

        try:
            piece = next(self._iterators[0])
        except tf.errors.OpError:
            self._check(self._done)
            raise
        self._done += 1
        return piece
