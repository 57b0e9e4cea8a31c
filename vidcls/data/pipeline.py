"""Reads clips in batches, with tf.data. Order and augmentation are pure functions of (seed, position).

Position p of a training run is clip `epoch_order(seed, p // n, n)[p % n]` of the split's n clips; its random draws come
from a generator whose key is (seed, p). So a run that resumes at any step sees the same clips as a run that never
stopped, and the pipeline has no state to save. Batches run on across the ends of epochs, so that no clip is dropped.

Frames are chosen before anything is read. The bytes of their pictures (`modality`) alone are read; of each JPEG only the rectangle
that holds all windows is decoded, once, onto a canvas of fixed size. All else is the device's work (`transform`).
"""

import functools
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from vidcls.config import Config
from vidcls.data.dataset import Dataset
from vidcls.data.frame_index import FrameIndex
from vidcls.data.frame_reader import FrameReader
from vidcls.data.modality import MODALITIES
from vidcls.data.sampling import Sampler
from vidcls.data.transform import Views
from vidcls.data.windows import Window, bounding_window, draw_window, view_windows

_ORDER, _DRAWS = 0, 1  # separate streams of random numbers: for the order of clips, for the draws of one clip
# TensorFlow takes larger arrays from the system anew each time, in small pages, and so reads a quarter fewer frames a
# second.
_PIECE_BYTES = 24 * 2**20
# The clips of one call from TensorFlow into Python. With one clip a call, 12 % fewer frames a second are read.
_CLIPS_PER_CALL = 16


class Batch(NamedTuple):
    """A batch of b clips, each seen through v windows (training: one).

    Attributes:
      views: canvas uint8[b p y x c] and windows int32[b v 5].
      label: int32[b].
      clip: int64[b], the clip's number in the dataset.
      mask: bool[b], False where a place is a filler that completes the batch.
    """

    views: Views
    label: np.ndarray
    clip: np.ndarray
    mask: np.ndarray


class Sample(NamedTuple):
    """What is decoded of a clip.

    Attributes:
      clip: the clip's number in the dataset, or -1 for a filler.
      pictures: int64[p], numbers within the clip.
      windows: v windows, each the same in all the pictures.
    """

    clip: int
    pictures: np.ndarray
    windows: list[Window]


Plan = Callable[[int], Sample]  # position -> what is decoded there


class _Slice(NamedTuple):
    """The places of each global batch that one process reads: from process * size to (process + 1) * size - 1."""

    batch_size: int  # of the global batch
    process: int
    num_processes: int

    @property
    def size(self) -> int:
        return self.batch_size // self.num_processes

    def position(self, number: int) -> int:
        """The position, counted over all processes, of clip `number` of this process."""
        step, place = divmod(number, self.size)
        return step * self.batch_size + self.process * self.size + place


def generator(seed: int, stream: int, number: int) -> np.random.Generator:
    """A random generator that is a pure function of the arguments."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, 2 * number + stream], np.uint64)))


@functools.lru_cache(maxsize=4)
def epoch_order(seed: int, epoch: int, num_clips: int) -> np.ndarray:
    """The order of the clips in one epoch, int64[n]."""
    return generator(seed, _ORDER, epoch).permutation(num_clips)


def train_batches(
    dataset: Dataset,
    config: Config,
    start_step: int = 0,
    process: int = 0,
    num_processes: int = 1,
) -> Iterator[Batch]:
    """Endless batches of `config.batch_size / num_processes` clips, from `start_step` on.

    Each process reads its own clips of each global batch.

    Raises:
      UserError: the split is unknown or empty.
    """
    selected = dataset.clips(config.data.train_split)
    index, reader = dataset.pictures(config.sampling.modality)
    modality, sampler = MODALITIES[config.sampling.modality], Sampler(config.sampling, training=True)

    def plan(position: int) -> Sample:
        epoch, place = divmod(position, len(selected))
        clip = int(selected[epoch_order(config.seed, epoch, len(selected))[place]])
        rng = generator(config.seed, _DRAWS, position)
        frames = sampler.draw(index.num_frames(clip) // modality.pictures, float(index.fps[clip]), rng)
        window = draw_window(int(index.height[clip]), int(index.width[clip]), config.augment, rng)
        return Sample(clip, modality.rows(frames), [window])

    part = _Slice(config.batch_size, process, num_processes)
    canvas = (sampler.num_frames * modality.pictures, *_square(index), modality.depth)
    return _batches(reader, index.labels, plan, part, start_step, None, (1, *canvas))


def eval_batches(
    dataset: Dataset,
    config: Config,
    split: str,
    batch_size: int,
    clips: int = 1,
    crops: int = 1,
    process: int = 0,
    num_processes: int = 1,
) -> Iterator[Batch]:
    """The batches of a split for testing. A clip takes `clips` places, one after the other: one for each view in time.

    Fillers complete the last batches, and the mask leaves the fillers out. So all batches have the same shape, and all
    processes have the same number of batches.

    Args:
      batch_size: the number of places in a batch, over all processes.
      clips: the number of views in time of each clip.
      crops: the number of windows (views in space) at each view in time.

    Raises:
      UserError: the split is unknown or empty.
    """
    selected = dataset.clips(split)
    index, reader = dataset.pictures(config.sampling.modality)
    modality, sampler = MODALITIES[config.sampling.modality], Sampler(config.sampling, training=False)

    def plan(position: int) -> Sample:
        row, moment = divmod(min(position, len(selected) * clips - 1), clips)
        clip = int(selected[row])
        frames = sampler.view(index.num_frames(clip) // modality.pictures, float(index.fps[clip]), moment, clips)
        windows = view_windows(int(index.height[clip]), int(index.width[clip]), config.augment, crops)
        return Sample(clip if position < len(selected) * clips else -1, modality.rows(frames), windows)

    part = _Slice(batch_size, process, num_processes)
    steps = -(-len(selected) * clips // batch_size)
    size = _canvas_size(index, config, selected, crops)
    canvas = (sampler.num_frames * modality.pictures, *size, modality.depth)
    return _batches(reader, index.labels, plan, part, 0, steps, (crops, *canvas))


def _square(index: FrameIndex) -> tuple[int, int]:
    """Height and width, pixels, of a canvas that holds any one window: none is larger than the short side of a frame."""
    side = int(np.minimum(index.height, index.width).max())
    return side, side


def _canvas_size(index: FrameIndex, config: Config, selected: np.ndarray, crops: int) -> tuple[int, int]:
    """Height and width, pixels, that hold the windows of every selected clip."""
    if crops == 1:
        return _square(index)  # the canvas of training, so that all splits have one shape
    sizes = np.unique(np.stack([index.height[selected], index.width[selected]], axis=1), axis=0)
    boxes = [bounding_window(view_windows(height, width, config.augment, crops)) for height, width in sizes.tolist()]
    return max(box.height for box in boxes), max(box.width for box in boxes)


def _batches(
    reader: FrameReader,
    labels: np.ndarray,
    plan: Plan,
    part: _Slice,
    start_step: int,
    end_step: int | None,
    shape: tuple[int, ...],
) -> Iterator[Batch]:
    """The batches of a tf.data pipeline over the clips of `part`, from `start_step` to `end_step` (None: endless).

    Args:
      shape: v p y x c: the number of windows of a clip, and the canvas.
    """
    import tensorflow as tf

    tf.config.set_visible_devices([], 'GPU')  # or TensorFlow takes the accelerator's memory
    num_windows, *canvas = shape
    num_pictures, depth = canvas[0], canvas[-1]
    fetch = functools.partial(_fetch, reader, labels, plan, part)

    def read(numbers: Any) -> Any:
        jpegs, box, windows, label, clip = tf.numpy_function(
            fetch, [numbers], (tf.string, tf.int32, tf.int32, tf.int32, tf.int64), stateful=False
        )
        jpegs.set_shape([None, num_pictures])
        box.set_shape([None, 4])
        windows.set_shape([None, num_windows, 5])
        label.set_shape([None])
        clip.set_shape([None])
        return jpegs, box, windows, label, clip

    def decode(jpegs: Any, box: Any, windows: Any, label: Any, clip: Any) -> Any:
        pixels = [
            # The accurate transform costs no measurable time, and gives the same pixels as every other decoder.
            tf.io.decode_and_crop_jpeg(jpegs[number], box, channels=depth, dct_method='INTEGER_ACCURATE')
            for number in range(num_pictures)
        ]
        # `padded_batch` lays the pictures on the canvas as it collects them.
        return tf.stack(pixels), windows, label, clip

    end = tf.int64.max if end_step is None else end_step * part.size
    data = tf.data.Dataset.range(start_step * part.size, end)
    data = data.batch(_CLIPS_PER_CALL).map(read).unbatch()
    data = data.map(decode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    shapes: tuple[list[int], ...] = (canvas, [num_windows, 5], [], [])
    pieces = _num_pieces(part.size, int(np.prod(canvas)))
    size = part.size // pieces
    data = data.padded_batch(size, shapes, drop_remainder=True).prefetch(2 * pieces)

    def check(piece: int) -> None:
        # A call of `fetch` reads several clips. If the call fails, the piece with the first of these clips fails.
        last = -(-(piece + 1) * size // _CLIPS_PER_CALL) * _CLIPS_PER_CALL
        for number in range(start_step * part.size + piece * size, start_step * part.size + last):
            sample = plan(part.position(number))
            reader.check(max(sample.clip, 0), sample.pictures.tolist())

    return _Batches(data, pieces, check)


def _num_pieces(size: int, clip_bytes: int) -> int:
    """The number of equal pieces in which a batch of `size` clips is read.

    A piece has at most `_PIECE_BYTES` bytes, or a single clip.
    """
    fits = (n for n in range(1, size) if size % n == 0 and size // n * clip_bytes <= _PIECE_BYTES)
    return next(fits, size)


def _fetch(
    reader: FrameReader, labels: np.ndarray, plan: Plan, part: _Slice, numbers: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Reads what will be decoded for a process's clips `numbers`.

    Returns:
      JPEGs [b p], the rectangle to decode of them int32[b 4], windows within the rectangle int32[b v 5], labels int32[b],
      clip numbers int64[b].
    """
    samples = [plan(part.position(int(number))) for number in numbers]
    clip = np.array([sample.clip for sample in samples])
    stored = np.maximum(clip, 0)  # a filler shows some clip, and the mask leaves it out
    jpegs = [reader.read(row, sample.pictures) for row, sample in zip(stored.tolist(), samples)]
    boxes = np.array([bounding_window(sample.windows)[:4] for sample in samples], np.int32)
    windows = np.array([sample.windows for sample in samples], np.int32)
    windows[..., :2] -= boxes[:, None, :2]
    return np.array(jpegs, object), boxes, windows, labels[stored], clip


class _Batches:
    """Iterates over the batches of a tf.data pipeline, and shuts the pipeline down before the interpreter exits.

    TensorFlow's threads call `fetch`. A thread that is inside `fetch` when Python finalises waits for ever, and Python
    waits for the thread.

    Args:
      data: a tf.data.Dataset of pieces.
      pieces: the number of pieces in a batch.
      check: a function of a piece's number. It raises an error that names the clip that can't be read, which
        TensorFlow's error does not name.
    """

    def __init__(self, data: Any, pieces: int, check: Callable[[int], None]):
        self._pieces, self._check, self._done = pieces, check, 0
        self._iterators = [data.as_numpy_iterator()]
        weakref.finalize(self, self._iterators.clear)  # at the latest, when the interpreter exits

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        found = [self._piece() for _ in range(self._pieces)]
        # The pieces are joined by numpy, which asks the system for large pages.
        canvas, windows, label, clip = map(np.concatenate, zip(*found)) if self._pieces > 1 else found[0]
        return Batch(Views(canvas, windows), label, clip, mask=clip >= 0)

    def _piece(self) -> Any:
        import tensorflow as tf

        try:
            piece = next(self._iterators[0])
        except tf.errors.OpError:
            self._check(self._done)
            raise
        self._done += 1
        return piece
