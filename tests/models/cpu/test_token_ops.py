"""A transformer's operations beside those of jax and flax, with their gradients."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidcls.models.cpu import token_ops

RELATIVE = {jnp.float32: 2e-6, jnp.bfloat16: 0.02}  # of the largest value


def normal(seed, shape, dtype=jnp.float32):
    return jax.random.normal(jax.random.key(seed), shape, dtype)


def assert_same(ours, theirs, inputs, dtype):
    """Outputs, and the gradients of every input of one weighted sum of them."""
    theirs_y, ours_y = theirs(*inputs), ours(*inputs)
    weights = normal(9, ours_y.shape)
    found = [
        jax.grad(lambda inputs, f=f: (f(*inputs).astype(jnp.float32) * weights).sum())(inputs) for f in (ours, theirs)
    ]
    assert ours_y.dtype == theirs_y.dtype == dtype
    for one, other in zip((ours_y, *found[0]), (theirs_y, *found[1]), strict=True):
        other = np.asarray(other, np.float32)
        np.testing.assert_allclose(np.asarray(one, np.float32), other, atol=RELATIVE[dtype] * np.abs(other).max())


@pytest.mark.parametrize('dtype', RELATIVE)
def test_attention_is_that_of_jax(dtype):
    qkv = [normal(i, (2, 5, 3, 7), dtype) for i in range(3)]
    assert_same(token_ops.attend_cpu, jax.nn.dot_product_attention, qkv, dtype)


@pytest.mark.parametrize('n', [4, 5])
def test_attention_over_an_even_number_of_tokens(n):
    qkv = [normal(i, (2, n, 3, 7)) for i in range(3)]
    assert_same(lambda *x: token_ops.attend_even(*x, 'xla'), jax.nn.dot_product_attention, qkv, jnp.float32)


@pytest.mark.parametrize('n', [8, 197])
def test_the_fused_kernel_of_a_gpu(n):
    if jax.default_backend() != 'gpu':
        pytest.skip("cuDNN's kernel needs a GPU: JAX_PLATFORMS=cuda,cpu")
    qkv = [normal(i, (2, n, 3, 64), jnp.bfloat16) for i in range(3)]
    fused = lambda *x: token_ops.attend(*x, 'cudnn')
    assert_same(fused, jax.nn.dot_product_attention, qkv, jnp.bfloat16)


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


@pytest.mark.parametrize('dtype', RELATIVE)
def test_layer_norm_is_that_of_flax(dtype):
    x, scale, bias = 3 + normal(0, (2, 3, 5, 32), dtype), 1 + normal(1, (32,)), normal(2, (32,))
    theirs = nn.LayerNorm(epsilon=1e-6, dtype=dtype, use_fast_variance=False)
    assert_same(
        lambda x, scale, bias: token_ops.layer_norm(x, scale, bias, 1e-6),
        lambda x, scale, bias: theirs.apply({'params': {'scale': scale, 'bias': bias}}, x),
        [x, scale, bias],
        dtype,
    )


def test_layer_norm_by_hand():
    # Mean 2, variance 1 and an epsilon of 3: half of the distance from the mean.
    ours = token_ops.layer_norm(jnp.array([[1.0, 3]]), jnp.array([2.0, 1]), jnp.array([0, 10.0]), 3.0)
    np.testing.assert_allclose(ours, [[-1, 10.5]])


def test_layer_norm_keeps_a_small_spread_far_from_zero():
    x = 4096 + jnp.array([[-1.0, 1] * 8])
    y = token_ops.layer_norm(x, jnp.ones(16), jnp.zeros(16), 1e-6)
    np.testing.assert_allclose(y, [[-1, 1] * 8], rtol=1e-5)


def test_layer_norm_of_equal_values_is_its_bias():
    x, ones = jnp.full((1, 4), 7.0), jnp.ones(4)
    y, pull = jax.vjp(lambda x: token_ops.layer_norm(x, ones, 2 * ones, 1e-6), x)
    np.testing.assert_array_equal(y, [[2] * 4])
    assert np.isfinite(pull(jnp.arange(4.0)[None])[0]).all()


@pytest.mark.parametrize('backend, form', [('cpu', 'ours'), ('gpu', 'of jax')])
def test_the_backend_chooses_the_form(monkeypatch, backend, form):
    monkeypatch.setattr(jax, 'default_backend', lambda: backend)
    for module, name, made in (
        (token_ops, 'attend_cpu', 'ours'),
        (token_ops, 'gelu_cpu', 'ours'),
        (token_ops, 'attend_even', 'fused'),
        (jax.nn, 'dot_product_attention', 'of jax'),
        (jax.nn, 'gelu', 'of jax'),
    ):
        monkeypatch.setattr(module, name, lambda *_, made=made, **__: made)
    assert (token_ops.attend(0, 0, 0), token_ops.gelu(0)) == (form, form)
    assert [token_ops.attend(0, 0, 0, form) for form in ('xla', 'cudnn')] == ['of jax', 'fused']
