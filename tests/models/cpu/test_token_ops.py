"""The CPU's forms of attention and GELU beside those of jax, with their gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.compared import RELATIVE, assert_same, normal
from vidcls.models.cpu import token_ops


@pytest.mark.parametrize('dtype', RELATIVE)
def test_attention_is_that_of_jax(dtype):
    qkv = [normal(i, (2, 5, 3, 7), dtype) for i in range(3)]
    assert_same(token_ops.attend_cpu, jax.nn.dot_product_attention, qkv, dtype)


def test_scores_of_bfloat16_are_float32():
    # Queries and keys of deviation 4, 48 wide: scaled in bfloat16 they would be 0.24 off, five times as far.
    q, k, v = (4 * normal(i, (1, 50, 1, 48), jnp.bfloat16) for i in range(3))
    exact = jax.nn.dot_product_attention(*(x.astype(jnp.float32) for x in (q, k, v)))
    np.testing.assert_allclose(token_ops.attend_cpu(q, k, v).astype(jnp.float32), exact, atol=0.08)


def test_attention_by_hand():
    # One head of one value: q k' is [0 0; ln3 0], so token 0 sees the mean, token 1 three quarters of the first.
    q, k, v = (jnp.array(x, jnp.float32).reshape(1, 2, 1, 1) for x in ([0, 1], [np.log(3), 0], [4, 8]))
    np.testing.assert_allclose(token_ops.attend_cpu(q, k, v).ravel(), [6, 5], rtol=1e-6)


@pytest.mark.parametrize('dtype', RELATIVE)
def test_gelu_is_that_of_jax(dtype):
    x = jnp.linspace(-9, 9, 1001).astype(dtype)
    assert_same(token_ops.gelu_cpu, lambda x: jax.nn.gelu(x, approximate=False), [x], dtype)


@pytest.mark.parametrize('dtype', RELATIVE)
def test_the_gradient_of_gelu_needs_its_input_alone(dtype):
    x = normal(0, (3, 5), dtype)
    (kept,) = jax.tree.leaves(jax.vjp(token_ops.gelu_cpu, x)[1])
    np.testing.assert_array_equal(kept, x)
    np.testing.assert_allclose(jax.grad(token_ops.gelu_cpu)(jnp.float32(0)), 0.5, rtol=1e-6)


def test_the_gradient_of_attention_needs_the_scores_once():
    qkv = [normal(i, (2, 11, 3, 7)) for i in range(3)]
    kept = jax.tree.leaves(jax.vjp(token_ops.attend_cpu, *qkv)[1])
    # The result of the softmax, for its own gradient and for that of the product behind it.
    assert len({np.asarray(x).tobytes() for x in kept if x.shape == (2, 3, 11, 11)}) == 1
