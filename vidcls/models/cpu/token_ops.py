"""The operations of a transformer's block: on tokens [... n d].

XLA compiles each as it finds it written, and on the CPU that decides the time. `attend` and `gelu`
choose their form by backend, `layer_norm` has one for all; the results are those of jax and flax up
to rounding. Times: the operation in TimeSformer-B, 8 frames of 224 pixels, one clip, float32, 2
threads of an AVX2 processor.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from vidcls.models.layers import on_cpu


def attend(q, k, v, implementation: str | None = None):
    """softmax(q k' / sqrt(k)) v for each head, k wide; scores float32: queries, keys and values [b n m k] -> [b n m k].

    `implementation` is that of `jax.nn.dot_product_attention`; None takes what suits the backend.
    """
    if implementation is None and on_cpu():
        return attend_cpu(q, k, v)
    if implementation == 'cudnn':
        return attend_even(q, k, v, implementation)
    return jax.nn.dot_product_attention(q, k, v, implementation=implementation)


def attend_even(q, k, v, implementation: str):
    """`attend` where one token more, zero and masked, makes their number even: jax trains cuDNN's kernel on no other."""
    n = q.shape[1]
    if n % 2 == 0:
        return jax.nn.dot_product_attention(q, k, v, implementation=implementation)
    q, k, v = (jnp.pad(x, ((0, 0), (0, 1), (0, 0), (0, 0))) for x in (q, k, v))
    lengths = jnp.full(len(q), n, jnp.int32)
    seen = jax.nn.dot_product_attention(
        q, k, v, query_seq_lengths=lengths, key_value_seq_lengths=lengths, implementation=implementation
    )
    return seen[:, :n]


def attend_cpu(q, k, v):
    """`attend` with the heads in front, where matrix products want them: 17 ms, not 39, for 197 tokens of 8 frames."""
    q, k, v = (jnp.swapaxes(x, -2, -3) for x in (q, k, v))
    scores = jnp.matmul(q, jnp.swapaxes(k, -1, -2), preferred_element_type=jnp.float32) * q.shape[-1] ** -0.5
    with jax.softmax_custom_jvp(True):  # else the exponentials are kept for the gradient, beside the result
        shares = jax.nn.softmax(scores, axis=-1)
    return jnp.swapaxes(shares.astype(v.dtype) @ v, -2, -3)


def gelu(x):
    """x times the normal distribution function of x (Hendrycks & Gimpel 2016, arXiv:1606.08415), not approximated."""
    return gelu_cpu(x) if on_cpu() else jax.nn.gelu(x, approximate=False)


@jax.custom_vjp
def gelu_cpu(x):
    """`gelu` by the error function, not its complement: 3 ms, not 6. In float32, and to 4e-7 there, as 1 + erf cancels.

    Its gradient is worked out from x: jax would keep three arrays of that size instead, whose memory takes longer to get.
    """
    wide = x.astype(jnp.float32)
    return (wide * _normal_below(wide)).astype(x.dtype)


def _normal_below(x):
    """The normal distribution function."""
    return 0.5 * (1 + lax.erf(x * 0.5**0.5))


def _gelu_gradient(x, gradient):
    wide = x.astype(jnp.float32)
    density = jnp.exp(-0.5 * wide * wide) * (2 * math.pi) ** -0.5
    return (((_normal_below(wide) + wide * density) * gradient.astype(jnp.float32)).astype(x.dtype),)


gelu_cpu.defvjp(lambda x: (gelu_cpu(x), x), _gelu_gradient)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def layer_norm(x, scale, bias, epsilon: float):
    """Layer normalisation over the last axis (Ba et al. 2016, arXiv:1607.06450), float32 within, of x's type.

    x is [... d]; scale and bias are float32 [d]. Reverse-mode gradients only: they take 6 ms, not 15 as of flax's.
    """
    return _normalise(x, scale, bias, epsilon)[0]


def _normalise(x, scale, bias, epsilon):
    wide = x.astype(jnp.float32)
    mean = wide.mean(-1, keepdims=True)
    factor = lax.rsqrt(jnp.square(wide - mean).mean(-1, keepdims=True) + epsilon)
    y = (wide - mean) * factor * scale + bias
    return y.astype(x.dtype), (x, scale, mean, factor)


def _gradients(epsilon, kept, gradient):
    x, scale, mean, factor = kept
    gradient = gradient.astype(jnp.float32)
    normalised = (x.astype(jnp.float32) - mean) * factor
    inner = gradient * scale
    along = inner.mean(-1, keepdims=True) + normalised * (inner * normalised).mean(-1, keepdims=True)
    tokens = tuple(range(x.ndim - 1))
    return ((inner - along) * factor).astype(x.dtype), (gradient * normalised).sum(tokens), gradient.sum(tokens)


layer_norm.defvjp(_normalise, _gradients)
