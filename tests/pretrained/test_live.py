"""Beside the other libraries themselves, on fresh numbers, where they are installed: `make parity`."""

import jax
import numpy as np
import pytest

from benchmarks import peers
from tests.pretrained.full_size_golden import drawn
from vidcls import models, pretrained

CLASSES = 5
SIZES = {'num_frames': 4, 'image_size': 24, 'patch_size': 8, 'width': 32, 'depth': 2, 'num_heads': 4}
SCHEMES = {'divided': 'divided_space_time', 'joint': 'joint_space_time'}
RESNETS = {
    'torchvision': lambda library: library.models.resnet50(num_classes=CLASSES),
    'timm': lambda library: library.create_model('resnet50', num_classes=CLASSES),
}


@pytest.fixture
def seed():
    return np.random.SeedSequence().entropy % 2**32


@pytest.fixture(scope='module')
def torch():
    return pytest.importorskip('torch')


@pytest.fixture(scope='module')
def torchvision(torch):
    try:
        return peers.torchvision()
    except ModuleNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture(scope='module')
def timm(torchvision):
    return pytest.importorskip('timm')


@pytest.fixture(scope='module')
def transformers(torchvision):
    return pytest.importorskip('transformers')


def frames(seed, number, side):
    """Two clips, [b t h w c]."""
    return np.random.default_rng(seed).normal(size=(2, number, side, side, 3)).astype(np.float32)


def shapes(model, video):
    return jax.eval_shape(lambda: {**model.init(jax.random.key(0), video)})


def random_variables(model, video, seed):
    """Ours with numbers in every array that keep the scale of what goes through."""
    random = np.random.default_rng(seed)

    def values(leaf):
        drawn = random.normal(size=leaf.shape)
        return np.float32(1 + 0.2 * np.tanh(drawn) if leaf.ndim == 1 else drawn / np.sqrt(np.prod(leaf.shape[:-1])))

    return jax.tree.map(values, shapes(model, video))


def filled(torch, net, seed):
    """The network with numbers in every array, norms and their statistics too."""
    state = {
        name: torch.from_numpy(np.ascontiguousarray(drawn(f'{seed} {name}', tuple(value.shape))))
        for name, value in net.state_dict().items()
        if value.is_floating_point()
    }
    net.load_state_dict(state, strict=False)
    return net.eval()


def answers(torch, net, images):
    """Their logits of images [... h w c]."""
    with torch.no_grad():
        output = net(torch.from_numpy(np.moveaxis(images, -1, -3).copy()))
    return getattr(output, 'logits', output).numpy()


def assert_same_logits(ours, theirs, seed):
    difference = np.abs(ours - theirs).max() / np.abs(theirs).max()
    print(f'largest difference {difference:.1e} of the largest logit, seed {seed}')
    assert np.abs(theirs[0] - theirs[1]).max() > 1e-3 * np.abs(theirs).max()  # the images matter
    assert difference < 1e-4, f'{seed=}'


def timesformer_of(transformers, attention='divided'):
    return transformers.TimesformerConfig(
        image_size=24, patch_size=8, num_frames=4, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=128, num_labels=CLASSES, attention_type=SCHEMES[attention],
    )  # fmt: skip


# ---- Theirs, loaded here


@pytest.mark.parametrize('library', RESNETS)
def test_a_resnet(library, torch, seed, tmp_path, request):
    net = filled(torch, RESNETS[library](request.getfixturevalue(library)), seed)
    torch.save({'state_dict': net.state_dict(), 'epoch': 3}, tmp_path / 'net.pth')
    video = frames(seed, 2, 48)
    model = models.build('tsn_resnet50', CLASSES)
    converted = pretrained.load(tmp_path / 'net.pth', model, shapes(model, video))
    assert not converted.started and all(name.endswith('num_batches_tracked') for name in converted.unused)
    theirs = answers(torch, net, video.reshape(4, 48, 48, 3)).reshape(2, 2, -1).mean(1)
    # Not compiled as a whole: its operations are few kinds, and each is compiled once.
    assert_same_logits(model.apply(converted.variables, video), theirs, seed)


@pytest.mark.parametrize('attention', ['divided', 'space'])
def test_a_vit_on_a_still_clip(attention, torch, timm, seed, tmp_path):
    """Where nothing moves, a TimeSformer that starts from a image network is that network."""
    sizes = {'img_size': 24, 'patch_size': 8, 'embed_dim': 32, 'depth': 2, 'num_heads': 4}
    net = filled(torch, timm.create_model('vit_base_patch16_224', num_classes=CLASSES, **sizes), seed)
    torch.save(net.state_dict(), tmp_path / 'net.pth')
    images = frames(seed, 1, 24)
    video = np.repeat(images, 4, axis=1)
    model = models.build('timesformer_tiny', CLASSES, **SIZES, attention=attention)
    start = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes(model, video))  # as published
    converted = pretrained.load(tmp_path / 'net.pth', model, start)
    assert not converted.unused and all('temporal_fc' in path or path == 'time_embed' for path in converted.started)
    assert_same_logits(model.apply(converted.variables, video), answers(torch, net, images[:, 0]), seed)


@pytest.mark.parametrize('attention', SCHEMES)
def test_a_timesformer(attention, torch, transformers, seed, tmp_path):
    net = transformers.TimesformerForVideoClassification(timesformer_of(transformers, attention))
    filled(torch, net, seed).save_pretrained(tmp_path)
    video = frames(seed, 4, 24)
    model = models.build('timesformer_tiny', CLASSES, **SIZES, attention=attention)
    converted = pretrained.load(tmp_path / 'model.safetensors', model, shapes(model, video))
    assert not converted.started and not converted.unused
    assert_same_logits(model.apply(converted.variables, video), answers(torch, net, video), seed)


# ---- Ours, exported to theirs


def test_an_exported_timesformer_in_transformers(torch, transformers, seed, tmp_path):
    model = models.build('timesformer_tiny', CLASSES, **SIZES)
    video = frames(seed, 4, 24)
    variables = random_variables(model, video, seed)
    pretrained.save(tmp_path / 'model.safetensors', pretrained.export(variables, model, 'huggingface'))
    timesformer_of(transformers).save_pretrained(tmp_path)
    net, info = transformers.TimesformerForVideoClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not info['missing_keys'] and not info['unexpected_keys']
    assert_same_logits(model.apply(variables, video), answers(torch, net.eval(), video), seed)


def test_an_exported_resnet_in_torchvision_and_timm(torch, torchvision, timm, seed):
    model = models.build('tsn_resnet50', CLASSES)
    video = frames(seed, 1, 48)
    variables = random_variables(model, video, seed)
    ours = model.apply(variables, video)
    for name, library in {'torchvision': torchvision, 'timm': timm}.items():
        net = RESNETS[name](library)
        arrays = pretrained.export(variables, model, name)
        net.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()})
        assert_same_logits(ours, answers(torch, net.eval(), video[:, 0]), seed)
