"""Turns windows of a uint8 canvas into normalised float32 frames, on the device, inside the jitted step.

The host hands over the canvas uint8[b p y x c], which has the p pictures of each clip (`vidcls.data.modality`), and the
windows int32[b v 5] of the clip's v views. Resizing a picture is two small matrix products, 2 % of a ResNet-50's
multiply-adds at 224 pixels. An accelerator does this in next to no time, and the host's cores are free for decoding. A
window's place is an offset in these matrices, so that ten crops are cut out of one canvas and each picture is decoded
once.
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
    """What the host hands to the device for a batch of b clips. Each clip is seen through v windows, one in training.

    Attributes:
      canvas: uint8[b p y x c], the pictures: RGB frames, or x and y of each frame's optical flow.
      windows: int32[b v 5], the numbers of each `windows.Window`: top, left, height and width on the canvas, in pixels;
        and 1 if the window is mirrored, else 0.
    """

    canvas: np.ndarray | jax.Array
    windows: np.ndarray | jax.Array


def transform(views: Views, config: Config) -> jax.Array:
    """Makes the network's input of each window: resizes it to a square, mirrors it if its flag is set, normalises it.

    Args:
      views: the canvas and windows of b clips.
      config: has the crop's size, the modality, and the mean and deviation of each channel.

    Returns:
      The network's input, float32[(b v) t h w c]. The views of a clip follow each other.
    """
    pictures = _resized(views, config.augment.crop_size)
    return network_input(pictures, jnp.asarray(views.windows[..., 4]).reshape(-1), config)


def network_input(pictures: jax.Array, mirrored: jax.Array, config: Config) -> jax.Array:
    """Makes the network's input, float32[b t h w c], of pictures that have the right size already, and normalises it.

    Args:
      pictures: values from 0 to 255, float32[b p h w c].
      mirrored: int[b], 1 where the pictures were mirrored.
      config: has the modality, and the mean and deviation of each channel.
    """
    video = _GIVEN[config.sampling.modality](pictures, mirrored, config.sampling.seg_len)
    pixel_mean, pixel_std = (255 * jnp.asarray(values, jnp.float32) for values in config.channels[1:])
    return (video - pixel_mean) / pixel_std


def resized(frames: np.ndarray, window: Window, size: int) -> np.ndarray:
    """Resizes a window of frames uint8[t h w c] as `transform` does, and rounds the result: uint8[t size size c]."""
    views = on_canvas([frames], [window], max(window.height, window.width))
    return np.asarray(jnp.round(_resized(views, size)[0]), np.uint8)


def _resized(views: Views, size: int) -> jax.Array:
    """Resizes each window to a square of `size` x `size` pixels: float32[(b v) p size size c].

    Resizing is bilinear. If the window shrinks, the filter is widened, as in PIL's `BILINEAR`.
    """
    height, width = views.canvas.shape[2:4]
    canvas = views.canvas.astype(jnp.float32)
    # Full precision: an accelerator's default would round pixels to 8 bits of mantissa.
    product = lambda pattern, *args: jnp.einsum(pattern, *args, precision='highest')

    def view(window: np.ndarray | jax.Array) -> jax.Array:
        top, left, rows, columns, flip = window.T
        vertical = resize_matrix(top, rows, size, height)
        horizontal = resize_matrix(left, columns, size, width)
        horizontal = jnp.where(flip[:, None, None] > 0, horizontal[:, ::-1], horizontal)
        video = product('b h y, b p y x c -> b p h x c', vertical, canvas)
        return product('b w x, b p h x c -> b p h w c', horizontal, video)

    video = jnp.stack([view(views.windows[:, number]) for number in range(views.windows.shape[1])], axis=1)
    return einops.rearrange(video, 'b v p h w c -> (b v) p h w c')


def _flow(pictures: jax.Array, mirrored: jax.Array, seg_len: int) -> jax.Array:
    """Joins the pictures of x and of y: [b p h w 1] -> flow [b t h w 2].

    Where `mirrored` int[b] is 1, motion to the right becomes motion to the left.
    """
    x, y = pictures[:, 0::2], pictures[:, 1::2]
    return jnp.concatenate([jnp.where(mirrored[:, None, None, None, None] > 0, 255 - x, x), y], axis=-1)


def _difference(frames: jax.Array, mirrored: jax.Array, seg_len: int) -> jax.Array:
    """The differences from each frame to the next: [b p h w c] -> [b t h w c].

    Each segment has `seg_len` + 1 frames, and so `seg_len` differences.
    """
    segments = einops.rearrange(frames, 'b (n s) h w c -> b n s h w c', s=seg_len + 1)
    return einops.rearrange(segments[:, :, 1:] - segments[:, :, :-1], 'b n s h w c -> b (n s) h w c')


_GIVEN: dict[str, Callable[[jax.Array, jax.Array, int], jax.Array]] = {
    'rgb': lambda frames, mirrored, seg_len: frames, 'flow': _flow, 'rgbdiff': _difference,
}  # fmt: skip


def resize_matrix(start: jax.Array, length: jax.Array, out: int, side: int) -> jax.Array:
    """The weights of a triangle filter that resizes `length` pixels to `out` pixels.

    Args:
      start, length: int[b]; the pixels to resize are `length` pixels from `start` on.
      out: the number of pixels after resizing.
      side: the number of pixels of the canvas.

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
    """Cuts windows out of decoded frames, and puts each on a canvas of its own.

    A fixed `side` gives the same shape to frames of all sizes, so that the step is compiled once.

    Args:
      frames: v arrays uint8[p h w c], the pictures of each view.
      windows: v windows.
      side: the height and width of a canvas, pixels; at least the height and the width of every window.

    Returns:
      `Views` of v clips with one window each. A window lies in the top left corner of its canvas.
    """
    canvas = np.zeros((len(frames), len(frames[0]), side, side, frames[0].shape[-1]), np.uint8)
    for view, (top, left, height, width, _) in enumerate(windows):
        canvas[view, :, :height, :width] = frames[view][:, top : top + height, left : left + width]
    placed = [[window._replace(top=0, left=0)] for window in windows]
    return Views(canvas, np.array(placed, np.int32))
