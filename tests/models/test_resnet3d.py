import jax
import jax.numpy as jnp

from vidcls.models.resnet3d import ResNet3D


def test_shapes_of_every_stage():
    net = ResNet3D()
    x = jnp.zeros((1, 16, 28, 28, 96))
    features, variables = jax.eval_shape(lambda: net.init_with_output(jax.random.key(0), x, capture_intermediates=True))
    sides = {'res3': (1, 16, 28, 28, 128), 'res4': (1, 8, 14, 14, 256), 'res5': (1, 4, 7, 7, 512)}
    for name in ('res3a', 'res3b', 'res4a', 'res4b', 'res5a', 'res5b'):
        ((raw, active),) = variables['intermediates'][name]['__call__']
        assert raw.shape == active.shape == sides[name[:4]]
    assert features.shape == (1, 512) and features.dtype == jnp.float32
    assert (
        sum(leaf.size for leaf in jax.tree.leaves(variables['params'])) == 36_617_088
    )  # by hand: 27 c c' + c' a convolution, 2 c a norm
