import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidcls.models.layers import BatchNorm, Conv


def test_a_strided_convolution_pads_both_sides():
    # 3x3 of ones over 4x4 of ones: the padding that torchvision has sees the border at the top
    # left; 'SAME' would see it at the bottom right and give [[9, 6], [6, 4]].
    conv = Conv(1, (3, 3), stride=2, padding=1)
    kernel = {'params': {'kernel': jnp.ones((3, 3, 1, 1))}}
    y = conv.apply(kernel, jnp.ones((1, 4, 4, 1)))
    np.testing.assert_array_equal(y[0, ..., 0], [[4, 6], [6, 9]])


def test_a_bias_is_added_once_where_asked_for():
    conv = Conv(2, (1, 1), use_bias=True)
    params = {'kernel': jnp.ones((1, 1, 1, 2)), 'bias': jnp.array([1.0, -2])}
    y = conv.apply({'params': params}, jnp.full((1, 1, 1, 1), 5.0))
    np.testing.assert_array_equal(y[0, 0, 0], [6, 3])
    started = conv.init(jax.random.key(0), jnp.zeros((1, 1, 1, 1)))['params']
    assert set(started) == {'kernel', 'bias'} and not started['bias'].any()


def test_convolutions_start_with_kaiming_fan_out():
    variables = Conv(256, (3, 3)).init(jax.random.key(0), jnp.zeros((1, 3, 3, 64)))
    kernel = variables['params']['kernel']
    assert set(variables['params']) == {'kernel'} and kernel.dtype == jnp.float32
    assert np.std(kernel) == pytest.approx(np.sqrt(2 / (9 * 256)), rel=0.01)


def test_batchnorm_by_hand():
    norm = BatchNorm()
    x = jnp.array([[1.0, 10], [3, 10]])  # means 2 and 10, variances 1 and 0, unbiased 2 and 0
    variables = norm.init(jax.random.key(0), x, False)
    variables['params'] = {'scale': jnp.array([2.0, 1]), 'bias': jnp.array([0.5, -1])}
    y, updated = norm.apply(variables, x, False, mutable=['batch_stats'])
    np.testing.assert_allclose(y, [[-1.5, -1], [2.5, -1]], atol=2e-5)
    np.testing.assert_allclose(updated['batch_stats']['mean'], [0.2, 1.0], rtol=1e-6)
    np.testing.assert_allclose(updated['batch_stats']['var'], [0.9 + 0.1 * 2, 0.9], rtol=1e-6)

    variables['batch_stats'] = {'mean': jnp.array([1.0, 8]), 'var': jnp.array([4.0, 1])}
    y = norm.apply(variables, x, True)
    np.testing.assert_allclose(y, [[0.5, 1], [2.5, 1]], atol=2e-5)


def test_batchnorm_statistics_are_float32_under_bfloat16():
    # Of 4096 values near 100 bfloat16 has the mean to 0.5 at best; the float32 sums have it.
    x = jnp.asarray(100 + np.random.default_rng(0).normal(size=(4096, 1)), jnp.bfloat16)
    norm = BatchNorm(dtype=jnp.bfloat16)
    variables = norm.init(jax.random.key(0), x, False)
    y, updated = norm.apply(variables, x, False, mutable=['batch_stats'])
    assert y.dtype == jnp.bfloat16
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(updated))
    mean = np.asarray(x, np.float64).mean()
    assert float(updated['batch_stats']['mean'][0]) == pytest.approx(0.1 * mean, rel=1e-5)


@pytest.mark.parametrize('deviations', [0, 3, 10, 30])
@pytest.mark.parametrize('training', [True, False])
def test_batchnorm_in_bfloat16_is_rounded_once(deviations, training):
    spread = np.random.default_rng(0).uniform(-(3**0.5), 3**0.5, (4096, 8))  # of deviation 1
    x = jnp.asarray(deviations + spread, jnp.bfloat16)
    wide = np.asarray(x, np.float64)
    mean, var = wide.mean(0), wide.var(0)
    exact = (wide - mean) / np.sqrt(var + 1e-5)
    variables = {
        'params': {'scale': jnp.ones(8), 'bias': jnp.zeros(8)},
        'batch_stats': {'mean': jnp.float32(mean), 'var': jnp.float32(var)},
    }
    ours = BatchNorm(dtype=jnp.bfloat16).apply(variables, x, not training, mutable=['batch_stats'])[0]
    flaxs = nn.BatchNorm(not training, dtype=jnp.bfloat16).apply(variables, x, mutable=['batch_stats'])[0]
    off, flax_off = (np.asarray(y, np.float64) - exact for y in (ours, flaxs))
    assert np.abs(exact).max() < 2
    # Half of what bfloat16 tells apart between 1 and 2, and next to nothing on average.
    assert np.abs(off).max() < 2**-8 + 1e-4
    assert np.abs(off.mean(0)).max() < 2e-3
    assert np.abs(off).max() < np.abs(flax_off).max() + 1e-4


def test_a_convolutions_bias_is_not_rounded_by_itself():
    # 30.06 lies between bfloat16's 30 and 30.125; the outputs, spread over more than that, keep it on average.
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 1, 4096, 1)), jnp.bfloat16)
    params = {'kernel': jnp.ones((1, 1, 1, 1)), 'bias': jnp.array([30.06])}
    y = Conv(1, (1, 1), dtype=jnp.bfloat16, use_bias=True).apply({'params': params}, x)
    assert y.dtype == jnp.bfloat16
    assert np.asarray(y - np.float32(30.06) - x, np.float64).mean() == pytest.approx(0, abs=0.005)


def test_synchronised_batchnorm_on_eight_devices_is_one_device():
    assert jax.local_device_count() >= 8
    scales = np.arange(1, 17)[:, None, None]
    x = jnp.asarray(scales * np.random.default_rng(0).normal(size=(16, 3, 4)), jnp.float32)
    variables = BatchNorm().init(jax.random.key(0), x, False)
    weights = jnp.cos(jnp.arange(x.size)).reshape(x.shape)

    def run(axis_name, x, weights):
        def loss(params, x):
            norm = BatchNorm(axis_name=axis_name)
            y, updated = norm.apply({**variables, 'params': params}, x, False, mutable=['batch_stats'])
            return (y * weights).sum(), (y, updated)

        return jax.grad(loss, argnums=(0, 1), has_aux=True)(variables['params'], x)

    (dparams, dx), (y, updated) = run(None, x, weights)
    shards = x.reshape(8, 2, 3, 4), weights.reshape(8, 2, 3, 4)
    (dparams8, dx8), (y8, updated8) = jax.pmap(lambda *a: run('d', *a), axis_name='d')(*shards)
    np.testing.assert_allclose(y8.reshape(y.shape), y, atol=1e-5)
    np.testing.assert_allclose(dx8.reshape(dx.shape), dx, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[5], b, rtol=1e-5), updated8, updated)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a.sum(0), b, atol=1e-4), dparams8, dparams)

    (_, _), (alone, _) = jax.pmap(lambda *a: run(None, *a), axis_name='d')(*shards)
    assert np.abs(alone.reshape(y.shape) - y).max() > 0.1
