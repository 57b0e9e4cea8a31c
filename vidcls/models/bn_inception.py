"""BN-Inception: images [n h w c] -> features [n d], and the intermediate map ("tap") that ECO's 3-D part reads.

Ioffe & Szegedy 2015 (arXiv:1502.03167), figure 5, in the form that TSN and ECO publish weights for: every convolution
has a bias and is followed by BatchNorm and ReLU; the maximum pools are Caffe's, in ceil mode, so that the sides are
112, 56, 28, 14 and 7; and the mean pools count their padding. The published name of a parameter is its path, joined by
underscores: `inception_3a/double_3x3_1/kernel` is `inception_3a_double_3x3_1.weight`, and the scale of its norm,
`inception_3a/double_3x3_1_bn/scale`, is `inception_3a_double_3x3_1_bn.weight`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from vidcls.models.layers import BatchNorm, Conv, avg_pool, max_pool

STEM_WIDTH = 64  # the channels of the first convolution for which the widths below are given

mean_3x3 = partial(avg_pool, window=3, stride=1, padding=1)
max_3x3 = partial(max_pool, window=3, stride=1, padding=1)
# `halve` is a pool in ceil mode. `halve_up` is the pool beside a strided convolution and has to round up as that
# convolution does. On an even side `halve_up` is ceil mode too. On an odd side the published layers don't fit together;
# here the pool sees one more column of the border.
halve = partial(max_pool, window=3, stride=2, padding=(0, 1))
halve_up = partial(max_pool, window=3, stride=2, padding=(0, 2))


class Branches(NamedTuple):
    """One Inception block: the channels of its convolutions, and its pool. A convolution of 0 channels is left out."""

    one: int  # 1x1
    reduce: int  # 1x1 before the 3x3
    three: int
    double_reduce: int  # 1x1 before the two 3x3
    double: int  # each of the two
    pool: Callable
    projection: int  # 1x1 after the pool; 0: the input's channels pass through
    stride: int = 1


# arXiv:1502.03167, figure 5, with the widths of the published weights: 4c to 4e are wider there than in
# the figure, and 5a and 5b end at 1024. The numbers on the right are the channels of the output.
BLOCKS = {
    'inception_3a': Branches(64, 64, 64, 64, 96, mean_3x3, 32),  # 256
    'inception_3b': Branches(64, 64, 96, 64, 96, mean_3x3, 64),  # 320
    'inception_3c': Branches(0, 128, 160, 64, 96, halve_up, 0, 2),  # 576
    'inception_4a': Branches(224, 64, 96, 96, 128, mean_3x3, 128),  # 576
    'inception_4b': Branches(192, 96, 128, 96, 128, mean_3x3, 128),  # 576
    'inception_4c': Branches(160, 128, 160, 128, 160, mean_3x3, 128),  # 608
    'inception_4d': Branches(96, 128, 192, 160, 192, mean_3x3, 128),  # 608
    'inception_4e': Branches(0, 128, 192, 192, 256, halve_up, 0, 2),  # 1056
    'inception_5a': Branches(352, 192, 320, 160, 224, mean_3x3, 128),  # 1024
    'inception_5b': Branches(352, 192, 320, 192, 224, max_3x3, 128),  # 1024
}
TAPPED = 'inception_3c'  # Zolfaghari et al. 2018 (arXiv:1804.09066), table 1


Unit = tuple[Conv, BatchNorm]


def unit(name: str, features: int, window: int, stride: int, width: int, dtype: Any, axis_name: str | None) -> Unit:
    """A convolution and its norm, under their published names: [n h w c] -> [n h/stride w/stride c']."""
    channels = max(1, features * width // STEM_WIDTH)
    conv = Conv(channels, (window, window), stride, window // 2, dtype, use_bias=True, name=name)
    return conv, BatchNorm(dtype=dtype, axis_name=axis_name, name=f'{name}_bn')


def activate(layers: Unit, x, train: bool):
    """Applies convolution, norm and ReLU to x[n h w c]."""
    conv, norm = layers
    return jax.nn.relu(norm(conv(x), not train))


class Inception(nn.Module):
    """A 1x1, a 3x3, two successive 3x3 and a pool, side by side: [n h w c] -> [n h/stride w/stride c']."""

    branches: Branches
    width: int = STEM_WIDTH
    dtype: Any = jnp.float32
    axis_name: str | None = None

    def setup(self):
        row = self.branches
        rows = {
            '1x1': (row.one, 1, 1),
            '3x3_reduce': (row.reduce, 1, 1),
            '3x3': (row.three, 3, row.stride),
            'double_3x3_reduce': (row.double_reduce, 1, 1),
            'double_3x3_1': (row.double, 3, 1),
            'double_3x3_2': (row.double, 3, row.stride),
            'pool_proj': (row.projection, 1, 1),
        }
        self.units = {
            name: unit(name, *values, self.width, self.dtype, self.axis_name)
            for name, values in rows.items()
            if values[0]
        }

    def tap(self, x, train: bool):
        """The output [n h w c'] of the first of the two successive 3x3. This convolution is never strided."""
        x = activate(self.units['double_3x3_reduce'], x, train)
        return activate(self.units['double_3x3_1'], x, train)

    def after_tap(self, x, tap, train: bool):
        """The block's output, given its input x and its tap."""
        three = activate(self.units['3x3_reduce'], x, train)
        outputs = [
            activate(self.units['3x3'], three, train),
            activate(self.units['double_3x3_2'], tap, train),
            self.branches.pool(x),
        ]
        if 'pool_proj' in self.units:
            outputs[-1] = activate(self.units['pool_proj'], outputs[-1], train)
        if '1x1' in self.units:
            outputs.insert(0, activate(self.units['1x1'], x, train))
        return jnp.concatenate(outputs, axis=-1)

    def __call__(self, x, train: bool):
        return self.after_tap(x, self.tap(x, train), train)


class BNInception(nn.Module):
    """BN-Inception up to its global average.

    Initialisation makes parameters only for the layers that the initialised method reaches. `width` is the number of
    channels of the first convolution; all other widths are in proportion to it. `remat` computes a block's activations
    again in the backward pass instead of keeping them.
    """

    width: int = STEM_WIDTH
    dtype: Any = jnp.float32
    axis_name: str | None = None
    remat: bool = False

    def setup(self):
        shared = {'width': self.width, 'dtype': self.dtype, 'axis_name': self.axis_name}
        self.conv1 = unit('conv1_7x7_s2', 64, 7, 2, **shared)
        self.reduce = unit('conv2_3x3_reduce', 64, 1, 1, **shared)
        self.conv2 = unit('conv2_3x3', 192, 3, 1, **shared)
        block = nn.remat(Inception, static_argnums=(2,)) if self.remat else Inception
        self.blocks = {name: block(branches, **shared, name=name) for name, branches in BLOCKS.items()}

    def __call__(self, x, train: bool = False):
        """The features float32 [n, 16 * width] of images [n h w c]."""
        return self.tap_and_features(x, train)[1]

    def tap(self, x, train: bool = False):
        """The output [n h/8 w/8 1.5*width] of `double_3x3_1` in block 3c, after its ReLU; later layers are not run."""
        return self.blocks[TAPPED].tap(self._before_tap(x, train), train)

    def tap_and_features(self, x, train: bool = False):
        """The result of `tap` and the features of `__call__`, in one pass."""
        x = self._before_tap(x, train)
        tap = self.blocks[TAPPED].tap(x, train)
        x = self.blocks[TAPPED].after_tap(x, tap, train)
        names = list(BLOCKS)
        for name in names[names.index(TAPPED) + 1 :]:
            x = self.blocks[name](x, train)
        return tap, x.mean((1, 2), dtype=jnp.float32)

    def _before_tap(self, x, train):
        x = halve(activate(self.conv1, x, train))
        x = activate(self.conv2, activate(self.reduce, x, train), train)
        x = halve(x)
        for name in BLOCKS:
            if name == TAPPED:
                return x
            x = self.blocks[name](x, train)
