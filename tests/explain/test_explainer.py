"""Which view, which label, which method; mirrored views; networks that have learnt nothing."""

import functools
from typing import Any

import av
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.stats import spearmanr

from tests import made_videos
from tests.explain import seeing
from vidcls import models
from vidcls.data import decoding
from vidcls.errors import UserError
from vidcls.explain import Explainer

RED, GREEN = np.s_[1:2, 16:32, 32:48], np.s_[2:3, 32:48, 0:16]


@pytest.fixture
def seeing_tsn(monkeypatch):
    monkeypatch.setitem(models.MODELS, 'seeing', (models.TSN, {'backbone': seeing.Trunk}, {}))
    return functools.partial(seeing.classifier, 'seeing', seeing.TSN, 3)


def test_the_first_label_is_explained_with_its_probability(seeing_tsn):
    classifier = seeing_tsn()
    video = seeing.clip(3, np.s_[0:0, 0:0, 0:0], GREEN)
    explainer = Explainer(classifier)
    explanation = explainer.explain(video)
    (label, probability), _ = classifier.classify(video)
    assert (explanation.label, explanation.video, explanation.views) == (label, '', 1) == ('green', '', 1)
    assert explanation.probability == pytest.approx(probability, abs=1e-6)
    assert explainer.explain(video, 'red').probability == pytest.approx(1 - probability, abs=1e-6)
    np.testing.assert_allclose(explanation.times, [0, 1 / 25, 2 / 25])


def test_a_file_is_decoded_once(seeing_tsn, tmp_path, monkeypatch):
    path = made_videos.write_video(tmp_path / 'a.mp4', made_videos.scenery(4))
    explainer, decoded = Explainer(seeing_tsn()), []
    monkeypatch.setattr(decoding, '_report_frame', lambda: decoded.append(1))
    look = explainer.look(path)
    for label in seeing.LABELS:
        explainer.write(look, tmp_path, label)
    assert len(decoded) == 4
    np.testing.assert_array_equal(look.probabilities, explainer.classifier.probabilities(path))
    with av.open(str(tmp_path / 'a-red-gradcam.mp4')) as film:
        assert sum(1 for _ in film.decode(video=0)) == len(look.film) == 4


def test_a_mirrored_view_is_shown_upright(seeing_tsn):
    """Of 10 crops of 32 pixels, number 1, top right, has the red box whole, and number 6 is its mirror image."""
    classifier = seeing_tsn(crops=10, side=32)
    explainer = Explainer(classifier)
    video = seeing.clip(3, np.s_[1:2, 0:16, 40:64])
    logits = classifier.logits(video)
    halves = [np.where((np.arange(10) < 5)[:, None] == upright, logits, 0) for upright in (True, False)]
    classifier.logits_of = lambda views: halves.pop(0)
    upright, mirrored = explainer.explain(video, 'red'), explainer.explain(video, 'red')
    assert (upright.view, upright.views, upright.window.flip) == (1, 10, False)
    assert (mirrored.view, mirrored.window.flip) == (6, True)
    assert mirrored.window[:4] == upright.window[:4]
    np.testing.assert_allclose(mirrored.map, upright.map, atol=0.02 * upright.map.max())
    assert seeing.share(upright.map, np.s_[1:2, 0:24, 4:32]) > 0.95
    assert seeing.share(upright.map, np.s_[1:2, 0:24, 0:8]) < 0.15  # a third, if it were mirrored


def test_what_cannot_be_explained_is_named(seeing_tsn):
    classifier = seeing_tsn()
    with pytest.raises(UserError, match=r"no label 'reed' \(did you mean red\?\); it has 2"):
        Explainer(classifier).explain(seeing.clip(3, RED), 'reed')
    with pytest.raises(UserError, match=r"unknown method 'gradcamm' \(did you mean gradcam\?\)"):
        Explainer(classifier, 'gradcamm')
    with pytest.raises(UserError, match='rollout needs attention, and seeing has none'):
        Explainer(classifier, 'rollout')
    classifier.variables['params']['head']['bias'] += np.nan
    with pytest.raises(UserError, match='the network gives numbers that are not finite'):
        Explainer(classifier).explain(seeing.clip(3, RED))


def test_evidence_against_a_label_leaves_an_empty_map(seeing_tsn):
    classifier = seeing_tsn()
    classifier.variables['params']['head']['kernel'] *= -1
    explanation = Explainer(classifier).explain(seeing.clip(3, RED), 'red')
    assert explanation.map.max() == 0 and explanation.weights.tolist() == [0, 0, 0]
    assert explanation.cells['backbone'].min() < 0


class Learner(nn.Module):
    """Two convolutions, to be trained: images [n h w c] -> features [n 16]."""

    @nn.compact
    def __call__(self, x, train: bool = False) -> Any:
        x = jax.nn.relu(nn.Conv(8, (4, 4), 4, name='first')(4 * x - 2))
        return Last(name='last')(x).sum((1, 2)) / 4


class Last(nn.Module):
    @nn.compact
    def __call__(self, x):
        return jax.nn.relu(nn.Conv(16, (3, 3), 2)(x))


def squares(rng, red, green):
    """A clip of coarse grey noise with a square of either colour at (frame, row, column) of 3 x 4 x 4, or without."""
    video = rng.integers(100, 156, (3, 8, 8, 1), np.uint8).repeat(8, 1).repeat(8, 2).repeat(3, 3)
    for place, colour in ((red, (200, 40, 40)), (green, (40, 200, 40))):
        if place is not None:
            frame, row, column = place
            video[frame, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16] = colour
    return video


def test_a_trained_network_looks_at_the_square_and_a_random_one_elsewhere(monkeypatch):
    """Adebayo et al. 2018 (arXiv:1810.03292): a map that stays when the weights are drawn anew explains nothing.

    A colour is in half of the clips, whether the other one is there or not. If just one of two were in each, a network could
    tell green by seeing no red, and its map would be right to show the whole background.
    """
    monkeypatch.setitem(models.MODELS, 'learner', (models.TSN, {'backbone': Learner}, {'dropout': 0.0}))
    model, rng = models.build('learner', 2), np.random.default_rng(0)
    place = lambda: tuple(rng.integers(0, [3, 4, 4]))
    drawn = [[place() if rng.random() < 0.5 else None for _ in range(2)] for _ in range(128)]
    clips = jnp.asarray([squares(rng, *places) for places in drawn]) / 255
    labels = jnp.asarray([[place is not None for place in places] for places in drawn], jnp.float32)
    start = jax.jit(model.init)(jax.random.key(0), clips[:1])
    optimizer = optax.adam(0.005)

    @jax.jit
    def step(params, state, at):
        loss = lambda p: optax.sigmoid_binary_cross_entropy(model.apply(p, clips[at]), labels[at]).mean()
        value, gradient = jax.value_and_grad(loss)(params)
        change, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, change), state, value

    params, state = start, optimizer.init(start)
    for number in range(150):
        params, state, loss = step(params, state, (np.arange(24) + 24 * number) % 128)
    assert loss < 0.1

    trained, random = (Explainer(seeing.classifier('learner', variables, 3)) for variables in (params, start))
    shares, alike = [], []
    for label in 4 * seeing.LABELS:
        places = [place(), place()]
        video = squares(rng, *places)
        ours, theirs = trained.explain(video, label), random.explain(video, label)
        frame, row, column = places[seeing.LABELS.index(label)]
        around = (slice(max(16 * at - 8, 0), 16 * at + 24) for at in (row, column))
        shares.append(seeing.share(ours.map, (slice(frame, frame + 1), *around)))
        alike.append(spearmanr(ours.cells['backbone'].ravel(), theirs.cells['backbone'].ravel()).statistic)
    assert np.mean(shares) >= 0.8
    assert np.mean(alike) < 0.5
