import jax
import jax.numpy as jnp
import pytest

from vidcls.models.bn_inception import BNInception

# arXiv:1502.03167, figure 5, with the published widths; sides for 224 pixels.
STAGES = {
    'inception_3a': (28, 256),
    'inception_3b': (28, 320),
    'inception_3c': (14, 576),
    'inception_4a': (14, 576),
    'inception_4b': (14, 576),
    'inception_4c': (14, 608),
    'inception_4d': (14, 608),
    'inception_4e': (7, 1056),
    'inception_5a': (7, 1024),
    'inception_5b': (7, 1024),
}


def captured(net, size, method):
    x = jnp.zeros((2, size, size, 3))
    keep = {'method': method, 'capture_intermediates': lambda *_: True, 'mutable': True}
    return jax.eval_shape(lambda: net.init_with_output(jax.random.key(0), x, **keep))


def test_shapes_of_every_stage():
    (tap, features), variables = captured(BNInception(), 224, 'tap_and_features')
    kept = variables['intermediates']
    assert kept['conv1_7x7_s2']['__call__'][0].shape == (2, 112, 112, 64)
    assert kept['conv2_3x3_reduce']['__call__'][0].shape == (2, 56, 56, 64)
    assert kept['conv2_3x3']['__call__'][0].shape == (2, 56, 56, 192)
    for name, (side, channels) in STAGES.items():
        method = 'after_tap' if name == 'inception_3c' else '__call__'
        assert kept[name][method][0].shape == (2, side, side, channels), name
    assert tap.shape == (2, 28, 28, 96) and features.shape == (2, 1024)
    assert features.dtype == jnp.float32


def test_the_tap_creates_nothing_beyond_it():
    tap, variables = captured(BNInception(), 224, 'tap')
    assert tap.shape == (2, 28, 28, 96)
    params = variables['params']
    assert {name for name in params if name.startswith('inception')} == {f'inception_3{x}' for x in 'abc'}
    assert {name.removesuffix('_bn') for name in params['inception_3c']} == {'double_3x3_reduce', 'double_3x3_1'}


@pytest.mark.parametrize('size', [56, 57, 64, 90, 112])
def test_any_image_side_fits_together(size):
    (tap, features), _ = captured(BNInception(width=16), size, 'tap_and_features')
    assert features.shape == (2, 256) and tap.shape == (2, size // 8, size // 8, 24)
