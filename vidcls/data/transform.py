"""On the device: windows of a uint8 canvas -> normalised float32 frames, inside the jitted step.

The host hands over the canvas uint8[b p y x c], which has the p pictures of each clip (`vidcls.data.modality`), and the windows
int32[b v 5] of the clip's v views. Resizing is two small matrix products a picture (2 % of a ResNet-50's multiply-adds at 224
pixels), which frees the host's cores for decoding and takes an accelerator next to no time. A window's place is an offset in
these matrices, so that ten crops are cut out of one canvas and each picture is decoded once.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import einops
import jax
import jax.numpy as jnp
import numpy as np

from vidcls.config import Config
from vidcls.data.windows import Window


class Views(NamedTuple):
    """What the host hands to the device for a batch of b clips, each seen through v windows (training: one).

    Attributes:
      canvas: uint8[b p y x c], the pictures: RGB frames, or x and y of each frame's optical flow.
      windows: int32[b v 5], top, left, height and width on the canvas, pixels, and 1 to mirror or 0: `windows.Window`.
    """

    canvas: np.ndarray | jax.Array
    windows: np.ndarray | jax.Array


def transform(views: Views, config: Config) -> jax.Array:
    """Resizes each window to a square, mirrors it, makes what the network is given, and normalises that.

    Resizing is bilinear, with the filter widened when shrinking, as PIL's `BILINEAR` does it.

    Args:
      views: the canvas and windows of b clips.
      config: has the crop's size, the modality, and mean and deviation.

    Returns:
      float32[(b v) t h w c], the views of a clip side by side.
    """
    crop_size, channels = config.augment.crop_size, config.channels
    height, width = views.canvas.shape[2:4]
    canvas = views.canvas.astype(jnp.float32)
    # Full precision: an accelerator's default would round pixels to 8 bits of mantissa.
    product = lambda pattern, *args: jnp.einsum(pattern, *args, precision='highest')

    def view(window: np.ndarray | jax.Array) -> jax.Array:
        top, left, rows, columns, flip = window.T
        vertical = resize_matrix(top, rows, crop_size, height)
        horizontal = resize_matrix(left, columns, crop_size, width)
        horizontal = jnp.where(flip[:, None, None] > 0, horizontal[:, ::-1], horizontal)
        video = product('b h y, b p y x c -> b p h x c', vertical, canvas)
        return product('b w x, b p h x c -> b p h w c', horizontal, video)

    video = jnp.stack([view(views.windows[:, number]) for number in range(views.windows.shape[1])], axis=1)
    video = einops.rearrange(video, 'b v p h w c -> (b v) p h w c')
    mirrored = jnp.asarray(views.windows[..., 4]).reshape(-1)
    video = _GIVEN[config.sampling.modality](video, mirrored, config.sampling.seg_len)
    pixel_mean, pixel_std = (255 * jnp.asarray(values, jnp.float32) for values in channels[1:])
    return (video - pixel_mean) / pixel_std


def _flow(pictures: jax.Array, mirrored: jax.Array, seg_len: int) -> jax.Array:
    """Pictures [b p h w 1] -> [b t h w 2]; in a mirrored window (int[b], 1), motion to the right is motion to the left."""
    x, y = pictures[:, 0::2], pictures[:, 1::2]
    return jnp.concatenate([jnp.where(mirrored[:, None, None, None, None] > 0, 255 - x, x), y], axis=-1)


def _difference(frames: jax.Array, mirrored: jax.Array, seg_len: int) -> jax.Array:
    """Frames [b p h w c], seg_len + 1 of each segment -> [b t h w c], each of the first seg_len taken from the next."""
    segments = einops.rearrange(frames, 'b (n s) h w c -> b n s h w c', s=seg_len + 1)
    return einops.rearrange(segments[:, :, 1:] - segments[:, :, :-1], 'b n s h w c -> b (n s) h w c')


_GIVEN: dict[str, Callable[[jax.Array, jax.Array, int], jax.Array]] = {
    'rgb': lambda frames, mirrored, seg_len: frames, 'flow': _flow, 'rgbdiff': _difference,
}  # fmt: skip


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
      frames: v arrays uint8[p h w c], the pictures of each view.
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
