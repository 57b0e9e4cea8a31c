"""Resizing of position and time embeddings, for another frame size or number of frames than they were learnt with.

`pos_embed` [1 1+n d] has the embedding of CLS, then that of each patch of an h x w grid, row by row. `time_embed` [1 t d]
has the embedding of each frame. Positions are resized along both axes of the grid, times along their one axis. The
nearest-neighbour forms serve to repeat published results: they take index floor(i * old / new), as PyTorch does, where
`jax.image.resize` takes the nearest centre.
"""

from collections.abc import Sequence
from typing import Any

import einops
import jax
import jax.numpy as jnp
import numpy as np

from vidcls.errors import UserError


def resize_position(embedding, grid: tuple[int, int], new_grid: tuple[int, int], method: str = 'bilinear'):
    """The embedding [1 1+h*w d] of a grid (h, w) for `new_grid`; CLS's is kept.

    Args:
      method: 'bilinear'; or 'nearest', as the published network does for a frame of another size; or 'nearest_flat', as the
        published code does when it loads weights. 'nearest_flat' resizes the row-by-row list of patches, which mixes the
        rows and is right only when the grid stays the same.

    Raises:
      UserError: the embedding is not of such a grid.
      ValueError: an unknown method.
    """
    resize = _method(_POSITION, method)
    patches = embedding.shape[1] - 1
    if patches != grid[0] * grid[1]:
        raise UserError(f'pos_embed has {patches} patches beside CLS, which is not a grid of {grid[0]} x {grid[1]}')
    x = einops.rearrange(embedding[:, 1:], '1 (h w) d -> h w d', h=grid[0])
    x = einops.rearrange(resize(x, new_grid), 'h w d -> 1 (h w) d')
    return jnp.concatenate([embedding[:, :1], x], axis=1)


def resize_time(embedding, num_frames: int, method: str = 'linear'):
    """The embedding [1 t d] for `num_frames` frames; method 'linear' or 'nearest' (as published).

    Raises:
      ValueError: an unknown method.
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
    """TimeSformer's parameters for `num_frames` frames and a grid of patches `new_grid`, from those for `grid`.

    Raises:
      UserError: `grid` is not that of the parameters.
      ValueError: an unknown method.
    """
    resized = {**params, 'pos_embed': resize_position(params['pos_embed'], grid, new_grid, position)}
    if 'time_embed' in params:
        resized['time_embed'] = resize_time(params['time_embed'], num_frames, time)
    return resized


def _linear(x, sizes: Sequence[int]):
    """x[... d] resized along all axes but the last: linear between half-pixel centres, constant beyond the outer ones."""
    return jax.image.resize(x, (*sizes, x.shape[-1]), 'linear', antialias=False)


def _nearest(x, sizes: Sequence[int]):
    for axis, new in enumerate(sizes):
        # PyTorch multiplies in float32. The product may fall just short of a whole number, as from 8 to 82.
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
