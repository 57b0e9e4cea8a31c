"""A live stream through ECO: queues of frames [b t h w c] -> logits [b k], each frame computed once.

Zolfaghari et al. 2018 (arXiv:1804.09066), section 3.4 and algorithm 1: a working memory of N frames. At each
update half of its places go to frames of the queue that came in since the last one, and the other half to
half of what it held, so that the past grows sparser; the prediction is averaged with the average so far.
The paper's queue has N frames; any number is taken here. What is kept of a frame is what the 2-D network
made of it.
"""

from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


class State(NamedTuple):
    """What a batch of streams, in step with each other, remembers; its size never changes.

    `pictures` is the model's `pictures` [b N ...] of the frames in memory, `frames` int32 [N] their numbers
    in the stream, oldest first, `seen` the number of frames that came in, `average` float32 [b k] the
    running average of the probabilities.
    """

    pictures: Any
    frames: jax.Array
    seen: jax.Array
    average: jax.Array


def stream_init(model: nn.Module, variables: Any, batch: int, height: int, width: int, channels: int = 3) -> State:
    """The state before the first frame, for `batch` streams of normalised frames [height width channels].

    Raises:
      ValueError: the model stacks several frames to a picture.
    """
    if model.seg_len != 1:
        raise ValueError(f'seg_len={model.seg_len}: a stream is taken frame by frame, by a model with seg_len=1')
    video = jax.ShapeDtypeStruct((batch, model.num_segments, height, width, channels), jnp.float32)
    pictures = jax.eval_shape(partial(model.apply, method='pictures'), variables, video)
    logits = jax.eval_shape(model.apply, variables, video)
    return State(
        jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), pictures),
        jnp.zeros(model.num_segments, jnp.int32),
        jnp.zeros((), jnp.int32),
        jnp.zeros(logits.shape, jnp.float32),
    )


@partial(jax.jit, static_argnums=0)
def stream_update(model: nn.Module, variables: Any, state: State, frames: jax.Array) -> tuple[State, jax.Array]:
    """Takes in the queue `frames` float32 [b t h w c], t >= 1.

    The first update fills the memory from its queue alone. Costs the 2-D network on min(t, N/2) frames
    (the first time N) and the rest of the network on N.

    Returns:
      The next state, and the logits float32 [b k] of the frames now in memory: those that the model gives
      for `state.frames` of the stream. The averaged prediction is `state.average`.
    """
    number, queued = model.num_segments, frames.shape[1]

    def sampled(places):
        """The pictures of `places` frames of the queue, and their numbers in the stream."""
        rows = spread(queued, places)
        once, position = np.unique(rows, return_inverse=True)
        pictures = model.apply(variables, frames[:, once], method='pictures')
        return jax.tree.map(lambda x: x[:, position], pictures), state.seen + jnp.asarray(rows, jnp.int32)

    def half_and_half():
        kept = spread(number, number - number // 2)
        pictures, numbers = sampled(number // 2)
        join = partial(jnp.concatenate, axis=1)
        pictures = jax.tree.map(lambda old, new: join([old[:, kept], new]), state.pictures, pictures)
        return pictures, jnp.concatenate([state.frames[kept], numbers])

    first = state.seen == 0
    pictures, numbers = lax.cond(first, lambda: sampled(number), half_and_half)
    logits = model.apply(variables, pictures, method='classify')
    probabilities = jax.nn.softmax(logits)
    average = jnp.where(first, probabilities, (state.average + probabilities) / 2)
    return State(pictures, numbers, state.seen + queued, average), logits


def spread(length: int, places: int) -> np.ndarray:
    """`places` >= 2 indices int [places] from first to last of `length`, as evenly as they go; repeats if too few.

    The first stays for ever in a memory that is thinned so, and the newest frame is always seen.
    """
    return np.arange(places) * (length - 1) // (places - 1)
