import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidcls.models import layers
from vidcls.models.cpu import convolution


def normal(seed, shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    'image, kernel, stride, padding',
    [
        ((2, 8, 7, 12), (1, 1, 12, 8), 2, 0),
        ((2, 9, 8, 3), (7, 7, 3, 64), 2, 3),
        ((2, 9, 8, 16), (3, 3, 16, 72), 2, 1),
        ((1, 15, 14, 128), (3, 3, 128, 136), 1, 1),
        ((2, 4, 6, 5, 16), (3, 3, 3, 16, 64), 2, 1),
        ((2, 3, 5, 4, 16), (3, 3, 3, 16, 72), 1, 1),
        ((1, 5, 4, 3, 16), (1, 1, 1, 16, 8), 2, 0),
    ],
)
def test_both_forms_of_convolution_agree(image, kernel, stride, padding):
    x, w = normal(0, image), normal(1, kernel)

    def value_and_gradients(convolve):
        def run(x, w, g):
            y, back = jax.vjp(lambda x, w: convolve(x, w, stride, padding), x, w)
            return y, *back(g)

        g = normal(2, jax.eval_shape(lambda x, w: convolve(x, w, stride, padding), x, w).shape)
        return jax.jit(run)(x, w, g)

    ours = value_and_gradients(convolution.convolve_cpu)
    theirs = value_and_gradients(convolution.convolve_xla)
    for a, b in zip(ours, theirs):
        np.testing.assert_allclose(a, b, rtol=0, atol=5e-6 * np.abs(b).max())


@pytest.mark.parametrize(
    'dtype, size, channels, stride, taken',
    [
        (jnp.float32, 14, 128, 1, True),
        (jnp.float32, 7, 128, 1, False),
        (jnp.float32, 14, 64, 1, False),
        (jnp.float32, 14, 128, 2, False),
        (jnp.bfloat16, 14, 128, 1, False),
    ],
)
def test_winograd_takes_the_convolutions_it_is_meant_for(dtype, size, channels, stride, taken):
    x, w = jnp.zeros((1, size, size, channels), dtype), jnp.zeros((3, 3, channels, 128), dtype)
    jaxpr = str(jax.make_jaxpr(lambda x, w: convolution.convolve_cpu(x, w, stride, 1))(x, w))
    assert ('conv_general_dilated' not in jaxpr) == taken


@pytest.mark.parametrize('features, products', [(63, False), (64, True)])
def test_thin_layers_are_left_to_xla(features, products):
    x, w = jnp.zeros((1, 4, 4, 2)), jnp.zeros((3, 3, 2, features))
    assert ('custom_vjp' in str(jax.make_jaxpr(lambda x, w: convolution.convolve_cpu(x, w, 1, 1))(x, w))) == products


@pytest.mark.parametrize('kind', ['max', 'sum'])
@pytest.mark.parametrize(
    'image, stride, padding',
    [((2, 9, 8, 5), 2, 1), ((2, 5, 9, 8, 5), 2, 1), ((2, 9, 8, 5), 2, (0, 2)), ((2, 4, 5, 3), 1, 1)],
)
def test_both_forms_of_pooling_agree(kind, image, stride, padding):
    def value_and_gradient(pool, x):
        y, back = jax.vjp(lambda x: pool(x, 3, stride, padding), x)
        return y, back(jnp.cos(y))[0]

    x, run = normal(0, image), jax.jit(value_and_gradient, static_argnums=0)
    ours = run(getattr(convolution, f'{kind}_pool_cpu'), x)
    theirs = run(getattr(convolution, f'{kind}_pool_xla'), x)
    np.testing.assert_allclose(ours[0], theirs[0], atol=1e-5)
    np.testing.assert_allclose(ours[1], theirs[1], atol=1e-5)


def test_max_pooling_ignores_the_border():
    x = -jnp.arange(1.0, 17).reshape(1, 4, 4, 1)
    np.testing.assert_array_equal(layers.max_pool(x, 3, 2, 1)[0, ..., 0], [[-1, -2], [-5, -6]])


def test_padding_after_the_image_is_ceil_mode():
    # Without it a window of 3 that moves by 2 fits once into a side of 4.
    x = -jnp.arange(1.0, 17).reshape(1, 4, 4, 1)
    np.testing.assert_array_equal(layers.max_pool(x, 3, 2, (0, 1))[0, ..., 0], [[-1, -3], [-9, -11]])
    np.testing.assert_array_equal(layers.max_pool(x[:, :3, :3], 3, 2, (0, 1)).shape, (1, 1, 1, 1))


def test_the_mean_counts_the_border():
    x = jnp.arange(1.0, 10).reshape(1, 3, 3, 1)
    expected = np.array([[12, 21, 16], [27, 45, 33], [24, 39, 28]]) / 9
    np.testing.assert_allclose(layers.avg_pool(x, 3, 1, 1)[0, ..., 0], expected, rtol=1e-6)


@pytest.mark.parametrize('backend, primitive', [('cpu', 'custom_vjp'), ('tpu', 'conv_general')])
def test_the_backend_chooses_the_form(monkeypatch, backend, primitive):
    monkeypatch.setattr(jax, 'default_backend', lambda: backend)
    x, w = jnp.zeros((1, 4, 4, 2)), jnp.zeros((1, 1, 2, 3))
    jaxpr = str(jax.make_jaxpr(lambda x, w: layers.convolve(x, w, 1, 0))(x, w))
    assert primitive in jaxpr
    pool = str(jax.make_jaxpr(lambda x: layers.max_pool(x, 3, 2, 1))(x))
    assert ('reduce_window' in pool) == (backend == 'tpu')
    pool = str(jax.make_jaxpr(lambda x: layers.avg_pool(x, 3, 2, 1))(x))
    assert ('reduce_window' in pool) == (backend == 'tpu')
