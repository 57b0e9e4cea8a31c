"""Schedules at chosen steps, and every recipe against torch's update written out in numpy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vidcls.config import OptimConfig
from vidcls.errors import UserError
from vidcls.training.optimizer import make_optimizer, make_schedule


def test_multi_step_with_warmup():
    config = OptimConfig(learning_rate=1.0, milestones=(2.0, 3.0), decay=0.1, warmup_epochs=0.4)
    rate = make_schedule(config, steps_per_epoch=10, num_steps=40)
    found = [float(rate(step)) for step in (0, 1, 3, 4, 19, 20, 29, 30, 39)]
    assert found == pytest.approx([0.25, 0.5, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_milestones_on_one_step_both_count():
    rate = make_schedule(OptimConfig(learning_rate=1.0, milestones=(1.0, 1.2)), steps_per_epoch=1, num_steps=3)
    assert [float(rate(step)) for step in (0, 1)] == pytest.approx([1.0, 0.01])


def test_cosine_goes_to_zero():
    rate = make_schedule(OptimConfig(learning_rate=0.2, schedule='cosine'), steps_per_epoch=10, num_steps=40)
    assert [float(rate(step)) for step in (0, 20, 40)] == pytest.approx([0.2, 0.1, 0.0])


def test_an_unknown_schedule_is_refused_with_the_nearest():
    with pytest.raises(
        UserError, match="optim.schedule='cosin': must be one of multi_step, cosine .did you mean cosine"
    ):
        make_schedule(OptimConfig(schedule='cosin'), steps_per_epoch=1, num_steps=3)


START = {
    'fc': {'kernel': np.array([[1.0, -2.0], [0.5, 3.0]]), 'bias': np.array([0.3, -0.1])},
    'norm': {'scale': np.array([1.0, 1.5]), 'bias': np.array([-0.2, 0.4])},
}
SGD = OptimConfig(momentum=0.9, weight_decay=0.1, clip_norm=1.0)
ADAMW = OptimConfig(name='adamw', weight_decay=0.1, clip_norm=1.0)


def _gradients(steps: int = 5) -> list:
    """Of norms from 0.03 to above 3, so that a clip at 1 acts in some steps and not in others."""
    rng = np.random.default_rng(0)
    drawn = [jax.tree.map(lambda x: rng.normal(size=x.shape), START) for _ in range(steps)]
    return [
        jax.tree.map(lambda x, scale=scale: scale * x, tree) for scale, tree in zip(np.logspace(-2, 0, steps), drawn)
    ]


def _by_torchs_rule(config: OptimConfig, rates, grads):
    """Parameters after torch's documented updates (torch.optim.SGD, AdamW, clip_grad_norm_), one leaf at a time."""
    leaves = [leaf.copy() for leaf in jax.tree.leaves(START)]
    decays = jax.tree.leaves({'fc': {'kernel': True, 'bias': False}, 'norm': {'scale': False, 'bias': False}})
    first, second = [0.0] * len(leaves), [0.0] * len(leaves)
    for step, (rate, tree) in enumerate(zip(rates, grads, strict=True), 1):
        flat = jax.tree.leaves(tree)
        norm = np.sqrt(sum((grad**2).sum() for grad in flat))
        clip = min(1.0, config.clip_norm / norm) if config.clip_norm else 1.0
        for i, grad in enumerate(flat):
            grad = clip * grad
            decay = config.weight_decay if config.decay_all or decays[i] else 0.0
            if config.name == 'sgd':
                grad = grad + decay * leaves[i]
                first[i] = config.momentum * first[i] + grad  # dampening 0
                leaves[i] -= rate * (grad + config.momentum * first[i] if config.nesterov else first[i])
            else:
                leaves[i] *= 1 - rate * decay
                first[i] = 0.9 * first[i] + 0.1 * grad
                second[i] = 0.999 * second[i] + 0.001 * grad**2
                mean, square = first[i] / (1 - 0.9**step), second[i] / (1 - 0.999**step)
                leaves[i] -= rate * mean / (np.sqrt(square) + 1e-8)
    return leaves


@pytest.mark.parametrize(
    'config',
    [
        pytest.param(SGD, id='sgd, L2 of all, clipped'),
        pytest.param(dataclasses.replace(SGD, clip_norm=0.0, decay_all=False), id='sgd, L2 of kernels'),
        pytest.param(dataclasses.replace(SGD, nesterov=True), id='nesterov'),
        pytest.param(dataclasses.replace(ADAMW, decay_all=False), id='adamw, decay of kernels, clipped'),
        pytest.param(dataclasses.replace(ADAMW, clip_norm=0.0), id='adamw, decay of all'),
    ],
)
def test_five_steps_are_torchs(config):
    config = dataclasses.replace(config, learning_rate=0.1, warmup_epochs=0.3, schedule='cosine')
    # Three steps of warm-up (a third of the rate more each), then a cosine over the seven that are left of ten.
    rates = [0.1 / 3, 0.2 / 3, 0.1, 0.1, 0.05 * (1 + np.cos(np.pi / 7))]
    optimizer = make_optimizer(config, make_schedule(config, steps_per_epoch=10, num_steps=10))
    params = jax.tree.map(jnp.asarray, START)
    state = optimizer.init(params)
    for grads in _gradients():
        updates, state = optimizer.update(jax.tree.map(jnp.asarray, grads), state, params)
        params = optax.apply_updates(params, updates)
    for found, expected in zip(jax.tree.leaves(params), _by_torchs_rule(config, rates, _gradients()), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize('name', ['sgd', 'nesterov', 'adamw'])
def test_the_rule_is_that_of_an_installed_torch(name):
    torch = pytest.importorskip('torch')
    config = dataclasses.replace(ADAMW if name == 'adamw' else SGD, nesterov=name == 'nesterov')
    leaves = [torch.nn.Parameter(torch.tensor(leaf)) for leaf in jax.tree.leaves(START)]
    if name == 'adamw':
        optimizer = torch.optim.AdamW(leaves, lr=0.1, weight_decay=0.1)
    else:
        optimizer = torch.optim.SGD(leaves, lr=0.1, momentum=0.9, weight_decay=0.1, nesterov=config.nesterov)
    for grads in _gradients():
        for leaf, grad in zip(leaves, jax.tree.leaves(grads), strict=True):
            leaf.grad = torch.tensor(grad)
        torch.nn.utils.clip_grad_norm_(leaves, 1.0)
        optimizer.step()
    for leaf, expected in zip(leaves, _by_torchs_rule(config, [0.1] * 5, _gradients()), strict=True):
        np.testing.assert_allclose(leaf.detach().numpy(), expected, rtol=1e-5)


def test_decay_of_kernels_alone():
    config = OptimConfig(momentum=0.0, weight_decay=0.1, decay_all=False)
    params = {'fc': {'kernel': jnp.ones((2, 2)), 'bias': jnp.ones(2)}, 'norm': {'scale': jnp.ones(2)}}
    optimizer = make_optimizer(config, lambda step: 0.5)
    updates, _ = optimizer.update(jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params)
    np.testing.assert_allclose(updates['fc']['kernel'], -0.05)
    assert not np.any(updates['fc']['bias']) and not np.any(updates['norm']['scale'])
