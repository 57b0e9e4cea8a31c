"""Makes an array of another library fit a variable of ours in order of axes, type, channels, frames and positions.

"Ours" and "theirs" have the same meaning as in `vidcls.pretrained.layout`.
"""

import re

import flax.linen as nn
import numpy as np

from vidcls.models import embeddings
from vidcls.pretrained.layout import Layout

# How a reason begins: with NEW if a parameter starts without an array of theirs, with RESIZED if the array was resized.
NEW, RESIZED = 'new: ', 'resized'
FIRST_CONVOLUTION = re.compile(r'(backbone/conv1|backbone/conv1_7x7_s2|patch_embed/proj)/kernel')


class Misfit(ValueError):
    """An array can't be made to fit; the message says why."""


class OtherClasses(ValueError):
    """An array belongs to a classifier for another number of classes."""


def in_our_axes(layout: Layout, found: list[np.ndarray], leaf: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns their arrays in our order of axes, joined into one array if there are several.

    Args:
      layout: the layout of the arrays.
      found: their arrays for one variable of ours.
      leaf: the last name in the variable's path, such as 'kernel'.
      shape: the shape of the variable.

    Raises:
      Misfit: the arrays can't be joined.
    """
    try:
        return layout.to_ours(found, leaf, shape)
    except ValueError as error:
        raise Misfit(f'of shapes {[x.shape for x in found]}, needed {shape} in our order of axes') from error


def fit(path: str, found: np.ndarray, shape: tuple[int, ...], model: nn.Module) -> tuple[np.ndarray, str]:
    """Returns the array in our shape, as float32, and a text that says how it was changed ('' if it was not).

    Args:
      path: the path of our variable, such as 'blocks_0/attn/qkv/kernel'.
      found: their array, in our order of axes.
      shape: the shape of our variable.
      model: our network. Position embeddings are resized to its `grid`, which is the number of patches (down, across).

    Raises:
      Misfit: the array's shape doesn't fit, the array is empty, or its values are not finite floating-point numbers.
      OtherClasses: the array belongs to a classifier for another number of classes.
    """
    # Integers are refused because they are quantised values, whose scale is stored elsewhere.
    if found.dtype.kind != 'f' and found.dtype.name != 'bfloat16':
        raise Misfit(f'holds {found.dtype}, no floating-point numbers')
    if not found.size:
        raise Misfit(f'of shape {found.shape} holds no numbers')
    # Shapes are compared before numbers are converted, so that an array that doesn't fit costs no memory.
    if found.shape == shape:
        return _numbers(found), ''
    if FIRST_CONVOLUTION.fullmatch(path) and found.ndim == 4 and _same_but(found.shape, shape, 2):
        if found.shape[2] % 3:
            raise Misfit(
                f'takes {found.shape[2]} channels, which are no colours: x and y of {found.shape[2] / 2:g} frames of optical '
                f'flow? Then --config.sampling.modality=flow --config.sampling.seg_len={found.shape[2] // 2}'
            )
        mean = np.repeat(_numbers(found).mean(2, keepdims=True), shape[2], axis=2)
        return mean, f'the mean over {found.shape[2]} channels in each of {shape[2]}'
    # ECO-pytorch's 3-D part was trained alone, on features with more channels. ECO takes the kernel of the first
    # channels.
    if (
        path == 'tail/res3a/2/kernel'
        and found.ndim == 5
        and _same_but(found.shape, shape, 3)
        and found.shape[3] > shape[3]
    ):
        return _numbers(found)[..., : shape[3], :], f'the first {shape[3]} of {found.shape[3]} channels'
    if path == 'pos_embed' and _same_but(found.shape, shape, 1) and found.shape[1] > 1:
        side = round((found.shape[1] - 1) ** 0.5)
        if side * side == found.shape[1] - 1:
            resized = np.asarray(embeddings.resize_position(_numbers(found), (side, side), model.grid))
            return resized, f'{RESIZED} from {side} x {side} patches to {model.grid[0]} x {model.grid[1]}'
    if path == 'time_embed' and _same_but(found.shape, shape, 1):
        resized = np.asarray(embeddings.resize_time(_numbers(found), shape[1]))
        return resized, f'{RESIZED} from {found.shape[1]} frames to {shape[1]}'
    if path.startswith('head/') and found.ndim == len(shape) and found.shape[-1] != shape[-1]:
        raise OtherClasses(f'{found.shape[-1]} classes there, {shape[-1]} here')
    raise Misfit(f'of shape {found.shape} in our order of axes, needed {shape}')


def _numbers(found: np.ndarray) -> np.ndarray:
    """Returns the array as float32; raises Misfit if a number is not finite."""
    with np.errstate(over='ignore'):
        found = found.astype(np.float32)
    if not np.isfinite(found).all():
        raise Misfit('holds numbers that are not finite')
    return found


def _same_but(one: tuple[int, ...], other: tuple[int, ...], axis: int) -> bool:
    return len(one) == len(other) and all(a == b for i, (a, b) in enumerate(zip(one, other)) if i != axis)
