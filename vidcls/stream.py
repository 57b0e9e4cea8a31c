"""Classifies a live stream: queues of frames [b t h w c] -> logits [b k]. Each frame is encoded once.

Source: Zolfaghari et al. 2018 (arXiv:1804.09066), section 3.4 and algorithm 1. A memory has N places for frames, and a
queue collects the frames that come between two updates. At an update, half of the places get frames of the queue. The
other half keep half of the frames that are in memory, so that older frames become sparser. The new prediction is
averaged with the average so far. In the paper the queue has N frames; here its length is free.

In place of a frame, the memory keeps what the model's `encode_frames` made of the frame. For ECO and TSN these are the
features of the 2-D network. For TimeSformer it is the frame itself, because the tokens depend on all frames from the
first block on; so TimeSformer computes everything again at each update.

For a network that stacks frames, a place of the memory is for a snippet of `seg_len` consecutive frames, not for a
single frame. In `stream_init` and `stream_update`, "frames" means what the network is given of frames, such as their
optical flow (`vidcls.data.modality`).
"""

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vidcls.data import chosen_flow
from vidcls.data.modality import MODALITIES
from vidcls.data.transform import Views, on_canvas, transform
from vidcls.data.windows import view_windows
from vidcls.errors import UserError
from vidcls.predict import with_network
from vidcls.ranking import Ranks


class State(NamedTuple):
    """The memory of b streams that are updated together; its size never changes.

    Attributes:
      features: what `encode_frames` made of the frames or snippets in memory, arrays [b N ...].
      frames: int32[N], the numbers of these frames in the stream, oldest first. A snippet has its first frame's number.
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
      number: N, the number of frames or snippets in memory, which the model sees at once.
    """
    video = jax.ShapeDtypeStruct((batch, number * snippet_length(model), height, width, channels), jnp.float32)
    features = jax.eval_shape(partial(model.apply, method='encode_frames'), variables, video)
    logits = jax.eval_shape(model.apply, variables, video)
    return State(
        jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), features),
        jnp.zeros(number, jnp.int32),
        jnp.zeros((), jnp.int32),
        jnp.zeros(logits.shape, jnp.float32),
    )


def snippet_length(model: nn.Module) -> int:
    """The number of consecutive frames in one place of the memory."""
    return getattr(model, 'seg_len', 1)


@partial(jax.jit, static_argnums=(0, 4))
def stream_update(
    model: nn.Module, variables: Any, state: State, frames: jax.Array, unseen: int = 0
) -> tuple[State, jax.Array]:
    """Updates the memory with a queue of frames.

    An update runs `encode_frames` on min(t, N / 2) frames and `classify` on N frames. The first update fills the whole
    memory from its queue, so it runs `encode_frames` on min(t, N) frames.

    Args:
      frames: the queue, float32[b t h w c], normalised. Its t is at least the length of a snippet.
      unseen: the number of frames that the stream has between this queue and the next one.

    Returns:
      The next state, and the logits float32[b k] of the frames that are now in memory. The state's `frames` are the
        numbers of these frames in the stream, and its `average` is the averaged prediction.
    """
    number, queued, length = len(state.frames), frames.shape[1], snippet_length(model)
    new = max(number // 2, 1)

    def sampled(places):
        """The features of `places` snippets of the queue, and the numbers of their first frames in the stream."""
        starts = spread(queued - length + 1, places)
        once, position = np.unique(starts, return_inverse=True)
        features = model.apply(variables, frames[:, snippets(once, length)], method='encode_frames')
        return jax.tree.map(lambda x: x[:, position], features), state.seen + jnp.asarray(starts, jnp.int32)

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
    return State(features, numbers, state.seen + queued + unseen, average), logits


def snippets(starts: np.ndarray, length: int) -> np.ndarray:
    """`length` consecutive numbers from each of n starts on: int64[n] -> int64[n * length]."""
    return (starts[:, None] + np.arange(length)).ravel()


def spread(length: int, places: int) -> np.ndarray:
    """Indices int[places], spread evenly from 0 to length - 1, with repeats if length < places.

    A single place gets the last index, so that the newest frame is always taken. Several places get the first index
    too, so that the first frame of a stream stays in memory for ever.
    """
    if places < 2:
        return np.full(places, length - 1)
    return np.arange(places) * (length - 1) // (places - 1)


class Stream:
    """A stream that a trained network classifies. Push frames, and read `prediction`.

    Args:
      classifier: a `vidcls.predict.Classifier`.
      every: the length of the queue, which is the number of frames from one update to the next. 0 means as many frames
        as fill the memory.

    Raises:
      UserError: `every` is too small: each queue must have enough frames for half of the memory.

    Attributes:
      prediction: (label, probability) of every class, best first. The probabilities are averaged over the updates. None
        before the first update.
      logits: the logits of the last update, float32[k]; empty before the first update.
    """

    def __init__(self, classifier: Ranks, every: int = 0):
        classifier = with_network(classifier)
        config = classifier.config
        frames, height, width, channels = config.video_shape(training=False)
        self._length = snippet_length(classifier.model)
        self._ahead = MODALITIES[config.sampling.modality].ahead
        self._number = frames // self._length
        read = self._length + self._ahead  # frames of the stream in a snippet
        self.every = every or self._number * read
        least = max(self._number // 2, 1) + read - 1
        if self.every < least:
            raise UserError(
                f'--every={every}: at each update half of the memory of {self._number} '
                f'{"frames" if read == 1 else f"snippets of {read} frames"} goes to new ones, so that fewer than {least} '
                'would repeat and push out the past'
            )
        self.prediction: list[tuple[str, float]] | None = None
        self.logits = np.zeros(0, np.float32)
        self._classifier = classifier
        # The queue is a single segment.
        sampling = dataclasses.replace(config.sampling, seg_len=self.every - self._ahead)
        self._config = dataclasses.replace(config, sampling=sampling)
        self._queue: list[np.ndarray] = []
        self._state = stream_init(classifier.model, classifier.variables, 1, height, width, self._number, channels)
        self._update = jax.jit(self._step)

    def _step(self, variables: Any, state: State, views: Views) -> tuple[State, jax.Array]:
        frames = transform(views, self._config)
        return stream_update(self._classifier.model, variables, state, frames, self._ahead)

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
        (self._state, logits), self._queue = self._next(self._queue), []
        self.logits, average = np.asarray(logits)[0], np.asarray(self._state.average)[0]
        self.prediction = self._classifier.best(average, len(average))

    def _next(self, queue: list[np.ndarray]) -> tuple[State, jax.Array]:
        height, width = queue[0].shape[:2]
        (window,) = view_windows(height, width, self._config.augment, crops=1)
        pictures = self._flow(queue) if self._config.sampling.modality == 'flow' else np.stack(queue)
        views = on_canvas([pictures], [window], max(window.height, window.width))
        return self._update(self._classifier.variables, self._state, views)

    def _flow(self, queue: list[np.ndarray]) -> np.ndarray:
        """The optical flow of the queue, uint8[(t 2) h w 1]. It is zero for frames that the update does not take."""
        places = max(self._number // 2, 1) if self.prediction else self._number
        flows = len(queue) - self._ahead
        looked_at = np.unique(snippets(spread(flows - self._length + 1, places), self._length))
        pairs = chosen_flow.pairs(looked_at, len(queue))
        assert self._classifier.frames.flow is not None  # `workdir.load` checks this
        found = chosen_flow.pictures(pairs, dict(enumerate(queue)), self._classifier.frames.flow)
        pictures = np.zeros((flows, 2, *found.shape[1:]), np.uint8)
        pictures[looked_at] = found.reshape(-1, *pictures.shape[1:])
        return pictures.reshape(-1, *found.shape[1:])
