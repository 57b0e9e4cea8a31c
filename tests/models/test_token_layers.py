"""The transformer's layers beside those of jax and flax, with their gradients; and the choice by backend."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.compared import RELATIVE, assert_same, normal
from vidcls.models import layers
from vidcls.models.cpu import token_ops


@pytest.mark.parametrize('n', [4, 5])
def test_attention_over_an_even_number_of_tokens(n):
    qkv = [normal(i, (2, n, 3, 7)) for i in range(3)]
    assert_same(lambda *x: layers.attend_even(*x, 'xla'), jax.nn.dot_product_attention, qkv, jnp.float32)


@pytest.mark.parametrize('n', [8, 197])
def test_the_fused_kernel_of_a_gpu(n):
    if jax.default_backend() != 'gpu':
        pytest.skip("cuDNN's kernel needs a GPU: JAX_PLATFORMS=cuda,cpu")
    qkv = [normal(i, (2, n, 3, 64), jnp.bfloat16) for i in range(3)]
    fused = lambda *x: layers.attend(*x, 'cudnn')
    assert_same(fused, jax.nn.dot_product_attention, qkv, jnp.bfloat16)


@pytest.mark.parametrize('which', ['each', 'xla'])
def test_gelu_of_an_export_is_that_of_jax(which):
    x = jnp.linspace(-9, 9, 10_001)
    with layers.forms(which):
        found = layers.gelu(x)
    np.testing.assert_allclose(found, jax.nn.gelu(x, approximate=False), atol=2e-6)


@pytest.mark.parametrize('dtype', RELATIVE)
def test_layer_norm_is_that_of_flax(dtype):
    x, scale, bias = 3 + normal(0, (2, 3, 5, 32), dtype), 1 + normal(1, (32,)), normal(2, (32,))
    theirs = nn.LayerNorm(epsilon=1e-6, dtype=dtype, use_fast_variance=False)
    assert_same(
        lambda x, scale, bias: layers.layer_norm(x, scale, bias, 1e-6),
        lambda x, scale, bias: theirs.apply({'params': {'scale': scale, 'bias': bias}}, x),
        [x, scale, bias],
        dtype,
    )


def test_layer_norm_by_hand():
    # Mean 2, variance 1 and an epsilon of 3: half of the distance from the mean.
    ours = layers.layer_norm(jnp.array([[1.0, 3]]), jnp.array([2.0, 1]), jnp.array([0, 10.0]), 3.0)
    np.testing.assert_allclose(ours, [[-1, 10.5]])


def test_layer_norm_keeps_a_small_spread_far_from_zero():
    x = 4096 + jnp.array([[-1.0, 1] * 8])
    y = layers.layer_norm(x, jnp.ones(16), jnp.zeros(16), 1e-6)
    np.testing.assert_allclose(y, [[-1, 1] * 8], rtol=1e-5)


def test_layer_norm_of_equal_values_is_its_bias():
    x, ones = jnp.full((1, 4), 7.0), jnp.ones(4)
    y, pull = jax.vjp(lambda x: layers.layer_norm(x, ones, 2 * ones, 1e-6), x)
    np.testing.assert_array_equal(y, [[2] * 4])
    assert np.isfinite(pull(jnp.arange(4.0)[None])[0]).all()


@pytest.mark.parametrize('backend, form', [('cpu', 'ours'), ('gpu', 'of jax')])
def test_the_backend_chooses_the_form(monkeypatch, backend, form):
    monkeypatch.setattr(jax, 'default_backend', lambda: backend)
    for module, name, made in (
        (token_ops, 'attend_cpu', 'ours'),
        (token_ops, 'gelu_cpu', 'ours'),
        (layers, 'attend_even', 'fused'),
        (jax.nn, 'dot_product_attention', 'of jax'),
        (jax.nn, 'gelu', 'of jax'),
    ):
        monkeypatch.setattr(module, name, lambda *_, made=made, **__: made)
    assert (layers.attend(0, 0, 0), layers.gelu(0)) == (form, form)
    assert [layers.attend(0, 0, 0, form) for form in ('xla', 'cudnn')] == ['of jax', 'fused']
