"""Classification of a live stream: queues of frames [b t h w c] -> logits [b k], each frame encoded once.

Zolfaghari et al. 2018 (arXiv:1804.09066), section 3.4 and algorithm 1. A memory has N places for frames, and a queue
collects the frames that come between two updates. At an update, half of the places get frames of the queue. The other
half keep half of the frames that are in memory, so that older frames become sparser. The new prediction is averaged
with the average so far. In the paper the queue has N frames; here its length is free.

In place of a frame, the memory keeps what the model's `encode_frames` made of the frame. For ECO and TSN these are the
features of the 2-D network. For TimeSformer it is the frame itself, because the tokens depend on all frames from the
first block on; so TimeSformer computes everything again at each update.
"""

from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vidcls.data.sampling import Sampler
from vidcls.data.transform import Views, on_canvas, transform
from vidcls.data.windows import view_windows
from vidcls.errors import UserError


class State(NamedTuple):
    """The memory of b streams that are updated together; its size never changes.

    Attributes:
      features: what `encode_frames` made of the frames in memory, arrays [b N ...].
      frames: int32[N], the numbers of these frames in the stream, oldest first.
      seen: int32, the number of frames that came in.
      average: float32[b k], the running average of the probabilities.
    """

    features: Any
    frames: jax.Array
    seen: jax.Array
    average: jax.Array


def stream_init(
    model: nn.Module, variables: Any, batch: int, height: int, width: int, number: int, channels: int = 3
) -> State:
    """The state before the first frame, for `batch` streams of normalised frames [height width channels].

    Args:
      number: N, the number of frames in memory, which the model sees at once.

    Raises:
      UserError: the model stacks several frames on the channel axis.
    """
    if getattr(model, 'seg_len', 1) != 1:
        raise UserError(f'seg_len={model.seg_len}: a stream is taken frame by frame, by a model with seg_len=1')
    video = jax.ShapeDtypeStruct((batch, number, height, width, channels), jnp.float32)
    features = jax.eval_shape(partial(model.apply, method='encode_frames'), variables, video)
    logits = jax.eval_shape(model.apply, variables, video)
    return State(
        jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), features),
        jnp.zeros(number, jnp.int32),
        jnp.zeros((), jnp.int32),
        jnp.zeros(logits.shape, jnp.float32),
    )


@partial(jax.jit, static_argnums=0)
def stream_update(model: nn.Module, variables: Any, state: State, frames: jax.Array) -> tuple[State, jax.Array]:
    """Updates the state with a queue of t >= 1 normalised frames, float32[b t h w c].

    An update runs `encode_frames` on min(t, N / 2) frames and `classify` on N frames. The first update fills the whole
    memory from its queue, so it runs `encode_frames` on min(t, N) frames.

    Returns:
      The next state, and the logits float32[b k] of the frames that are now in memory. The state's `frames` are the
        numbers of these frames in the stream, and its `average` is the averaged prediction.
    """
    number, queued = len(state.frames), frames.shape[1]
    new = max(number // 2, 1)

    def sampled(places):
        """The features of `places` frames of the queue, and the numbers of these frames in the stream."""
        rows = spread(queued, places)
        once, position = np.unique(rows, return_inverse=True)
        features = model.apply(variables, frames[:, once], method='encode_frames')
        return jax.tree.map(lambda x: x[:, position], features), state.seen + jnp.asarray(rows, jnp.int32)

    def half_and_half():
        kept = spread(number, number - new)
        features, numbers = sampled(new)
        join = partial(jnp.concatenate, axis=1)
        features = jax.tree.map(lambda old, new: join([old[:, kept], new]), state.features, features)
        return features, jnp.concatenate([state.frames[kept], numbers])

    first = state.seen == 0
    features, numbers = lax.cond(first, lambda: sampled(number), half_and_half)
    logits: Any = model.apply(variables, features, method='classify')
    probabilities = jax.nn.softmax(logits)
    average = jnp.where(first, probabilities, (state.average + probabilities) / 2)
    return State(features, numbers, state.seen + queued, average), logits


def spread(length: int, places: int) -> np.ndarray:
    """Indices int[places], spread evenly from 0 to length - 1, with repeats if length < places.

    A single place gets the last index. The first frame of a stream stays in memory for ever, and the newest frame is
    always taken.
    """
    if places < 2:
        return np.full(places, length - 1)
    return np.arange(places) * (length - 1) // (places - 1)


class Stream:
    """One stream through a trained network: push frames, read `prediction`.

    Args:
      classifier: a `vidcls.predict.Classifier`.
      every: the length of the queue, which is the number of frames from one update to the next. 0 means the number of
        frames in memory.

    Raises:
      UserError: `every` is less than half the number of frames in memory. An update takes that many new frames.

    Attributes:
      prediction: (label, probability) of every class, best first, averaged over the updates; None before the first
        update.
    """

    def __init__(self, classifier: Any, every: int = 0):
        config = classifier.config
        number = Sampler(config.sampling, training=False).num_frames
        size = config.augment.crop_size
        self.every = every or number
        if self.every < number // 2:
            raise UserError(
                f'--every={every}: at each update half of the memory of {number} frames goes to new ones, so that fewer '
                f'than {number // 2} would repeat and push out the past'
            )
        self.prediction: list[tuple[str, float]] | None = None
        self._classifier = classifier
        self._queue: list[np.ndarray] = []
        self._state = stream_init(classifier.model, classifier.variables, 1, size, size, number)
        self._update = jax.jit(self._step)

    def _step(self, variables: Any, state: State, views: Views) -> State:
        augment = self._classifier.config.augment
        frames = transform(views, augment.crop_size, augment.mean, augment.std)
        return stream_update(self._classifier.model, variables, state, frames)[0]

    def warm_up(self, frame: np.ndarray) -> None:
        """Compiles the update for frames of this size, which takes seconds. The frame does not enter the stream."""
        jax.block_until_ready(self._next([frame] * self.every))

    def push(self, frame: np.ndarray) -> bool:
        """Takes in an RGB frame uint8[h w c]. Its centre window is classified, as in testing.

        Returns:
          Whether the frame completed a queue, so that `prediction` is new.

        Raises:
          ValueError: the frame has another type or shape, or another size than the frames that wait in the queue.
        """
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[-1] != 3:
            raise ValueError(f'a frame of {frame.dtype}{list(frame.shape)}: must be uint8[h w 3]')
        if self._queue and frame.shape != self._queue[0].shape:
            raise ValueError(f'a frame of {frame.shape} after frames of {self._queue[0].shape}: scale them alike')
        self._queue.append(frame.copy())  # a camera may fill the same buffer again
        if len(self._queue) == self.every:
            self._classify()
        return not self._queue

    def flush(self) -> bool:
        """Ends the stream: fills the queue up with copies of its last frame, and classifies it.

        Returns:
          Whether frames waited in the queue, so that `prediction` is new.
        """
        if not self._queue:
            return False
        self._queue += self._queue[-1:] * (self.every - len(self._queue))
        self._classify()
        return True

    def _classify(self) -> None:
        self._state, self._queue = self._next(self._queue), []
        average = np.asarray(self._state.average)[0]
        self.prediction = self._classifier.best(average, len(average))

    def _next(self, queue: list[np.ndarray]) -> State:
        frames = np.stack(queue)[None]
        height, width = frames.shape[2:4]
        (window,) = view_windows(height, width, self._classifier.config.augment, crops=1)
        views = on_canvas(list(frames), [window], max(window.height, window.width))
        return self._update(self._classifier.variables, self._state, views)
