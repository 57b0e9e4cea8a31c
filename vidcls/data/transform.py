"""On the device: the window of a uint8 canvas -> normalised float32 frames, inside the jitted step.

The host hands over `canvas` uint8[b t s s c], each clip's window in its top left corner, and the window's size and
mirroring. Resizing is two small matrix products a frame (2 % of a ResNet-50's multiply-adds at 224 pixels), which frees
the host's cores for decoding and costs an accelerator nothing.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vidcls.data.augment import Window


class Clips(NamedTuple):
    """What the host hands to the device for a batch of clips (or views of clips).

    Attributes:
      canvas: uint8[b t s s c], RGB.
      size: int32[b 2], height and width of the window in the canvas' top left corner, pixels.
      flip: bool[b], whether to mirror it.
    """

    canvas: np.ndarray | jax.Array
    size: np.ndarray | jax.Array
    flip: np.ndarray | jax.Array


def transform(clips: Clips, crop_size: int, mean: Sequence[float], std: Sequence[float]) -> jax.Array:
    """Resizes each window to a square, mirrors and normalises it.

    Bilinear, with the filter widened when shrinking, as PIL's `BILINEAR` does it.

    Args:
      crop_size: side of the output, pixels.
      mean, std: of each channel, for values in [0, 1].

    Returns:
      float32[b t h w c].
    """
    side = clips.canvas.shape[-2]
    rows = resize_matrix(clips.size[:, 0], crop_size, side)
    columns = resize_matrix(clips.size[:, 1], crop_size, side)
    columns = jnp.where(clips.flip[:, None, None], columns[:, ::-1], columns)
    # Full precision: an accelerator's default would round pixels to 8 bits of mantissa.
    product = lambda pattern, *args: jnp.einsum(pattern, *args, precision='highest')
    video = clips.canvas.astype(jnp.float32)
    video = product('b p y, b t y x c -> b t p x c', rows, video)
    video = product('b q x, b t p x c -> b t p q c', columns, video)
    mean, std = 255 * jnp.asarray(mean, jnp.float32), 255 * jnp.asarray(std, jnp.float32)
    return (video - mean) / std


def resize_matrix(length: jax.Array, out: int, side: int) -> jax.Array:
    """Triangle-filter weights that resize the first `length` of `side` pixels to `out`.

    Args:
      length: int[b], pixels.

    Returns:
      float32[b out side]; each row sums to 1, and is zero from `length` on.
    """
    length = length.astype(jnp.float32)[:, None, None]
    scale = length / out
    centre = (jnp.arange(out)[:, None] + 0.5) * scale
    pixel = jnp.arange(side)[None, :]
    weights = jnp.maximum(1 - jnp.abs(pixel + 0.5 - centre) / jnp.maximum(scale, 1), 0)
    weights = jnp.where(pixel < length, weights, 0)
    return weights / weights.sum(-1, keepdims=True)


def on_canvas(frames: np.ndarray, windows: Sequence[Window]) -> Clips:
    """Windows of decoded frames, as the pipeline lays them out for the device.

    Args:
      frames: uint8[v t h w c], the frames of each view.
      windows: v windows.

    Returns:
      Clips of v views, on the smallest square canvas that holds them all.
    """
    side = max(max(window.height, window.width) for window in windows)
    canvas = np.zeros((*frames.shape[:2], side, side, frames.shape[-1]), np.uint8)
    for view, (top, left, height, width, _) in enumerate(windows):
        canvas[view, :, :height, :width] = frames[view, :, top : top + height, left : left + width]
    size = np.array([(window.height, window.width) for window in windows], np.int32)
    return Clips(canvas, size, np.array([window.flip for window in windows]))
