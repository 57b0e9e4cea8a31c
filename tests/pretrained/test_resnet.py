"""ResNets: that of torchvision is proven by tests/models/test_resnet.py, and the others are renamings of it."""

import re

import jax
import numpy as np
import pytest

from tests.pretrained import published
from vidcls import models, pretrained


@pytest.fixture(scope='module')
def net():
    model, start = published.resnet()
    arrays = published.drawn(model, start, 'torchvision')
    return model, start, arrays, pretrained.convert(arrays, model, start)


def test_every_array_is_loaded(net):
    _, _, arrays, converted = net
    assert len(converted.loaded) == len(arrays) and not converted.started and not converted.unused
    np.testing.assert_array_equal(
        converted.variables['params']['backbone']['layer2_1']['conv2']['kernel'],
        arrays['layer2.1.conv2.weight'].transpose(2, 3, 1, 0),
    )
    np.testing.assert_array_equal(converted.variables['params']['head']['kernel'], arrays['fc.weight'].T)
    np.testing.assert_array_equal(
        converted.variables['batch_stats']['backbone']['layer2_0']['downsample_1']['var'],
        arrays['layer2.0.downsample.1.running_var'],
    )


def mmaction2(name, array):
    """mmcv's ConvModule holds a convolution and its norm."""
    if name.startswith('fc.'):
        return name.replace('fc.', 'cls_head.fc_cls.'), array
    name = name.replace('downsample.0', 'downsample.conv').replace('downsample.1', 'downsample.bn')
    name = re.sub(r'\bconv(\d)\b', r'conv\1.conv', name)
    return 'backbone.' + re.sub(r'\bbn(\d)\b', r'conv\1.bn', name), array


def tsn_pytorch(name, array):
    return 'module.' + (name.replace('fc.', 'new_fc.') if name.startswith('fc.') else f'base_model.{name}'), array


def paddlevideo(name, array):
    if name.startswith('fc.'):
        return name.replace('fc.', 'head.fc.'), array.T if array.ndim == 2 else array
    name = name.replace('running_mean', '_mean').replace('running_var', '_variance')
    name = re.sub(r'layer(\d)\.(\d)', lambda m: f'res{int(m[1]) + 1}{"abc"[int(m[2])]}', name)
    name = name.replace('downsample.0', 'short._conv').replace('downsample.1', 'short._batch_norm')
    if not name.startswith('res'):
        name = name.replace('conv1', 'conv._conv').replace('bn1', 'conv._batch_norm')
    name = re.sub(r'\.conv(\d)\.(?=weight)', lambda m: f'.conv{int(m[1]) - 1}._conv.', name)
    return 'backbone.' + re.sub(r'\.bn(\d)\.', lambda m: f'.conv{int(m[1]) - 1}._batch_norm.', name), array


@pytest.mark.parametrize('rename', [mmaction2, tsn_pytorch, paddlevideo])
def test_other_libraries_names_give_the_same(net, rename):
    model, start, arrays, converted = net
    renamed = dict(rename(name, array) for name, array in arrays.items())
    assert len(renamed) == len(arrays) and not set(renamed) & set(arrays)
    again = pretrained.convert(renamed, model, start)
    assert again.layout is not converted.layout and not again.started and not again.unused
    published.assert_same(again.variables, converted.variables)


def test_names_written_by_hand():
    """One of each kind, from the libraries' sources."""
    names = {
        'backbone/conv1/kernel': {
            'mmaction2': 'backbone.conv1.conv.weight', 'tsn-pytorch': 'base_model.conv1.weight',
            'paddlevideo': 'backbone.conv._conv.weight',
        },
        'backbone/layer3_5/bn2/var': {
            'mmaction2': 'backbone.layer3.5.conv2.bn.running_var', 'tsn-pytorch': 'base_model.layer3.5.bn2.running_var',
            'paddlevideo': 'backbone.res4f.conv1._batch_norm._variance',
        },
        'backbone/layer2_0/downsample_0/kernel': {
            'mmaction2': 'backbone.layer2.0.downsample.conv.weight', 'paddlevideo': 'backbone.res3a.short._conv.weight',
        },
        'head/bias': {'mmaction2': 'cls_head.fc_cls.bias', 'tsn-pytorch': 'new_fc.bias', 'paddlevideo': 'head.fc.bias'},
    }  # fmt: skip
    layouts = {layout.keys[0]: layout for layout in reversed(pretrained.LAYOUTS) if 'TSN' in layout.title}
    for path, wanted in names.items():
        for key, name in wanted.items():
            assert layouts[key].theirs(path)[0] == (name,)


@pytest.mark.parametrize(
    ('depths', 'first', 'second'), [((1, 1, 6, 1), 'res4a', 'res4b'), ((1, 1, 7, 1), 'res4a', 'res4b1')]
)
def test_paddles_third_stage_is_numbered_in_networks_deeper_than_50(depths, first, second):
    model = models.build('tsn_resnet50', 5, stage_sizes=depths, width=4)
    arrays = published.drawn(model, published.variables(model, 1, 32, 32, 3), 'paddlevideo')
    assert {f'backbone.{name}.conv1._conv.weight' for name in (first, second)} < set(arrays)
    converted = pretrained.convert(arrays, model, published.variables(model, 1, 32, 32, 3))
    assert not converted.started and not converted.unused


@pytest.mark.parametrize('name, blocks', [('tsn_resnet50', 16), ('tsn_resnet101', 33), ('tsn_resnet152', 50)])
def test_full_sizes(name, blocks):
    """Names and shapes of torchvision's: 3 convolutions and norms a block, 4 shortcuts, the first layer and the last."""
    model = models.build(name, 1000)
    shapes = published.shapes(model, 1, 32, 32, 3)
    zeros = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), shapes)
    arrays = pretrained.export(zeros, model, 'timm')
    assert len(arrays) == 5 * (3 * blocks + 4 + 1) + 2
    assert arrays['layer4.2.conv2.weight'].shape == (512, 512, 3, 3)
    assert arrays['fc.weight'].shape == (1000, 2048)
    converted = pretrained.convert(arrays, model, shapes)
    assert not converted.started and not converted.unused
    trained = models.build(name, 101)
    converted = pretrained.convert(arrays, trained, published.shapes(trained, 1, 32, 32, 3))
    assert set(converted.started) == {'head/kernel', 'head/bias'}


def test_a_deeper_network_is_refused(net):
    arrays = net[2]
    shallow = models.build('tsn_resnet50', 5, stage_sizes=(1, 1), width=4)
    with pytest.raises(ValueError, match='layer2_1/bn1/bias: there, and not in this network'):
        pretrained.convert(arrays, shallow, published.variables(shallow, 1, 16, 16, 3))


def test_a_first_convolution_of_other_channels_gets_the_mean(net):
    _, _, arrays, _ = net
    model, start = published.resnet(seg_len=2)
    converted = pretrained.convert(arrays, model, start)
    assert list(converted.started) == ['backbone/conv1/kernel']
    kernel = converted.variables['params']['backbone']['conv1']['kernel']
    assert kernel.shape == (7, 7, 6, 4)
    for channel in range(6):
        np.testing.assert_allclose(
            kernel[:, :, channel], arrays['conv1.weight'].mean(1).transpose(1, 2, 0), rtol=1e-5, atol=1e-7
        )


def flow_weights(layout):
    """A network of five stacked flows, and random arrays of one under a library's names."""
    model = models.build('tsn_resnet50', 5, stage_sizes=(1, 2), width=4, seg_len=5)
    start = published.variables(model, 5, 16, 16, 2)
    return model, start, published.drawn(model, start, layout)


@pytest.mark.parametrize(
    ('layout', 'mean', 'std'),
    [('mmaction2', 128 / 255, 128 / 255), ('tsn-pytorch', 0.5, 0.226), ('paddlevideo', 128 / 255, 128 / 255)],
)
def test_flow_weights_load_whole(layout, mean, std):
    model, start, arrays = flow_weights(layout)
    converted = pretrained.convert(arrays, model, start)
    assert len(converted.loaded) == len(arrays) and not converted.started and not converted.unused
    first = next(array for array in arrays.values() if array.ndim == 4 and array.shape[1] == 10)
    kernel = converted.variables['params']['backbone']['conv1']['kernel']
    assert kernel.shape == (7, 7, 10, 4)  # x1 y1 ... x5 y5, as they have it
    np.testing.assert_array_equal(kernel[:, :, 2], first[:, 2].transpose(1, 2, 0))
    assert converted.layout.inputs_of('flow') == ((mean,) * 2, (std,) * 2, False)


def test_flow_weights_are_no_weights_of_colours():
    _, _, arrays = flow_weights('mmaction2')
    model, start = published.resnet()
    with pytest.raises(
        ValueError, match='takes 10 channels, which are no colours: .*=flow --config.sampling.seg_len=5'
    ):
        pretrained.convert(arrays, model, start)


def test_weights_of_colours_start_flow_with_their_mean(net):
    """A picture that is the same in all channels then has the response that a grey one had, times 10 / 3."""
    _, _, arrays, converted = net
    model, start, _ = flow_weights('torchvision')
    started = pretrained.convert(arrays, model, start)
    assert list(started.started) == ['backbone/conv1/kernel'] and not started.has_inputs and converted.has_inputs
    ours, theirs = (one.variables['params']['backbone']['conv1']['kernel'] for one in (started, converted))
    np.testing.assert_allclose(ours.sum(2), theirs.sum(2) * 10 / 3, rtol=1e-4, atol=1e-5)
