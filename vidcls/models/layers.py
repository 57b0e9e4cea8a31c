"""Layers of the networks, each in the form that suits the backend, or in the `forms` that an export asks for.

Convolution, pooling and batch normalisation take images [n h w c] or maps of clips [n t h w c]; attention, GELU and
layer normalisation take tokens [... n d]. `vidcls.models.cpu` has the forms for XLA's CPU backend, and only this module
chooses them. Every padding is explicit, because 'SAME' pads a strided convolution on the right only; the published
networks pad both sides.
"""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from vidcls.models.cpu import convolution, remat, token_ops

Implementation = Literal['xla', 'cudnn']  # of `jax.nn.dot_product_attention`
_FORMS: contextvars.ContextVar[str] = contextvars.ContextVar('forms', default='here')

# He et al. 2015 (arXiv:1502.01852) eq. 14, as torchvision's ResNet starts its convolutions.
kaiming_fan_out = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')


def convolve(x, kernel, stride: int, padding: int):
    """The convolution of x[n ... c] by kernel[... c c'], with `padding` zeros on every side."""
    return _in_form(convolution.convolve_cpu, convolution.convolve_xla, x, kernel, stride=stride, padding=padding)


def max_pool(x, window: int, stride: int, padding: int | tuple[int, int]):
    """The maximum over windows of x[n ... c]; the border counts as minus infinity.

    `padding` is the border's width: one number for all sides, or (before, after). With padding (0, 1), a window of 3
    and a stride of 2, this is the pool of Caffe, and of PyTorch in ceil mode.
    """
    return _in_form(
        convolution.max_pool_cpu, convolution.max_pool_xla, x, window=window, stride=stride, padding=padding
    )


def avg_pool(x, window: int, stride: int, padding: int | tuple[int, int]):
    """The mean over windows of x[n ... c]; the border counts as zeros."""
    total = _in_form(
        convolution.sum_pool_cpu, convolution.sum_pool_xla, x, window=window, stride=stride, padding=padding
    )
    return total / window ** (x.ndim - 2)


def attend(q, k, v, implementation: Implementation | None = None):
    """The attention softmax(q k' / sqrt(d)) v of each of m heads: three arrays [b n m d] -> [b n m d].

    The scores are float32. `implementation` is passed to `jax.nn.dot_product_attention`; None takes the form that suits
    the backend.
    """
    if implementation == 'cudnn':
        return attend_even(q, k, v, implementation)
    xla = functools.partial(jax.nn.dot_product_attention, implementation=implementation)
    return _in_form(xla if implementation else token_ops.attend_cpu, xla, q, k, v)


def attend_even(q, k, v, implementation: Implementation):
    """The result of `attend`, computed over an even number of tokens.

    An odd number gets one more token, which is zero and masked, because jax differentiates cuDNN's kernel for even
    numbers only.
    """
    n = q.shape[1]
    if n % 2 == 0:
        return jax.nn.dot_product_attention(q, k, v, implementation=implementation)
    q, k, v = (jnp.pad(x, ((0, 0), (0, 1), (0, 0), (0, 0))) for x in (q, k, v))
    lengths = jnp.full(q.shape[0], n, jnp.int32)
    out = jax.nn.dot_product_attention(
        q, k, v, query_seq_lengths=lengths, key_value_seq_lengths=lengths, implementation=implementation
    )
    return out[:, :n]


def gelu(x):
    """The GELU of x: x times the normal distribution function of x, not approximated.

    Hendrycks & Gimpel 2016, arXiv:1606.08415.
    """
    if _FORMS.get() != 'here':
        return _gelu_of_products(x)
    return token_ops.gelu_cpu(x) if on_cpu() else jax.nn.gelu(x, approximate=False)


def _gelu_of_products(x):
    """The GELU of x, made of sums, products and one quotient, for files that run elsewhere.

    TensorFlow 2.21 can't run the error function as jax writes it into a file, and tf2onnx 1.17 makes NaNs of the
    complementary error function. Here the error function is a quotient of polynomials, right to 4e-7. The coefficients
    are those of Eigen and XLA (ErfImpl32).
    """
    over = (
        -2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05,
        -7.34990630326855e-04, -2.95459980854025e-03, -1.60960333262415e-02,
    )  # fmt: skip
    under = (
        -1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03,
        -1.42647390514189e-02,
    )  # fmt: skip
    wide = x.astype(jnp.float32)
    y = jnp.clip(wide * 0.5**0.5, -4, 4)
    polynomial = lambda coefficients: jnp.polyval(jnp.array(coefficients, jnp.float32), y * y)
    return (0.5 * wide * (1 + y * polynomial(over) / polynomial(under))).astype(x.dtype)


def recomputed(block: nn.Module, x: jax.Array, train: bool) -> jax.Array:
    """The result of `block(x, train)`, whose activations are computed again in the backward pass instead of being kept.

    Every backend uses the form that XLA's CPU backend needs, so that dropout draws the same numbers on all of them.
    """
    return remat.recomputed(block, x, train)


def on_cpu() -> bool:
    return jax.default_backend() == 'cpu'


@contextlib.contextmanager
def forms(which: Literal['each', 'xla']) -> Iterator[None]:
    """While a network is traced for a file that runs elsewhere, which forms of its operations go into the file.

    Without this context they are those of the backend that is here, which must not reach another one.

    Args:
      which: 'each', the CPU's and XLA's own, one of which is taken where the file runs; 'xla', XLA's own alone, for a
        library that has fast convolutions itself.
    """
    token = _FORMS.set(which)
    try:
        yield
    finally:
        _FORMS.reset(token)


def _in_form(cpu: Callable, xla: Callable, *operands, **settings):
    """The operation on its operands, in the form for a CPU or in XLA's own."""
    cpu, xla = functools.partial(cpu, **settings), functools.partial(xla, **settings)
    which = _FORMS.get()
    if which == 'each':
        return lax.platform_dependent(*operands, cpu=cpu, default=xla)
    return (cpu if which == 'here' and on_cpu() else xla)(*operands)


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
        # The sum is float32 and rounded once. A rounded bias would move every output of a channel by the same amount,
        # and a norm with published statistics would not remove that shift.
        bias = self.param('bias', nn.initializers.zeros, (self.features,))
        return (y.astype(jnp.float32) + bias).astype(self.dtype)


class BatchNorm(nn.Module):
    """Batch normalisation over all axes except the last (Ioffe & Szegedy 2015, arXiv:1502.03167).

    Statistics and normalisation are float32 in every precision; the output is rounded once, to `dtype`. With momentum
    0.9, a step moves the running averages by a tenth of the way to the batch's statistics. As in PyTorch, the running
    variance is unbiased, so that published weights and ours mean the same, while the batch itself is normalised by its
    biased variance. With `axis_name` the statistics are taken over all devices of that pmap axis; without it, each
    device has its own.
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
        # One multiplication and one addition for each element are 6 % faster on the CPU than the usual order of
        # operations, and the centred input need not be kept for the backward pass.
        factor = scale * lax.rsqrt(var + self.epsilon)
        shift = bias - mean * factor
        return (x.astype(jnp.float32) * factor + shift).astype(self.dtype)


def batch_statistics(x, axis_name: str | None = None):
    """The mean float32[c] and the biased variance float32[c] of x[... c], and the number of values in each channel.

    With `axis_name`, the three are taken over all devices of that pmap axis.
    """
    x = x.astype(jnp.float32)
    axes = tuple(range(x.ndim - 1))
    mean, square = x.mean(axes), (x * x).mean(axes)
    count = x.size // x.shape[-1]
    if axis_name is not None:
        mean, square = lax.pmean((mean, square), axis_name)
        count *= lax.axis_size(axis_name)
    return mean, jnp.maximum(square - mean * mean, 0), count


class LayerNorm(nn.Module):
    """Layer normalisation of each token: [... d] -> [... d] of the same type. Scale and bias have d values each."""

    @nn.compact
    def __call__(self, x):
        scale = self.param('scale', nn.initializers.ones, x.shape[-1:])
        bias = self.param('bias', nn.initializers.zeros, x.shape[-1:])
        return layer_norm(x, scale, bias, 1e-6)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def layer_norm(x, scale, bias, epsilon: float):
    """The layer normalisation of x[... d] over its last axis (Ba et al. 2016, arXiv:1607.06450).

    The computation is float32, the result is of x's type. `scale` and `bias` are float32[d]. The gradients are written
    by hand, for reverse mode only: on the CPU they take 6 ms, and flax's form takes 15 ms (TimeSformer-B, one clip of 8
    frames, 2 threads).
    """
    return _normalise(x, scale, bias, epsilon)[0]


def _normalise(x, scale, bias, epsilon):
    wide = x.astype(jnp.float32)
    mean = wide.mean(-1, keepdims=True)
    factor = lax.rsqrt(jnp.square(wide - mean).mean(-1, keepdims=True) + epsilon)
    y = (wide - mean) * factor * scale + bias
    return y.astype(x.dtype), (x, scale, mean, factor)


def _layer_norm_gradients(epsilon, kept, gradient):
    x, scale, mean, factor = kept
    gradient = gradient.astype(jnp.float32)
    normalised = (x.astype(jnp.float32) - mean) * factor
    inner = gradient * scale
    along = inner.mean(-1, keepdims=True) + normalised * (inner * normalised).mean(-1, keepdims=True)
    tokens = tuple(range(x.ndim - 1))
    return ((inner - along) * factor).astype(x.dtype), (gradient * normalised).sum(tokens), gradient.sum(tokens)


layer_norm.defvjp(_normalise, _layer_norm_gradients)
