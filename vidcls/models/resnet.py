"""ResNet with bottleneck blocks: images [n h w c] -> features [n d].

He et al. 2015 (arXiv:1512.03385), table 1, in the form that torchvision publishes weights for ("v1.5"): a strided block
strides in its 3x3 convolution, and every padding is on both sides. The scale of a block's last norm is initialised to
zero, so that every block starts as its shortcut (Goyal et al. 2017, arXiv:1706.02677, section 5.1); with a scale of one
the first losses were above 10. Our names have slashes and underscores where torchvision's have dots:
`layer1.0.conv1.weight` is `layer1_0/conv1/kernel`, and `layer1.0.downsample.1` is `layer1_0/downsample_1`.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vidcls.models.layers import BatchNorm, Conv, max_pool

EXPANSION = 4  # table 1: a block's output is four times as wide as its 3x3 convolution


class Bottleneck(nn.Module):
    """Convolutions 1x1, 3x3 and 1x1, and a shortcut: [n h w c] -> [n h/stride w/stride 4*width]."""

    width: int
    stride: int = 1
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train: bool):
        conv = partial(Conv, dtype=self.dtype)
        norm = partial(BatchNorm, dtype=self.dtype, axis_name=self.axis_name)
        out = EXPANSION * self.width
        y = conv(self.width, (1, 1), name='conv1')(x)
        y = jax.nn.relu(norm(name='bn1')(y, not train))
        y = conv(self.width, (3, 3), self.stride, 1, name='conv2')(y)
        y = jax.nn.relu(norm(name='bn2')(y, not train))
        y = norm(name='bn3', scale_init=nn.initializers.zeros)(conv(out, (1, 1), name='conv3')(y), not train)
        if self.stride != 1 or x.shape[-1] != out:
            x = conv(out, (1, 1), self.stride, name='downsample_0')(x)
            x = norm(name='downsample_1')(x, not train)
        return jax.nn.relu(x + y)


class ResNet(nn.Module):
    """ResNet up to its global average.

    `stage_sizes` has the number of blocks of each stage. `width` is the number of channels of the first stage's 3x3
    convolutions; each later stage halves height and width of the maps and doubles the channels. `remat` computes a
    block's activations again in the backward pass instead of keeping them.
    """

    stage_sizes: Sequence[int]
    width: int = 64
    dtype: Any = jnp.float32
    axis_name: str | None = None
    remat: bool = False

    @nn.compact
    def __call__(self, x, train: bool = False):
        """The features float32 [n, 4 * width * 2**(stages - 1)] of images [n h w c]."""
        x = Conv(self.width, (7, 7), 2, 3, self.dtype, name='conv1')(x)
        x = BatchNorm(dtype=self.dtype, axis_name=self.axis_name, name='bn1')(x, not train)
        x = max_pool(jax.nn.relu(x), window=3, stride=2, padding=1)
        block = nn.remat(Bottleneck, static_argnums=(2,)) if self.remat else Bottleneck
        for stage, blocks in enumerate(self.stage_sizes):
            for i in range(blocks):
                x = block(
                    width=self.width * 2**stage,
                    stride=2 if stage > 0 and i == 0 else 1,
                    dtype=self.dtype,
                    axis_name=self.axis_name,
                    name=f'layer{stage + 1}_{i}',
                )(x, train)
        return x.mean((1, 2), dtype=jnp.float32)
