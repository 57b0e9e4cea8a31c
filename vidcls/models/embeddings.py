"""Resizes position and time embeddings, for another frame size or number of frames than they were learnt with.

`pos_embed` [1 1+n d] has the embedding of CLS, then the embeddings of the n patches of an h x w grid, row by row.
`time_embed` [1 t d] has the embedding of each frame. Positions are resized along both axes of the grid, times along
their one axis. The nearest-neighbour forms exist to repeat published results: they read at index floor(i * old / new),
as PyTorch does; `jax.image.resize` would read at the nearest centre.
"""

from collections.abc import Sequence
from typing import Any

import einops
import jax
import jax.numpy as jnp
import numpy as np

from vidcls.errors import UserError


def resize_position(embedding, grid: tuple[int, int], new_grid: tuple[int, int], method: str = 'bilinear'):
    """The embedding [1 1+h*w d] of a grid (h, w), resized to `new_grid`. The embedding of CLS is kept.

    Args:
      method: 'bilinear', 'nearest' or 'nearest_flat'. The published network uses 'nearest' for a frame of another size.
        The published code uses 'nearest_flat' when it loads weights: it resizes the row-by-row list of patches, which
        mixes the rows and is right only when the grid stays the same.

    Raises:
      UserError: the embedding has not h * w patches.
      ValueError: the method is unknown.
    """
    resize = _method(_POSITION, method)
    patches = embedding.shape[1] - 1
    if patches != grid[0] * grid[1]:
        raise UserError(f'pos_embed has {patches} patches beside CLS, which is not a grid of {grid[0]} x {grid[1]}')
    x = einops.rearrange(embedding[:, 1:], '1 (h w) d -> h w d', h=grid[0])
    x = einops.rearrange(resize(x, new_grid), 'h w d -> 1 (h w) d')
    return jnp.concatenate([embedding[:, :1], x], axis=1)


def resize_time(embedding, num_frames: int, method: str = 'linear'):
    """The embedding [1 t d], resized to `num_frames` frames.

    Args:
      method: 'linear', or 'nearest' as published.

    Raises:
      ValueError: the method is unknown.
    """
    return _method(_TIME, method)(embedding[0], (num_frames,))[None]


def resize_embeddings(
    params: dict[str, Any],
    grid: tuple[int, int],
    new_grid: tuple[int, int],
    num_frames: int,
    position: str = 'bilinear',
    time: str = 'linear',
) -> dict[str, Any]:
    """TimeSformer's parameters, resized from a `grid` of patches to `new_grid`, and to `num_frames` frames.

    Args:
      position: the method of `resize_position`.
      time: the method of `resize_time`.

    Raises:
      UserError: the parameters have another number of patches than `grid`.
      ValueError: a method is unknown.
    """
    resized = {**params, 'pos_embed': resize_position(params['pos_embed'], grid, new_grid, position)}
    if 'time_embed' in params:
        resized['time_embed'] = resize_time(params['time_embed'], num_frames, time)
    return resized


def _linear(x, sizes: Sequence[int]):
    """x[... d], resized along all axes except the last.

    The values are linear between half-pixel centres, and constant beyond the outer centres.
    """
    return jax.image.resize(x, (*sizes, x.shape[-1]), 'linear', antialias=False)


def _nearest(x, sizes: Sequence[int]):
    for axis, new in enumerate(sizes):
        # PyTorch multiplies in float32. The product may fall just short of a whole number, for example from 8 to 82.
        index = np.arange(new, dtype=np.float32) * np.float32(x.shape[axis] / new)
        x = jnp.take(x, index.astype(np.int32), axis)
    return x


def _nearest_flat(x, sizes: Sequence[int]):
    h, w = sizes
    flat = _nearest(einops.rearrange(x, 'h w d -> (h w) d'), (h * w,))
    return einops.rearrange(flat, '(h w) d -> h w d', h=h)


_POSITION = {'bilinear': _linear, 'nearest': _nearest, 'nearest_flat': _nearest_flat}
_TIME = {'linear': _linear, 'nearest': _nearest}


def _method(known: dict, method: str):
    if method not in known:
        raise ValueError(f'unknown method {method!r}; known: {", ".join(known)}')
    return known[method]
