"""Occlusion, for every network: how much less sure of a class the network is when a block of the clip is covered.

Zeiler & Fergus 2014 (arXiv:1311.2901), section 4.2, with blocks of a video in place of squares of an image. The clip is
cut into t x h x w blocks. Each block in turn is covered with the mean that normalisation subtracts, so that it is zero
in the network's input. The block's cell is the fall of the class's log-probability, in nats; it is negative if the
class becomes more probable.

The method takes one forward pass for each block, and uses nothing of the network but its output. Evidence that stands
in several blocks at once is underestimated, because the other blocks still show it.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vidcls.config import Config
from vidcls.data.sampling import views_at_once
from vidcls.data.transform import Views, transform
from vidcls.errors import UserError

Grid = tuple[int, int, int]  # blocks in time, rows, columns
GRID: Grid = (4, 5, 5)  # the default; a clip of fewer frames has one block for each frame in time
MOST = 20_000  # blocks


def make(model: nn.Module, config: Config, grid: Grid = GRID) -> Callable[[Any, Views, int], dict[str, np.ndarray]]:
    """Returns a function (variables, views [1 1], label) -> cells {'blocks': float32[t h w]}, signed.

    Raises:
      UserError: the grid has no blocks, blocks smaller than a pixel, or more than `MOST` blocks.
    """
    frames, side, *_ = config.video_shape(training=False)
    shown = 'x'.join(map(str, grid))
    if len(grid) != 3 or min(grid) < 1 or max(grid[1:]) > side:
        raise UserError(f'grid {shown}: must be blocks in time, rows and columns, from 1 to {side} rows and columns')
    grid = (min(grid[0], frames), *grid[1:])
    total = int(np.prod(grid))
    if total > MOST:
        raise UserError(f'grid {shown}: has {total:,} blocks, each a pass of the network; at most {MOST:,}')
    size = min(views_at_once(config), total + 1)

    @jax.jit
    def log_probabilities(variables: Any, views: Views, blocks: jax.Array, label: int) -> jax.Array:
        """float32[n]: the label's log-probability while each of the blocks int32[n] in turn is covered.

        With block number `total` nothing is covered.
        """
        video = transform(views, config)
        covered = block_of_pixels(video.shape[1:4], grid)[None, ..., None] == blocks[:, None, None, None, None]
        logits: Any = model.apply(variables, jnp.where(covered, 0, video), train=False)
        return jax.nn.log_softmax(logits.astype(jnp.float32))[:, label]

    def cells(variables: Any, views: Views, label: int) -> dict[str, np.ndarray]:
        numbers = np.arange(total + 1, dtype=np.int32)
        numbers = np.pad(numbers, (0, -len(numbers) % size), mode='edge')  # so that a single shape is compiled
        parts = [log_probabilities(variables, views, part, label) for part in numbers.reshape(-1, size)]
        found = np.concatenate([np.asarray(part) for part in parts])[: total + 1]
        return {'blocks': (found[total] - found[:total]).reshape(grid)}

    return cells


def block_of_pixels(shape: tuple[int, ...], grid: Grid) -> np.ndarray:
    """int32[t h w]: the number of each pixel's block, which is (block in time * rows + row) * columns + column."""
    t, h, w = (np.floor((np.arange(size) + 0.5) * parts / size).astype(np.int32) for size, parts in zip(shape, grid))
    return (t[:, None, None] * grid[1] + h[None, :, None]) * grid[2] + w[None, None, :]
