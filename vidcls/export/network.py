"""A trained network as one function, frames uint8[b t h w 3] -> probabilities float32[b k], for export.

The t frames are those of all views in time of a clip, one view after the other. The function normalises, computes the
logits, and averages over the views. There are two forms of it. The form for whole frames also crops and resizes: h and
w are the size of the stored frames. The other form takes frames that the caller has cropped and resized: h and w are
the crop's size.
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
      config: the run's configuration for testing.
      variables: the network's variables, as numpy arrays.
      classes: the number of classes, k.
    """

    config: Config
    variables: Any
    classes: int

    @property
    def frames(self) -> int:
        """The number of frames of a clip, t: those of all its views in time."""
        return Sampler(self.config.sampling, training=False).num_frames * self.config.test.clips

    def function(self, whole_frames: bool, which: Literal['each', 'xla']) -> Callable[[Any, jax.Array], jax.Array]:
        """Returns the function (variables, frames uint8[b t h w 3]) -> probabilities float32[b k].

        The function is traced when a file is written.

        Args:
          whole_frames: whether the function takes whole frames of any size. Otherwise it takes frames of the crop's
            size.
          which: as for `vidcls.models.layers.forms`.
        """
        model = build_model(portable(self.config), self.classes)
        augment, test = self.config.augment, self.config.test

        def call(variables: Any, frames: jax.Array) -> jax.Array:
            video = einops.rearrange(frames, 'b (m t) h w c -> (b m) t h w c', m=test.clips)
            if whole_frames:
                height, width = frames.shape[2:4]
                windows = traced_windows(height, width, augment, test.crops)
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
    """The configuration that is exported: float32, and for one device of any platform."""
    model = dataclasses.replace(
        config.model, dtype='float32', sync_batch_norm=False, remat=None, attention_implementation=None
    )
    return dataclasses.replace(config, model=model)


def traced_windows(height: Any, width: Any, augment: AugmentConfig, crops: int) -> jax.Array:
    """int32[v 5]: what `vidcls.data.windows.view_windows` returns, for frames whose size is known only at run time.

    The arithmetic is in float64, as in Python, so that halves are rounded in the same direction.

    Args:
      height, width: the size of the frames, pixels; numbers or symbols.
    """
    height, width = (jnp.asarray(side, jnp.int32) for side in (height, width))
    with jax.enable_x64(True):
        windows = _windows(height.astype(jnp.float64), width.astype(jnp.float64), augment, crops)
        return jnp.stack([jnp.stack(window) for window in windows]).astype(jnp.int32)


def _windows(height: jax.Array, width: jax.Array, augment: AugmentConfig, crops: int) -> list[list[jax.Array]]:
    """The (top, left, height, width, flip) of each window, as whole numbers in float64."""
    size = augment.crop_size
    least = jnp.minimum(height, width)
    # The result is always `short`, but no constant to XLA, which would turn a division by a constant into a
    # multiplication by 1 / short.
    short = jnp.where(least > 0, float(augment.test_short_side or augment.short_side), 1.0)
    down, right = (jnp.round(side * short / least) - size for side in (height, width))
    places: list[Any]
    if crops == 1:
        places = [(jnp.round(down / 2), jnp.round(right / 2))]
    elif crops == 3:
        middle, upright = (jnp.ceil(down / 2), jnp.ceil(right / 2)), height > width
        ends = [
            (jnp.where(upright, y, middle[0]), jnp.where(upright, middle[1], x)) for y, x in ((0, 0), (down, right))
        ]
        places = [ends[0], middle, ends[1]]
    else:
        tall, wide = down + size, right + size
        places = fixed_offsets(tall, wide, size, size)[:5]  # type: ignore[arg-type]  # its arithmetic takes arrays too
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
