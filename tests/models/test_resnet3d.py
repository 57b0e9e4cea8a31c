import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from vidcls.models.resnet3d import PUBLISHED, TEXTBOOK, ResNet3D


# By hand: 27 * c * c' (+ c' where biased) a convolution, 2 c a norm.
@pytest.mark.parametrize('blocks, parameters', [(PUBLISHED, 36_617_088), (TEXTBOOK, 37_389_056)])
def test_shapes_of_every_stage(blocks, parameters):
    net = ResNet3D(blocks=blocks)
    x = jnp.zeros((1, 16, 28, 28, 96))
    features, variables = jax.eval_shape(lambda: net.init_with_output(jax.random.key(0), x, capture_intermediates=True))
    sides = {'res3': (1, 16, 28, 28, 128), 'res4': (1, 8, 14, 14, 256), 'res5': (1, 4, 7, 7, 512)}
    for name in ('res3a', 'res3b', 'res4a', 'res4b', 'res5a', 'res5b'):
        ((raw, active),) = variables['intermediates'][name]['__call__']
        assert raw.shape == active.shape == sides[name[:4]]
    assert features.shape == (1, 512) and features.dtype == jnp.float32
    assert sum(leaf.size for leaf in jax.tree.leaves(variables['params'])) == parameters


def test_the_textbook_block_by_another_route():
    # One block with a stride, in training: normalised convolutions, written out with lax.
    block = TEXTBOOK[0](width=6, stride=2)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 6, 6, 3)), jnp.float32)

    def conv(x, params, stride):
        numbers = ('NDHWC', 'DHWIO', 'NDHWC')
        y = lax.conv_general_dilated(x, params['kernel'], (stride,) * 3, ((1, 1),) * 3, dimension_numbers=numbers)
        return (y - y.mean((0, 1, 2, 3))) / jnp.sqrt(y.var((0, 1, 2, 3)) + 1e-5)

    @jax.jit
    def both(variables):
        (_, ours), _ = block.apply(variables, (x, x), True, mutable=['batch_stats'])
        p = variables['params']
        y = jax.nn.relu(conv(jax.nn.relu(conv(x, p['1'], 1)), p['2'], 2))
        return ours, jax.nn.relu(y + conv(x, p['down'], 2))

    shapes = jax.eval_shape(lambda: block.init(jax.random.key(0), (x, x), True))
    draw = np.random.default_rng(1).normal
    variables = flax.traverse_util.path_aware_map(
        lambda path, leaf: (
            draw(size=leaf.shape).astype(np.float32)
            if path[-1] == 'kernel'
            else np.full(leaf.shape, path[-1] in ('scale', 'var'), np.float32)
        ),
        {**shapes},
    )
    ours, expected = both(variables)
    assert ours.shape == (2, 2, 3, 3, 6)
    np.testing.assert_allclose(ours, expected, atol=1e-5)
