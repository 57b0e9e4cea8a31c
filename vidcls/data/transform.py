"""On the device: windows of a uint8 canvas -> normalised float32 frames, inside the jitted step.

The host hands over the canvas uint8[b t y x c], which has the frames of each clip, and the windows int32[b v 5] of the
clip's v views. Resizing is two small matrix products a frame (2 % of a ResNet-50's multiply-adds at 224 pixels), which
frees the host's cores for decoding and takes an accelerator next to no time. A window's place is an offset in these
matrices, so that ten crops are cut out of one canvas and each frame is decoded once.
"""

from collections.abc import Sequence
from typing import NamedTuple

import einops
import jax
import jax.numpy as jnp
import numpy as np

from vidcls.data.windows import Window


class Views(NamedTuple):
    """What the host hands to the device for a batch of b clips, each seen through v windows (training: one).

    Attributes:
      canvas: uint8[b t y x c], RGB.
      windows: int32[b v 5], top, left, height and width on the canvas, pixels, and 1 to mirror or 0: `windows.Window`.
    """

    canvas: np.ndarray | jax.Array
    windows: np.ndarray | jax.Array


def transform(views: Views, crop_size: int, mean: Sequence[float], std: Sequence[float]) -> jax.Array:
    """Resizes each window to a square, mirrors and normalises it.

    Resizing is bilinear, with the filter widened when shrinking, as PIL's `BILINEAR` does it.

    Args:
      views: the canvas and windows of b clips.
      crop_size: side of the output, pixels.
      mean, std: of each channel, for values in [0, 1].

    Returns:
      float32[(b v) t h w c], the views of a clip side by side.
    """
    height, width = views.canvas.shape[2:4]
    canvas = views.canvas.astype(jnp.float32)
    # Full precision: an accelerator's default would round pixels to 8 bits of mantissa.
    product = lambda pattern, *args: jnp.einsum(pattern, *args, precision='highest')

    def view(window: np.ndarray | jax.Array) -> jax.Array:
        top, left, rows, columns, flip = window.T
        vertical = resize_matrix(top, rows, crop_size, height)
        horizontal = resize_matrix(left, columns, crop_size, width)
        horizontal = jnp.where(flip[:, None, None] > 0, horizontal[:, ::-1], horizontal)
        video = product('b p y, b t y x c -> b t p x c', vertical, canvas)
        return product('b q x, b t p x c -> b t p q c', horizontal, video)

    video = jnp.stack([view(views.windows[:, number]) for number in range(views.windows.shape[1])], axis=1)
    return normalise(einops.rearrange(video, 'b v t h w c -> (b v) t h w c'), mean, std)


def normalise(video: jax.Array, mean: Sequence[float], std: Sequence[float]) -> jax.Array:
    """Values from 0 to 255, float32[... c], less the mean and over the deviation of their channel."""
    pixel_mean, pixel_std = 255 * jnp.asarray(mean, jnp.float32), 255 * jnp.asarray(std, jnp.float32)
    return (video - pixel_mean) / pixel_std


def resized(frames: np.ndarray, window: Window, size: int) -> np.ndarray:
    """A window of frames uint8[t h w c], resized as `transform` does it, to a square of whole grey levels: uint8[t size size c]."""
    video = transform(on_canvas([frames], [window], max(window.height, window.width)), size, (0,) * 3, (1 / 255,) * 3)
    return np.asarray(jnp.round(video[0]), np.uint8)


def resize_matrix(start: jax.Array, length: jax.Array, out: int, side: int) -> jax.Array:
    """Triangle-filter weights that resize `length` of `side` pixels, from `start` on, to `out`.

    Args:
      start, length: int[b], pixels.

    Returns:
      float32[b out side]; each row sums to 1, and is zero outside of the `length` pixels.
    """
    length = length.astype(jnp.float32)[:, None, None]
    scale = length / out
    centre = (jnp.arange(out)[:, None] + 0.5) * scale
    pixel = jnp.arange(side)[None, :] - start[:, None, None]
    weights = jnp.maximum(1 - jnp.abs(pixel + 0.5 - centre) / jnp.maximum(scale, 1), 0)
    weights = jnp.where((pixel >= 0) & (pixel < length), weights, 0)
    return weights / weights.sum(-1, keepdims=True)


def on_canvas(frames: Sequence[np.ndarray], windows: Sequence[Window], side: int) -> Views:
    """Windows of decoded frames, each on a canvas of its own.

    A fixed `side` gives one shape to frames of all sizes, so that the device's step compiles once.

    Args:
      frames: v arrays uint8[t h w c], the frames of each view.
      windows: v windows.
      side: of the square canvas, pixels; at least that of every window.

    Returns:
      Views [v 1], each window in the top left corner of its canvas.
    """
    canvas = np.zeros((len(frames), len(frames[0]), side, side, frames[0].shape[-1]), np.uint8)
    for view, (top, left, height, width, _) in enumerate(windows):
        canvas[view, :, :height, :width] = frames[view][:, top : top + height, left : left + width]
    placed = [[window._replace(top=0, left=0)] for window in windows]
    return Views(canvas, np.array(placed, np.int32))
