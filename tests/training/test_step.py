"""One step on a network that can be worked out by hand: parts of a batch, the moving average, mixing, a loss of one's own."""

import dataclasses

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest

from vidcls import metrics
from vidcls.config import AugmentConfig, Config, ModelConfig, OptimConfig, SamplingConfig
from vidcls.data.pipeline import Batch
from vidcls.data.transform import Views, transform
from vidcls.distributed.devices import place, pmap, replicate, shard, unreplicate
from vidcls.models.configured import build_model
from vidcls.training.optimizer import make_optimizer
from vidcls.training.step import ema_decay, init_state, make_train_step, num_parts

RATE = 0.5
CONFIG = Config(
    sampling=SamplingConfig(num_segments=1),
    augment=AugmentConfig(crop_size=2, mean=(0, 0, 0), std=(1, 1, 1)),
    optim=OptimConfig(learning_rate=RATE, momentum=0.0, weight_decay=0.0),
)


class Linear(nn.Module):
    """Logits of a clip's pixels; no BatchNorm, so that a batch is the mean of its parts."""

    num_classes: int = 3

    @nn.compact
    def __call__(self, video, train: bool = False):
        return nn.Dense(self.num_classes, name='head')(video.reshape(len(video), -1))


def _batch(count: int, frames: int = 1, size: int = 2) -> Batch:
    rng = np.random.default_rng(0)
    clips = Views(
        rng.integers(0, 256, (count, frames, size, size, 3), dtype=np.uint8),
        np.tile(np.array([0, 0, size, size, 0], np.int32), (count, 1, 1)),
    )
    return Batch(clips, rng.integers(0, 3, count).astype(np.int32), np.arange(count), np.ones(count, bool))


def _step(
    config: Config,
    batch: Batch,
    num_devices: int = 1,
    steps: int = 1,
    model=None,
    first=None,
    loss=metrics.cross_entropy,
):
    devices = jax.local_devices()[:num_devices]
    model, rate = model or Linear(), optax.constant_schedule(config.optim.learning_rate)
    optimizer = make_optimizer(config.optim, rate)
    first = first or init_state(model, optimizer, config)
    run = pmap(make_train_step(model, optimizer, rate, config, loss=loss), devices)
    state = replicate(first, devices)
    for _ in range(steps):
        state, measured = run(state, place(shard(batch, num_devices), devices))
    return first, unreplicate(state), unreplicate(measured)


def test_a_loss_of_ones_own_by_hand():
    batch = _batch(4)
    squares = lambda logits, targets: ((logits - targets) ** 2).sum(-1)
    first, state, measured = _step(_with(label_smoothing=0.3), batch, loss=squares)
    kernel, x = first.params['head']['kernel'], batch.views.canvas.reshape(4, -1) / 255
    # Smoothing 0.3 of three classes: 0.8 for the label, 0.1 for the others.
    error = x @ kernel - (0.7 * np.eye(3)[batch.label] + 0.1)
    np.testing.assert_allclose(state.params['head']['kernel'], kernel - RATE * 2 * x.T @ error / 4, atol=1e-5)
    assert measured['loss'] == pytest.approx((error**2).sum(-1).mean(), rel=1e-4)


def _with(**settings) -> Config:
    return dataclasses.replace(CONFIG, optim=dataclasses.replace(CONFIG.optim, **settings))


def test_a_step_by_hand():
    batch = _batch(4)
    first, state, measured = _step(CONFIG, batch)
    kernel, x = first.params['head']['kernel'], batch.views.canvas.reshape(4, -1) / 255
    logits = x @ kernel
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    gradient = x.T @ (probabilities - np.eye(3)[batch.label]) / 4
    np.testing.assert_allclose(state.params['head']['kernel'], kernel - RATE * gradient, atol=1e-5)
    assert measured['loss'] == pytest.approx(-np.log(probabilities[np.arange(4), batch.label]).mean(), rel=1e-4)
    assert state.step == 1
    assert state.ema == {}


@pytest.mark.parametrize(
    ('share', 'at_once', 'parts'),
    [(64, 4, 16), (8, 4, 2), (8, 3, 4), (7, 4, 7), (10, 16, 1), (8, 8, 1), (8, 0, 1), (1, 1, 1)],
)
def test_parts_are_equal_and_as_few_as_have_so_many_clips_at_most(share, at_once, parts):
    assert num_parts(share, at_once) == parts


@pytest.mark.parametrize(('at_once', 'devices'), [(2, 1), (2, 2), (0, 8)])
def test_parts_and_devices_give_the_step_of_the_whole_batch(at_once, devices):
    batch = _batch(8)
    _, whole, measured = _step(CONFIG, batch)
    _, split, split_measured = _step(_with(clips_per_device=at_once), batch, devices)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), split.params, whole.params)
    for name in measured:
        assert split_measured[name] == pytest.approx(measured[name], rel=1e-4), name


def test_the_average_moves_by_its_share_and_is_what_is_evaluated():
    config = _with(ema_decay=0.15)
    first, one, _ = _step(config, _batch(4))
    _, two, _ = _step(config, _batch(4), steps=2)
    start, after_one, after_two = (state.params['head']['kernel'] for state in (first, one, two))
    # At first it keeps (1 + 0) / (10 + 0); 2 / 11 would be more than 0.15.
    expected = 0.1 * start + 0.9 * after_one
    np.testing.assert_allclose(one.ema['params']['head']['kernel'], expected, atol=1e-6)
    expected = 0.15 * expected + 0.85 * after_two
    np.testing.assert_allclose(two.ema['params']['head']['kernel'], expected, atol=1e-6)
    assert one.variables is one.ema
    plain = _step(CONFIG, _batch(4))[1]
    np.testing.assert_array_equal(plain.params['head']['kernel'], after_one)


def test_the_average_keeps_more_as_it_grows_older():
    found = [float(ema_decay(0.999, step)) for step in (0, 1, 8, 8990, 8991, 100_000)]
    assert found == pytest.approx([1 / 10, 2 / 11, 9 / 18, 8991 / 9000, 0.999, 0.999])


def test_mixing_acts_and_is_repeated_by_the_seed():
    config = dataclasses.replace(CONFIG, augment=dataclasses.replace(CONFIG.augment, mixup_alpha=1.0))
    batch = _batch(4)
    _, mixed, measured = _step(config, batch)
    _, plain, _ = _step(CONFIG, batch)
    assert np.isfinite(measured['loss'])
    assert np.abs(mixed.params['head']['kernel'] - plain.params['head']['kernel']).max() > 1e-4
    _, again, _ = _step(config, batch)
    jax.tree.map(np.testing.assert_array_equal, mixed.params, again.params)


# Smallest networks; what draws random numbers on each device is off. At higher rates than `SLOW` the rounding of the
# gradients, which the few pixels of ECO's last maps make large, doubles and redoubles within the five steps.
SLOW = 1e-3
FAMILIES = {
    'tsn': (ModelConfig('tsn_micro', dropout=0.0), 2, 16),
    'eco': (ModelConfig('eco_tiny', width=2, dropout=0.0), 4, 16),
    'timesformer': (ModelConfig('timesformer_tiny', width=8, depth=1, num_heads=2, patch_size=8, drop_path=0.0), 2, 16),
}


def _network(family: str, sync: bool) -> tuple[Config, nn.Module, Batch]:
    model, frames, size = FAMILIES[family]
    config = Config(
        model=dataclasses.replace(model, sync_batch_norm=sync),
        sampling=SamplingConfig(num_segments=frames),
        augment=AugmentConfig(crop_size=size),
        optim=OptimConfig(learning_rate=SLOW, momentum=0.9),
    )
    return config, build_model(config, 3), _batch(8, frames, size)


@pytest.fixture
def plain_convolutions(monkeypatch):
    """XLA's own: the forms that are fast on the CPU compile slowly."""
    monkeypatch.setattr(jax, 'default_backend', lambda: 'tpu')


@pytest.mark.slow  # four programs each
@pytest.mark.parametrize('family', ['tsn', 'eco', 'timesformer'])
def test_any_number_of_devices_gives_the_same_parameters(family, plain_convolutions):
    config, model, batch = _network(family, sync=family != 'timesformer')
    first, one, measured = _step(config, batch, 1, 5, model)
    assert one.step == 5
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), one.params, first.params)
    assert max(jax.tree.leaves(moved)) > 1e-4
    for devices in (2, 4, 8):
        _, several, also_measured = _step(config, batch, devices, 5, model, first)
        close = lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
        jax.tree.map(close, several.saved, one.saved)
        assert also_measured['loss'] == pytest.approx(measured['loss'], rel=1e-4)


@pytest.mark.slow
def test_batch_norm_is_per_device_unless_it_is_synchronised(plain_convolutions):
    config, model, batch = _network('tsn', sync=False)
    first, state, measured = _step(config, batch, 2, model=model)

    @jax.jit
    def share(clips, label):
        """Loss, gradients and statistics of one device's share, without devices."""

        def loss(params):
            video = transform(clips, config)
            variables = first.variables | {'params': params}
            logits, updated = model.apply(variables, video, train=True, mutable=['batch_stats'])
            return optax.softmax_cross_entropy_with_integer_labels(logits, label).mean(), updated['batch_stats']

        (value, statistics), gradient = jax.value_and_grad(loss, has_aux=True)(first.params)
        return value, statistics, gradient

    clips, label = shard((batch.views, batch.label), 2)
    halves = [share(Views(*(x[half] for x in clips)), label[half]) for half in range(2)]
    loss, statistics, gradient = jax.tree.map(lambda a, b: (a + b) / 2, *halves)
    decay, rate = config.optim.weight_decay, config.optim.learning_rate
    params = jax.tree.map(lambda p, g: p - rate * (g + decay * p), first.params, gradient)
    close = lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    jax.tree.map(close, state.params, params)
    jax.tree.map(close, state.batch_stats, statistics)
    assert measured['loss'] == pytest.approx(float(loss), rel=1e-5)
