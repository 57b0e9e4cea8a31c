"""A trained network as one function that needs nothing beside it: frames uint8[b t h w 3] -> probabilities float32[b k].

t counts all frames of all views in time of a clip, one view after the other. Cropping, resizing, normalising, the softmax and
the average over views are within. In whole-frame form h and w are those of the stored frames; else both are the crop's size,
and the caller has cropped and resized.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import einops
import jax
import jax.numpy as jnp

from vidcls.config import AugmentConfig, Config
from vidcls.data.sampling import Sampler
from vidcls.data.transform import Views, network_input, transform
from vidcls.data.windows import fixed_offsets
from vidcls.models.configured import build_model
from vidcls.models.layers import forms


@dataclasses.dataclass(frozen=True)
class Network:
    """What is exported.

    Attributes:
      config: of the run, as it is tested.
      variables: of the network, arrays of numpy.
      classes: k.
    """

    config: Config
    variables: Any
    classes: int

    @property
    def frames(self) -> int:
        """t."""
        return Sampler(self.config.sampling, training=False).num_frames * self.config.test.clips

    def function(self, whole_frames: bool, which: Literal['each', 'xla']) -> Callable[[Any, jax.Array], jax.Array]:
        """(variables, frames uint8[b t h w 3]) -> probabilities float32[b k], to be traced for a file.

        Args:
          whole_frames: whether frames are whole, of any size; else they have the size of the crop.
          which: as of `vidcls.models.layers.forms`.
        """
        model = build_model(portable(self.config), self.classes)
        augment, test = self.config.augment, self.config.test

        def call(variables: Any, frames: jax.Array) -> jax.Array:
            video = einops.rearrange(frames, 'b (m t) h w c -> (b m) t h w c', m=test.clips)
            if whole_frames:
                windows = traced_windows(*frames.shape[2:4], augment, test.crops)
                windows = jnp.broadcast_to(windows, (video.shape[0], *windows.shape))
                video = transform(Views(video, windows), self.config)
            else:
                video = network_input(video.astype(jnp.float32), jnp.zeros(len(video), jnp.int32), self.config)
            with forms(which):
                logits: Any = model.apply(variables, video, train=False)
            logits = einops.rearrange(logits, '(b v) k -> b v k', v=test.clips * (test.crops if whole_frames else 1))
            if test.average == 'logits':
                return jax.nn.softmax(logits.mean(1))
            return jax.nn.softmax(logits).mean(1)

        return call


def portable(config: Config) -> Config:
    """The configuration of the network as it is exported: float32, for one device of any kind."""
    model = dataclasses.replace(
        config.model, dtype='float32', sync_batch_norm=False, remat=None, attention_implementation=None
    )
    return dataclasses.replace(config, model=model)


def traced_windows(height: Any, width: Any, augment: AugmentConfig, crops: int) -> jax.Array:
    """`vidcls.data.windows.view_windows` of frames whose size is known when the program runs: int32[v 5].

    It computes in float64 as Python does, so that halves are rounded to the same side.

    Args:
      height, width: of the frames, pixels; numbers or symbols.
    """
    height, width = (jnp.asarray(side, jnp.int32) for side in (height, width))
    with jax.enable_x64(True):
        windows = _windows(height.astype(jnp.float64), width.astype(jnp.float64), augment, crops)
        return jnp.stack([jnp.stack(window) for window in windows]).astype(jnp.int32)


def _windows(height: jax.Array, width: jax.Array, augment: AugmentConfig, crops: int) -> list[list[jax.Array]]:
    """(top, left, height, width, flip) of each window, whole numbers of float64."""
    short, size = augment.test_short_side or augment.short_side, augment.crop_size
    least = jnp.minimum(height, width)
    # It is always `short`. XLA would divide by a constant in another way: it would multiply by 1 / short.
    short = jnp.where(least > 0, float(short), 1.0)
    down, right = (jnp.round(side * short / least) - size for side in (height, width))
    if crops == 1:
        places = [(jnp.round(down / 2), jnp.round(right / 2))]
    elif crops == 3:
        middle, upright = (jnp.ceil(down / 2), jnp.ceil(right / 2)), height > width
        ends = [
            (jnp.where(upright, y, middle[0]), jnp.where(upright, middle[1], x)) for y, x in ((0, 0), (down, right))
        ]
        places = [ends[0], middle, ends[1]]
    else:
        places = fixed_offsets(down + size, right + size, size, size)[:5]
    ratio = least / short
    rows, columns = (jnp.clip(jnp.round(size * ratio), 1, side) for side in (height, width))
    return [
        [
            jnp.minimum(jnp.round(top * ratio), height - rows),
            jnp.minimum(jnp.round(left * ratio), width - columns),
            rows,
            columns,
            jnp.full_like(rows, flip),
        ]
        for flip in ((0, 1) if crops == 10 else (0,))
        for top, left in places
    ]
