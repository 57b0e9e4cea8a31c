"""BN-Inception and ECO: whole networks are proven by tests/models/test_eco.py; here their parts and other names."""

import numpy as np
import pytest

from tests.pretrained import published
from vidcls import models, pretrained


@pytest.fixture(scope='module', params=['eco_full', 'eco_lite'])
def eco(request):
    model, start = published.eco(request.param)
    return model, start, published.drawn(model, start, 'eco-pytorch')


@pytest.fixture(scope='module')
def bn_inception():
    model = models.build('tsn_bninception', 5, width=4)
    start = published.variables(model, 1, 32, 32, 3)
    return model, start, published.drawn(model, start, 'bn-inception')


def starting(path):
    return lambda paths: {name for name in paths if name.startswith(path)}


def test_names_written_by_hand(bn_inception):
    *_, arrays = bn_inception
    assert {'conv1_7x7_s2.weight', 'conv1_7x7_s2.bias', 'conv1_7x7_s2_bn.running_mean', 'inception_3a_1x1.weight',
            'inception_4e_double_3x3_2_bn.weight', 'inception_5b_pool_proj.bias', 'last_linear.weight'} <= set(arrays)  # fmt: skip
    assert not any(name.startswith(('inception_3c_1x1', 'inception_4e_pool_proj')) for name in arrays)


@pytest.mark.parametrize('head', ['module.new_fc.', 'module.base_model.fc_final.'])
def test_eco_pytorchs_names_give_the_same(eco, head):
    model, start, arrays = eco
    assert {'res3a_2.weight', 'res3a_bn.running_var', 'res4a_down.bias', 'res5b_1_bn.weight'} <= set(arrays)
    plain = pretrained.convert(arrays, model, start)
    renamed = {
        name.replace('fc_final.', head) if name.startswith('fc_final') else f'module.base_model.{name}': array
        for name, array in arrays.items()
    }
    again = pretrained.convert(renamed, model, start)
    assert not again.started and not again.unused
    published.assert_same(again.variables, plain.variables)


def test_tsn_pytorchs_names_and_norms_give_the_same(bn_inception):
    """The first release's norms have an axis of one before their channels."""
    model, start, arrays = bn_inception
    plain = pretrained.convert(arrays, model, start)
    renamed = {
        f'module.base_model.{name}'.replace('base_model.last_linear', 'new_fc'):
        array[None] if '_bn.' in name else array
        for name, array in arrays.items()
    }  # fmt: skip
    again = pretrained.convert(renamed, model, start)
    assert not again.started and not again.unused
    published.assert_same(again.variables, plain.variables)


def test_bn_inceptions_weights_start_ecos_2d_part(eco, bn_inception):
    model, start, _ = eco
    arrays = bn_inception[-1]
    converted = pretrained.convert(arrays, model, start)
    backbone, tail, head = (starting(f'{part}/') for part in ('backbone', 'tail', 'head'))
    assert not backbone(converted.started) and tail(converted.started) and head(converted.started)
    assert not tail(converted.loaded) and not head(converted.loaded)
    np.testing.assert_array_equal(
        converted.variables['params']['backbone']['inception_3c']['double_3x3_1']['bias'],
        arrays['inception_3c_double_3x3_1.bias'],
    )
    assert (converted.variables['params']['tail']['res3a']['2']['kernel'] == 77).all()


def test_the_3d_part_alone(eco):
    """Its first convolution reads 128 channels where ECO has 96, and the first of them serve (ECO-pytorch, main.py)."""
    model, start, arrays = eco
    alone = {f'module.base_model.{name}': array for name, array in arrays.items() if name.startswith('res')}
    alone['module.base_model.conv1.weight'] = np.zeros((4, 3, 3, 7, 7))
    first = np.random.default_rng(1).normal(size=(8, 8, 3, 3, 3)).astype(np.float32)
    alone['module.base_model.res3a_2.weight'] = first
    converted = pretrained.convert(alone, model, start)
    assert set(converted.started) == starting('backbone/')(converted.started) | {
        'head/kernel', 'head/bias', 'tail/res3a/2/kernel'
    }  # fmt: skip
    assert 'base_model.conv1.weight' in converted.unused
    np.testing.assert_array_equal(
        converted.variables['params']['tail']['res3a']['2']['kernel'], first[:, :6].transpose(2, 3, 4, 1, 0)
    )


def test_fulls_weights_start_lite_and_what_is_left_is_listed():
    full, start = published.eco('eco_full')
    arrays = published.drawn(full, start, 'eco-pytorch')
    lite, start = published.eco('eco_lite', classes=6)
    converted = pretrained.convert(arrays, lite, start)
    assert set(converted.started) == {'head/kernel', 'head/bias'}
    assert converted.unused and all(
        name.startswith(('inception_3c', 'inception_4', 'inception_5')) for name in converted.unused
    )


def test_one_image_networks_weights_are_refused_by_the_other(bn_inception):
    model, start = published.resnet()
    with pytest.raises(ValueError, match='recognised as BN-Inception .*does not fit this TSN'):
        pretrained.convert(bn_inception[-1], model, start)
    alone = {'res3a_2.weight': np.zeros((8, 6, 3, 3, 3))}
    with pytest.raises(ValueError, match='nothing of it has a place'):
        pretrained.convert(alone, bn_inception[0], bn_inception[1])


def test_tsn_pytorchs_flow_has_no_colours_to_turn():
    model = models.build('tsn_bninception', 5, width=4, seg_len=5)
    start = published.variables(model, 5, 32, 32, 2)
    arrays = published.drawn(model, start, 'bn-inception')
    converted = pretrained.convert(arrays, model, start)
    assert not converted.started and not converted.unused
    published.assert_same(converted.for_rgb(), converted.variables)
    assert converted.layout.inputs_of('flow') == ((128 / 255,) * 2, (1 / 255,) * 2, False)
