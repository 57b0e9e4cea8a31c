"""Grad-CAM against a hand computation, against CAM, and on clips whose evidence is known."""

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.explain import seeing
from vidcls import models
from vidcls.explain import Explainer, gradcam
from vidcls.models.resnet3d import ResNet3D


class Layer(nn.Module):
    """One layer on each pixel, as a trunk: images [n h w c] -> maps [n h w 4], as its child `stage` returns them."""

    @nn.compact
    def __call__(self, x, train: bool = False):
        return jax.nn.relu(nn.Dense(4, name='stage')(x))


class TwoLayers(nn.Module):
    """A layer on each pixel, the mean, and a second layer whose ReLU makes the gradient depend on the clip."""

    backbone: nn.Module

    @nn.compact
    def __call__(self, video, train: bool = False):
        maps = self.backbone(einops.rearrange(video, 'b t h w c -> (b t) h w c'))
        mean = einops.reduce(maps, '(b t) h w c -> b c', 'mean', b=len(video))
        hidden = jax.nn.relu(nn.Dense(5, name='hidden')(mean))
        return nn.Dense(3, name='head')(hidden)


def test_a_two_layer_network_by_hand():
    rng = np.random.default_rng(0)
    model, video = TwoLayers(Layer()), rng.normal(size=(1, 2, 3, 3, 2)).astype(np.float32)

    @jax.jit
    def run(video):
        variables = model.init(jax.random.key(0), video)
        maps, gradients = gradcam.maps_and_gradients(model, variables, video, 1, ['backbone'])
        return gradcam.weigh(maps['backbone'], gradients['backbone']), variables

    cells, variables = run(video)
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), variables['params'])
    before = (
        video[0] @ p['backbone']['stage']['kernel'] + p['backbone']['stage']['bias']
    )  # [t h w 4]: the child's output
    mean = np.maximum(before, 0).mean((0, 1, 2))
    open_ = mean @ p['hidden']['kernel'] + p['hidden']['bias'] > 0
    by_mean = p['hidden']['kernel'] @ (open_ * p['head']['kernel'][:, 1])
    gradient = by_mean * (before > 0) / (2 * 3 * 3)
    weights = gradient.mean((1, 2), keepdims=True)
    np.testing.assert_allclose(cells, (weights * before).sum(-1) * 18, rtol=1e-4, atol=1e-6)
    assert 0 < open_.sum() < 5  # another clip would have another gradient


@pytest.mark.parametrize(
    ('model', 'frames', 'side', 'shapes'),
    [
        (models.build('tsn_tiny', 3, width=4, seg_len=2), 6, 64, {'backbone': (3, 2, 2)}),
        (models.ECOFull(3, seeing.Trunk(), ResNet3D(2)), 8, 32, {'backbone': (8, 4, 4), 'tail': (2, 1, 1)}),
    ],
)
def test_behind_a_linear_head_the_means_of_cells_are_the_logit(model, frames, side, shapes):
    """Grad-CAM is CAM there: with its bias the branches' means make the logit, so each is the last map of its branch."""
    video = np.random.default_rng(1).normal(size=(1, frames, side, side, 3)).astype(np.float32)

    @jax.jit
    def run(video):
        variables = model.init(jax.random.key(0), video)
        branches = gradcam.BRANCHES[type(model)]
        maps, gradients = gradcam.maps_and_gradients(model, variables, video, 2, branches)
        cells = {branch: gradcam.weigh(maps[branch], gradients[branch]) for branch in branches}
        return cells, model.apply(variables, video), variables['params']['head']['bias']

    cells, logits, bias = jax.tree.map(np.asarray, run(video))
    assert sum(part.mean() for part in cells.values()) + bias[2] == pytest.approx(logits[0, 2], rel=1e-3, abs=1e-5)
    assert abs(logits[0, 2] - bias[2]) > 1e-3
    assert {branch: part.shape for branch, part in cells.items()} == shapes


def test_the_last_stages_at_full_size():
    model, video = models.build('eco_full', 400), jax.ShapeDtypeStruct((1, 4, 224, 224, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), video)
    found = gradcam.last_stages(model, variables, video, gradcam.BRANCHES[type(model)])
    assert {branch: (path[1], shape.shape) for branch, (path, shape) in found.items()} == {
        'backbone': ('inception_5b', (4, 7, 7, 1024)),
        'tail': ('res5b', (1, 1, 7, 7, 512)),
    }


def test_tsn_finds_the_region_and_the_moment(monkeypatch):
    """Red is 16 x 16 pixels of frame 1 alone, on a grid of cells of 8; green is elsewhere in frame 2."""
    monkeypatch.setitem(models.MODELS, 'seeing', (models.TSN, {'backbone': seeing.Trunk}, {}))
    explainer = Explainer(seeing.classifier('seeing', seeing.TSN, 3))
    video = seeing.clip(3, np.s_[1:2, 8:24, 32:48], np.s_[2:3, 40:56, 8:24])
    red, green = explainer.explain(video, 'red'), explainer.explain(video, 'green')
    assert seeing.share(red.map, np.s_[1:2, 0:32, 24:56]) > 0.95
    assert seeing.share(green.map, np.s_[2:3, 32:64, 0:32]) > 0.95
    np.testing.assert_allclose(red.weights, [0, 1, 0], atol=0.06)  # JPEG makes the green square's edge a little red
    assert red.method == 'gradcam' and red.map.shape == (3, 64, 64)


@pytest.mark.parametrize('cls', [models.ECOLite, models.ECOFull])
def test_eco_finds_the_region_and_the_moment(monkeypatch, cls):
    """Red is a cell of the 3-D part, 4 of 16 frames and 16 x 16 pixels; the box is twice as long and twice as wide."""
    parts = {'backbone': seeing.Trunk, 'tail': ResNet3D}
    monkeypatch.setitem(models.MODELS, 'seeing', (cls, parts, {'pixels': 4, 'width': 1}))
    tail = jax.eval_shape(ResNet3D(1).init, jax.random.key(0), jax.ShapeDtypeStruct((1, 16, 16, 16, 2), jnp.float32))
    width = 8 + (2 if cls is models.ECOFull else 0)
    head = np.zeros((width, 2), np.float32)
    head[-8:-6] = head[:2] = 4 * np.eye(2)
    stats = jax.tree_util.tree_map_with_path(
        lambda path, x: np.full(x.shape, path[-1].key == 'var', np.float32), tail['batch_stats']
    )
    variables = {
        'params': {
            **seeing.TSN['params'],
            'tail': seeing.centre_taps(jax.tree.map(lambda x: np.zeros(x.shape, np.float32), tail['params'])),
            'head': {'kernel': head, 'bias': np.zeros(2, np.float32)},
        },
        'batch_stats': {'tail': stats},
    }
    explanation = Explainer(seeing.classifier('seeing', variables, 16)).explain(
        seeing.clip(16, np.s_[4:8, 16:32, 32:48]), 'red'
    )
    assert seeing.share(explanation.map, np.s_[2:10, 8:40, 24:56]) > 0.9
    assert seeing.share(explanation.cells['tail'], np.s_[1:2, 1:2, 2:3]) > 0.9
    assert set(explanation.cells) == ({'backbone', 'tail'} if cls is models.ECOFull else {'tail'})
