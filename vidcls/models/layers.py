"""Layers of the convolutional networks: convolution, pooling and batch normalisation.

Pictures are [n h w c], clips of them [n t h w c]. Every padding is explicit, because 'SAME' pads a
strided convolution on the right only, where the published networks pad both sides.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from vidcls.models.cpu import convolution

# He et al. 2015 (arXiv:1502.01852) eq. 14, as torchvision's ResNet starts its convolutions.
kaiming_fan_out = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')


def convolve(x, kernel, stride: int, padding: int):
    """x[n ... c] by kernel[... c c'], in the form that suits the backend; `padding` on all sides."""
    form = convolution.convolve_cpu if on_cpu() else convolution.convolve_xla
    return form(x, kernel, stride, padding)


def max_pool(x, window: int, stride: int, padding: int | tuple[int, int]):
    """The maximum over windows of x[n ... c]; the border counts as minus infinity.

    `padding` is the border's width, on all sides or (before, after): with (0, 1) a window of 3 that
    moves by 2 is Caffe's and PyTorch's ceil mode.
    """
    form = convolution.max_pool_cpu if on_cpu() else convolution.max_pool_xla
    return form(x, window, stride, padding)


def avg_pool(x, window: int, stride: int, padding: int | tuple[int, int]):
    """The mean over windows of x[n ... c]; the border counts, as zeros."""
    form = convolution.sum_pool_cpu if on_cpu() else convolution.sum_pool_xla
    return form(x, window, stride, padding) / window ** (x.ndim - 2)


def on_cpu() -> bool:
    return jax.default_backend() == 'cpu'


class Conv(nn.Module):
    """A convolution, computed in `dtype`: [n ... c] -> [n ... features]."""

    features: int
    kernel_size: Sequence[int]
    stride: int = 1
    padding: int = 0
    dtype: Any = jnp.float32
    use_bias: bool = False

    @nn.compact
    def __call__(self, x):
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param('kernel', kaiming_fan_out, shape).astype(self.dtype)
        y = convolve(x.astype(self.dtype), kernel, self.stride, self.padding)
        if not self.use_bias:
            return y
        # In float32, rounded once: of a rounded bias every output of a channel would be off by the same amount, which a
        # norm with published statistics takes for a shift.
        bias = self.param('bias', nn.initializers.zeros, (self.features,))
        return (y.astype(jnp.float32) + bias).astype(self.dtype)


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last (Ioffe & Szegedy 2015, arXiv:1502.03167).

    The statistics and the normalisation are float32 whatever the compute type; the output is rounded to
    it, once. The running averages move by 0.1 a step (momentum 0.9) and, as in PyTorch, hold the unbiased
    variance, so that published weights and ours mean the same; the batch itself is normalised by the
    biased one. With `axis_name` the statistics are those of all devices of that pmap axis together, else
    each device's own.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: Any = jnp.float32
    axis_name: str | None = None
    scale_init: Callable = nn.initializers.ones

    @nn.compact
    def __call__(self, x, use_running_average: bool):
        channels = x.shape[-1:]
        scale = self.param('scale', self.scale_init, channels)
        bias = self.param('bias', nn.initializers.zeros, channels)
        running_mean = self.variable('batch_stats', 'mean', jnp.zeros, channels)
        running_var = self.variable('batch_stats', 'var', jnp.ones, channels)
        if use_running_average:
            mean, var = running_mean.value, running_var.value
        else:
            axis_name = None if self.is_initializing() else self.axis_name
            mean, var, count = batch_statistics(x, axis_name)
            if not self.is_initializing():
                unbiased = var * (count / max(count - 1, 1))
                keep = self.momentum
                running_mean.value = keep * running_mean.value + (1 - keep) * mean
                running_var.value = keep * running_var.value + (1 - keep) * unbiased
        # One multiplication and one addition an element: 6 % faster on the CPU than the textbook
        # order of operations, and the centred input need not be kept for the backward pass.
        factor = scale * lax.rsqrt(var + self.epsilon)
        shift = bias - mean * factor
        return (x.astype(jnp.float32) * factor + shift).astype(self.dtype)


def batch_statistics(x, axis_name: str | None = None):
    """Mean and biased variance (float32 [c]) of x[... c], and the number of values behind each."""
    x = x.astype(jnp.float32)
    axes = tuple(range(x.ndim - 1))
    mean, square = x.mean(axes), (x * x).mean(axes)
    count = x.size // x.shape[-1]
    if axis_name is not None:
        mean, square = lax.pmean((mean, square), axis_name)
        count *= lax.axis_size(axis_name)
    return mean, jnp.maximum(square - mean * mean, 0), count
