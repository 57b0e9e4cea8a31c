"""The 3-D part of ECO: maps [n t h w c] of a clip's frames -> features [n d].

Zolfaghari et al. 2018 (arXiv:1804.09066), table 1: conv3_x to conv5_x of a 3-D ResNet-18 (Tran et al. 2017,
arXiv:1708.05038) over the maps of the frames. The paper doesn't draw the blocks; here they are laid out as in the
published weights. A block passes on its sum before norm and ReLU, convolutions have biases, and a strided shortcut is a
3x3x3 convolution without norm. The published name of a parameter is its path, joined by underscores:
`res4a/down/kernel` is `res4a_down.weight`.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vidcls.models.layers import BatchNorm, Conv

# Name, width as a multiple of the width of conv1_x (which ECO leaves out), stride in time and space.
ROWS = (
    ('res3a', 2, 1),
    ('res3b', 2, 1),
    ('res4a', 4, 2),
    ('res4b', 4, 1),
    ('res5a', 8, 2),
    ('res5b', 8, 1),
)
SHORTENS = 4  # the factor by which the strides divide the number of frames

conv3x3x3 = partial(Conv, kernel_size=(3, 3, 3), padding=1)


class Opening(nn.Module):
    """The first block: one convolution.

    Every block takes and returns a pair (x, x after norm and ReLU), both [n t h w c].
    """

    width: int
    stride: int = 1
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train: bool):
        raw = conv3x3x3(self.width, stride=self.stride, dtype=self.dtype, use_bias=True, name='2')(x[1])
        norm = BatchNorm(dtype=self.dtype, axis_name=self.axis_name, name='bn')
        return raw, jax.nn.relu(norm(raw, not train))


class PreActivation(nn.Module):
    """A block of two convolutions and a shortcut.

    Every convolution, the shortcut's included, sees its input after norm and ReLU. A shortcut without a convolution
    passes on the input before norm and ReLU.
    """

    width: int
    stride: int = 1
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train: bool):
        conv = partial(conv3x3x3, self.width, dtype=self.dtype, use_bias=True)
        norm = partial(BatchNorm, dtype=self.dtype, axis_name=self.axis_name)
        raw, active = x
        y = conv(stride=self.stride, name='1')(active)
        y = jax.nn.relu(norm(name='1_bn')(y, not train))
        y = conv(name='2')(y)
        if self.stride != 1 or raw.shape[-1] != self.width:
            raw = conv(stride=self.stride, name='down')(active)
        raw = raw + y
        return raw, jax.nn.relu(norm(name='bn')(raw, not train))


_BLOCKS = (Opening, *(PreActivation,) * 5)


class ResNet3D(nn.Module):
    """The blocks, then the average over time and space.

    `width` is the width of the ResNet's first stage, which ECO leaves out: the first block here is twice as wide.
    `remat` computes a block's activations again in the backward pass instead of keeping them.
    """

    width: int = 64
    dtype: Any = jnp.float32
    axis_name: str | None = None
    remat: bool = False

    @nn.compact
    def __call__(self, x, train: bool = False):
        """The features float32 [n, 8 * width] of maps [n t h w c]."""
        x = (x, x)
        for module, (name, widen, stride) in zip(_BLOCKS, ROWS, strict=True):
            block = nn.remat(module, static_argnums=(2,)) if self.remat else module
            x = block(widen * self.width, stride, self.dtype, self.axis_name, name=name)(x, train)
        return x[1].mean((1, 2, 3), dtype=jnp.float32)
