"""A train step in bfloat16 beside the same step in float32, of each family."""

import dataclasses

import flax.traverse_util
import jax
import numpy as np
import pytest

from vidcls.config import AugmentConfig, Config, ModelConfig, OptimConfig, SamplingConfig
from vidcls.data.pipeline import Batch
from vidcls.data.transform import Views
from vidcls.distributed.devices import place, pmap, replicate, shard, unreplicate
from vidcls.models.configured import build_model
from vidcls.training.optimizer import make_optimizer
from vidcls.training.step import TrainState, make_train_step, new_state

CLASSES, CLIPS = 3, 8
# How far off the loss may be, relatively, and the gradient, of its length. Norms over a few positions, as in the last layers
# of these networks, make the rounding of the convolutions large; rounding before centring took TSN's loss 0.015 off.
CLOSE = {'tsn': (0.005, 0.3), 'eco': (0.04, 0.5), 'timesformer': (0.01, 0.05)}
FAMILIES = {
    'tsn': (ModelConfig('tsn_micro', dropout=0.0), 2, 32),
    'eco': (ModelConfig('eco_tiny', width=4, dropout=0.0), 4, 32),
    'timesformer': (ModelConfig('timesformer_tiny', width=8, depth=1, num_heads=2, patch_size=8, drop_path=0.0), 2, 16),
}


def patterns(frames: int, size: int) -> Batch:
    """Clips of coloured squares, which a network tells apart: of noise the gradients would be the noise of rounding."""
    random = np.random.default_rng(0)
    squares = random.integers(0, 256, (CLIPS, frames, 4, 4, 3), dtype=np.uint8)
    canvas = squares.repeat(size // 4, axis=2).repeat(size // 4, axis=3)
    clips = Views(canvas, np.tile(np.int32([0, 0, size, size, 0]), (CLIPS, 1, 1)))
    return Batch(clips, np.arange(CLIPS, dtype=np.int32) % CLASSES, np.arange(CLIPS), np.ones(CLIPS, bool))


def start(config: Config, optimizer, video) -> TrainState:
    """Random numbers at He's scale, norms at one and zero: the network's own start takes as long to compile as a step."""
    random = np.random.default_rng(0)

    def drawn(path, leaf):
        if path[-1] == 'kernel':
            return np.float32(random.normal(size=leaf.shape) * (2 / np.prod(leaf.shape[:-1])) ** 0.5)
        return np.full(leaf.shape, path[-1] in ('scale', 'var'), np.float32)

    model = build_model(config, CLASSES)
    made = flax.traverse_util.path_aware_map(drawn, jax.eval_shape(model.init, jax.random.key(0), video))
    params = made['params']
    return new_state(np.int32(0), params, made.get('batch_stats', {}), optimizer.init(params), config)


@pytest.mark.slow  # two programs each, which compile for half a minute and more
@pytest.mark.parametrize('family', ['tsn', 'eco', 'timesformer'])
def test_a_step_in_bfloat16_is_close_to_float32(family, monkeypatch):
    monkeypatch.setattr(jax, 'default_backend', lambda: 'tpu')  # XLA's own convolutions compile faster
    settings, frames, size = FAMILIES[family]
    batch, found = patterns(frames, size), {}
    for dtype in ('float32', 'bfloat16'):
        config = Config(
            model=dataclasses.replace(settings, dtype=dtype),
            sampling=SamplingConfig(num_segments=frames),
            augment=AugmentConfig(crop_size=size),
            optim=OptimConfig(learning_rate=1.0, momentum=0.0, weight_decay=0.0),  # the update is the gradient
        )
        rate = lambda step: 1.0
        optimizer = make_optimizer(config.optim, rate)
        first = start(config, optimizer, jax.ShapeDtypeStruct((1, frames, size, size, 3), np.float32))
        model, devices = build_model(config, CLASSES), jax.local_devices()[:1]
        run = pmap(make_train_step(model, optimizer, rate, config), devices)
        state = replicate(first, devices)
        after, measured = unreplicate(run(state, place(shard(batch, 1), devices)))
        moved = jax.tree.map(lambda a, b: np.asarray(a, np.float64) - b, first.params, after.params)
        found[dtype] = float(measured['loss']), np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(moved)])
    (loss, exact), (rounded_loss, rounded) = found['float32'], found['bfloat16']
    off = np.linalg.norm(rounded - exact) / np.linalg.norm(exact)
    close_loss, close_gradient = CLOSE[family]
    assert rounded_loss == pytest.approx(loss, rel=close_loss)
    assert 0 < off < close_gradient
