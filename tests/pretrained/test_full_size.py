"""Networks of the published sizes, with the other library's arrays, give the other library's logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.pretrained import full_size_golden as golden
from tests.pretrained import published
from vidcls import models, pretrained


def assert_logits(model, layout, video, expected):
    """Converts the golden's arrays and compares logits."""
    shapes = published.shapes(model, *video.shape[1:])
    zeros = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), shapes)
    names = {name: array.shape for name, array in pretrained.export(zeros, model, layout).items()}
    converted = pretrained.convert({name: golden.drawn(name, shape) for name, shape in names.items()}, model, shapes)
    assert not converted.started and not converted.unused
    # Not compiled as a whole: its operations are few kinds, and each is compiled once.
    logits = model.apply(converted.variables, jnp.asarray(video))
    np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(
    'name', [pytest.param(name, marks=[pytest.mark.slow] * (name != 'resnet50')) for name in golden.RESNETS]
)
def test_resnet(name):
    expected = np.load(golden.FILE)[name]
    assert np.abs(expected[0] - expected[1]).max() > 0.01 * np.abs(expected).max()
    assert_logits(models.build(f'tsn_{name}', golden.CLASSES), 'torchvision', golden.video(), expected)


@pytest.mark.slow
def test_timesformer():
    model = models.build('timesformer_base', golden.CLASSES, num_frames=golden.FRAMES, image_size=golden.SIZE)
    assert_logits(model, 'huggingface', golden.video(), np.load(golden.FILE)['timesformer_base'])


@pytest.mark.slow
def test_vit():
    """On a clip of one frame, where attention in space alone is a ViT's."""
    model = models.build('timesformer_base', golden.CLASSES, num_frames=1, image_size=golden.SIZE, attention='space')
    assert_logits(model, 'timm', golden.video()[:, :1], np.load(golden.FILE)['vit_base'])
