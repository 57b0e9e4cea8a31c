"""The parts of a Vision Transformer: images -> tokens, and a block that maps tokens [b ... n d] to tokens [b ... n d].

Dosovitskiy et al. 2020 (arXiv:2010.11929), section 3.1, in the form that timm publishes weights for: pre-norm blocks,
LayerNorm with epsilon 1e-6, biased qkv, exact GELU. The names are timm's too: `blocks.0.attn.qkv.weight` is
`blocks_0/attn/qkv/kernel`. Axes between b and n count sequences; a token attends to its own sequence alone.
"""

from collections.abc import Callable
from typing import Any

import einops
import flax.linen as nn
import jax.numpy as jnp

from vidcls.models.layers import Implementation, LayerNorm, attend, gelu

MLP_RATIO = 4  # table 1: the MLP's hidden layer is four times as wide as a token

# The published `trunc_normal_(std=.02)` cuts at +-2, a hundred deviations away, so that it is the normal distribution.
dense_init = nn.initializers.normal(0.02)
# PyTorch's initialisation of a convolution: the published patch embedding is one.
patch_init = nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')


class PatchEmbed(nn.Module):
    """One token for each patch, row by row: images [... h*p w*p c] -> tokens [... h*w d].

    The embedding is a convolution whose stride is its kernel's size, written as one matrix product. The kernel of
    `proj` has the convolution's shape, [p p c d].
    """

    width: int
    patch_size: int
    dtype: Any

    @nn.compact
    def __call__(self, x):
        p = self.patch_size
        images = x.reshape(-1, *x.shape[-3:])  # TFLite transposes six axes at most
        patches = einops.rearrange(images, 'n (h p) (w q) c -> n (h w) p q c', p=p, q=p)
        project = nn.DenseGeneral(self.width, axis=(-3, -2, -1), dtype=self.dtype, kernel_init=patch_init, name='proj')
        tokens = project(patches)
        return tokens.reshape(*x.shape[:-3], *tokens.shape[1:])


class Attention(nn.Module):
    """Multi-head self-attention within each sequence: [... n d] -> [... n d].

    The layer `qkv` gives all queries, then all keys, then all values, each head by head, as in the published weights.
    `implementation` is passed to `jax.nn.dot_product_attention`: 'xla' runs on any backend; 'cudnn' is the fused kernel
    of a GPU, which takes bfloat16 only; None takes the form that suits the backend.
    """

    num_heads: int
    dtype: Any
    kernel_init: Callable = dense_init
    implementation: Implementation | None = None

    @nn.compact
    def __call__(self, x):
        d = x.shape[-1]
        qkv = nn.Dense(3 * d, dtype=self.dtype, kernel_init=self.kernel_init, name='qkv')(x)
        # Queries, keys and values are split before the heads: the gradient of this split is a concatenation. The
        # gradient of indexing an axis of three would be a sum of three padded arrays.
        parts = jnp.split(qkv, 3, axis=-1)
        q, k, v = (einops.rearrange(part, '... n (m k) -> (...) n m k', m=self.num_heads) for part in parts)
        y = attend(q, k, v, self.implementation)
        return nn.Dense(d, dtype=self.dtype, kernel_init=self.kernel_init, name='proj')(y.reshape(x.shape))


class MLP(nn.Module):
    """Two layers with a GELU between them, on each token: [... d] -> [... d]."""

    dtype: Any
    kernel_init: Callable = dense_init

    @nn.compact
    def __call__(self, x):
        d = x.shape[-1]
        x = nn.Dense(MLP_RATIO * d, dtype=self.dtype, kernel_init=self.kernel_init, name='fc1')(x)
        x = gelu(x)
        return nn.Dense(d, dtype=self.dtype, kernel_init=self.kernel_init, name='fc2')(x)


class Block(nn.Module):
    """Attention within each sequence, then the MLP, each added to its input: [b ... n d] -> [b ... n d].

    `drop_path` is the rate at which the attention, or the MLP, is left out in training; the function `drop_path` draws
    for each sequence by itself.
    """

    num_heads: int
    drop_path: float = 0.0
    dtype: Any = jnp.float32
    kernel_init: Callable = dense_init
    attention_implementation: Implementation | None = None

    @nn.compact
    def __call__(self, x, train: bool):
        attention = Attention(self.num_heads, self.dtype, self.kernel_init, self.attention_implementation, name='attn')
        x = x + drop_path(attention(LayerNorm(name='norm1')(x)), self.drop_path, train)
        mlp = MLP(self.dtype, self.kernel_init, name='mlp')
        return x + drop_path(mlp(LayerNorm(name='norm2')(x)), self.drop_path, train)


def drop_path(x, rate: float, train: bool):
    """Returns x[... n d]. In training each sequence [n d] is set to zero at this rate, or else divided by 1 - rate.

    This is stochastic depth (Huang et al. 2016, arXiv:1603.09382). Each sequence is drawn by itself, as in the code of
    TimeSformer's authors, in which all axes before n are the batch. Call the function within a module: the module's
    stream 'dropout' gives the random numbers.
    """
    return nn.Dropout(rate, broadcast_dims=(-2, -1))(x, deterministic=not train)
