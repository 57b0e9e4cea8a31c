"""What is unknown, missing or mis-shaped is named; what may be missing is said; what comes out goes back in."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.pretrained import published
from vidcls import models, pretrained
from vidcls.errors import UserError


@pytest.fixture(scope='module')
def net():
    model, start = published.resnet()
    return model, start, published.drawn(model, start, 'torchvision')


def test_unknown_names_are_shown_beside_the_known_layouts(net):
    model, start, _ = net
    with pytest.raises(ValueError, match=r'no known layout: stem.weight, trunk.weight(?s:.*)ResNet of torchvision'):
        pretrained.convert({'stem.weight': np.zeros(3), 'trunk.weight': np.zeros(3)}, model, start)
    with pytest.raises(ValueError, match='no known layout: none'):
        pretrained.convert({}, model, start)


def test_a_missing_array_is_an_error_and_may_be_allowed(net):
    model, start, arrays = net
    fewer = {name: array for name, array in arrays.items() if name != 'layer2.1.bn3.weight'}
    with pytest.raises(ValueError, match='backbone/layer2_1/bn3/scale: no array layer2.1.bn3.weight'):
        pretrained.convert(fewer, model, start)
    with pytest.raises(ValueError, match='layer2_1/bn3/scale'):
        pretrained.convert(fewer, model, start, allow_missing='layer1')
    converted = pretrained.convert(fewer, model, start, allow_missing=r'layer2_1/bn\d/scale')
    assert list(converted.started) == ['backbone/layer2_1/bn3/scale']
    assert (converted.variables['params']['backbone']['layer2_1']['bn3']['scale'] == 77).all()


@pytest.mark.parametrize(
    'name, shape',
    [
        ('layer1.0.conv2.weight', (4, 4, 5, 5)),
        ('layer1.0.conv2.weight', (4, 36)),
        ('layer1.0.bn1.running_mean', (2, 2)),
        ('layer1.0.bn1.running_mean', (5,)),
        ('conv1.weight', (4, 3, 5, 5)),
    ],
)
def test_a_misshaped_array_is_an_error(net, name, shape):
    model, start, arrays = net
    with pytest.raises(ValueError, match=r'ResNet of torchvision.*does not fit this TSN:\n.*of shape'):
        pretrained.convert({**arrays, name: np.zeros(shape)}, model, start)


def test_many_mistakes_are_counted(net):
    model, start, arrays = net
    with pytest.raises(ValueError, match=r'and \d+ more(?s:.*)allow_missing'):
        pretrained.convert({'layer1.0.conv1.weight': arrays['layer1.0.conv1.weight']}, model, start)


@pytest.mark.parametrize('value', ['x', np.int8(1), True, 1j])
def test_what_is_no_number_is_an_error(net, value):
    model, start, arrays = net
    with pytest.raises(ValueError, match='conv1/kernel: holds .*, no floating-point numbers'):
        pretrained.convert({**arrays, 'conv1.weight': np.full((4, 3, 7, 7), value)}, model, start)


@pytest.mark.parametrize('value', [np.float32('nan'), 1e300])
def test_what_is_not_finite_is_an_error(net, value):
    model, start, arrays = net
    with pytest.raises(ValueError, match='conv1/kernel: holds numbers that are not finite'):
        pretrained.convert({**arrays, 'conv1.weight': np.full((4, 3, 7, 7), value)}, model, start)


def test_channels_of_which_there_are_none_have_no_mean(net):
    model, start, arrays = net
    with pytest.raises(UserError, match=r'conv1/kernel: of shape \(7, 7, 0, 4\) holds no numbers'):
        pretrained.convert({**arrays, 'conv1.weight': np.zeros((4, 0, 7, 7), np.float32)}, model, start)


@pytest.mark.parametrize('ending', ['npz', 'pth', 'pkl', 'safetensors'])
def test_a_file_far_larger_than_the_network_is_refused_unread(net, tmp_path, ending):
    model, start, _ = net
    path = tmp_path / f'w.{ending}'
    path.touch()
    os.truncate(path, 2 << 30)  # of which the disk has none
    most = (1 << 30) + 64 * sum(leaf.size for leaf in jax.tree.leaves(start))
    with pytest.raises(UserError, match=f'has 2,147,483,648 bytes; weights for this network have at most {most:,}'):
        pretrained.load(path, model, start)


def test_what_is_over_is_named(net):
    model, start, arrays = net
    more = {'bn1.num_batches_tracked': np.zeros(()), 'layer1.0.se.fc1.weight': np.zeros(3)}
    summary = pretrained.convert({**arrays, **more}, model, start).summary()
    assert summary.endswith('1 of theirs unused (layer1.0.se.fc1.weight)')


def test_half_a_file_is_an_error(net):
    model, start, arrays = net
    half = {name: arrays[name] for name in sorted(arrays)[: len(arrays) // 2]}
    with pytest.raises(ValueError, match=r'recognised as ResNet of torchvision(?s:.*)no array (?s:.*)and \d+ more'):
        pretrained.convert(half, model, start)


@pytest.mark.parametrize('wrapper', ['module.', 'model.', 'module.model.', 'model.module.', 'module.module.'])
def test_what_trainers_put_before_each_name_is_taken_off(net, wrapper):
    model, start, arrays = net
    wrapped = {wrapper + name: array for name, array in arrays.items()}
    published.assert_same(
        pretrained.convert(wrapped, model, start).variables, pretrained.convert(arrays, model, start).variables
    )


def test_other_classes_start_the_whole_classifier_anew(net):
    model, start = published.resnet(classes=6)
    converted = pretrained.convert(net[2], model, start)
    assert converted.started == {f'head/{leaf}': 'new: 5 classes there, 6 here' for leaf in ('kernel', 'bias')}
    assert (converted.variables['params']['head']['kernel'] == 77).all()
    assert not converted.unused
    trunk = {name: array for name, array in net[2].items() if not name.startswith('fc.')}
    assert set(pretrained.convert(trunk, model, start).started) == {'head/kernel', 'head/bias'}


def test_half_precision_becomes_single_and_what_is_over_is_listed(net):
    model, start, arrays = net
    half = {name: array.astype((np.float16, jnp.bfloat16)[i % 2]) for i, (name, array) in enumerate(arrays.items())}
    converted = pretrained.convert({**half, 'bn1.num_batches_tracked': np.int64(3)}, model, start)
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(converted.variables))
    assert converted.unused == ('bn1.num_batches_tracked',)


def test_the_given_variables_stay_as_they_are(net):
    model, start, arrays = net
    pretrained.convert(arrays, model, start)
    assert all((leaf == 77).all() for leaf in jax.tree.leaves(start))


# ---- And back


def timesformer(attention):
    return lambda: published.timesformer(attention)


def bn_inception():
    model = models.build('tsn_bninception', 5, width=4)
    return model, published.variables(model, 1, 32, 32, 3)


THERE_AND_BACK = (
    ((published.resnet,), ('torchvision', 'timm', 'mmaction2', 'tsn-pytorch', 'paddlevideo', 'paddle')),
    ((bn_inception,), ('bn-inception', 'cadene')),
    ((lambda: published.eco('eco_full'), lambda: published.eco('eco_lite')), ('eco-pytorch',)),
    ((timesformer('divided'),), ('huggingface', 'facebookresearch', 'mmaction2', 'paddlevideo')),
    ((timesformer('joint'),), ('huggingface', 'facebookresearch', 'mmaction2-joint', 'paddlevideo')),
    ((timesformer('space'),), ('huggingface', 'mmaction2-space', 'paddlevideo', 'timm', 'paddle')),
)


@pytest.mark.parametrize(
    'make, layout', [(make, layout) for makes, layouts in THERE_AND_BACK for make in makes for layout in layouts]
)
def test_there_and_back_to_the_same_bits(make, layout, tmp_path):
    model, start = make()
    arrays = published.drawn(model, start, layout)
    converted = pretrained.convert(arrays, model, start)
    assert layout in converted.layout.keys and not converted.started and not converted.unused
    path = tmp_path / 'weights.safetensors'
    pretrained.save(path, pretrained.export(converted.variables, model, layout))
    published.assert_same(pretrained.read(path), arrays)
    published.assert_same(pretrained.load(path, model, start).variables, converted.variables)


def test_every_layout_goes_back_but_three():
    """Google's has an axis of heads, which ours forget; ECO's 3-D part alone is no network of ours; our own is `own.named`."""
    known = {key for layout in pretrained.LAYOUTS for key in layout.keys}
    assert known - {layout for _, layouts in THERE_AND_BACK for layout in layouts} == {
        'google',
        'eco-pytorch-3d',
        'vidcls',
    }


@pytest.mark.parametrize('seg_len', [1, 2])
def test_a_run_on_red_first_goes_back_to_blue_first(seg_len):
    model, start = published.eco('eco_lite', seg_len=seg_len)
    arrays = published.drawn(model, start, 'eco-pytorch')
    ours = pretrained.convert(arrays, model, start).for_rgb()
    published.assert_same(pretrained.export(ours, model, 'eco-pytorch', from_rgb=True), arrays)
    kernel = ours['params']['backbone']['conv1_7x7_s2']['kernel']
    order = [2, 1, 0, 5, 4, 3][: 3 * seg_len]  # colours turn round within a frame, and frames stay in order
    np.testing.assert_array_equal(kernel, arrays['conv1_7x7_s2.weight'].transpose(2, 3, 1, 0)[:, :, order])


@pytest.mark.parametrize('layout', ['nonesuch', 'google', 'huggingface', 'eco-pytorch'])
def test_a_layout_that_is_not_of_the_network_is_refused(net, layout):
    model, start, _ = net
    with pytest.raises(ValueError, match=f"TSN has no layout '{layout}'; .*torchvision"):
        pretrained.export(start, model, layout)
