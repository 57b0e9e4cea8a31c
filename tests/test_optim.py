"""Schedules at chosen steps, and SGD against the update written out in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vidcls import optim
from vidcls.config import OptimConfig


def test_multi_step_with_warmup():
    config = OptimConfig(learning_rate=1.0, milestones=(2.0, 3.0), decay=0.1, warmup_epochs=0.4)
    rate = optim.schedule(config, steps_per_epoch=10, num_steps=40)
    found = [float(rate(step)) for step in (0, 1, 3, 4, 19, 20, 29, 30, 39)]
    assert found == pytest.approx([0.25, 0.5, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_milestones_on_one_step_both_count():
    rate = optim.schedule(OptimConfig(learning_rate=1.0, milestones=(1.0, 1.2)), steps_per_epoch=1, num_steps=3)
    assert [float(rate(step)) for step in (0, 1)] == pytest.approx([1.0, 0.01])


def test_cosine_goes_to_zero():
    rate = optim.schedule(OptimConfig(learning_rate=0.2, schedule='cosine'), steps_per_epoch=10, num_steps=40)
    assert [float(rate(step)) for step in (0, 20, 40)] == pytest.approx([0.2, 0.1, 0.0])


@pytest.mark.parametrize('nesterov', [False, True])
def test_sgd_is_torchs(nesterov):
    config = OptimConfig(momentum=0.9, nesterov=nesterov, weight_decay=0.1, clip_norm=1.0)
    optimizer = optim.optimizer(config, lambda step: 0.5)
    params = {'w': jnp.array([1.0, -2.0])}
    state = optimizer.init(params)
    expected, buffer = np.array([1.0, -2.0]), np.zeros(2)
    for step in range(5):
        grad = np.array([3.0, 4.0]) * (step + 1)
        updates, state = optimizer.update({'w': jnp.asarray(grad)}, state, params)
        params = optax.apply_updates(params, updates)
        # Clipped to norm 1, then L2, then momentum with dampening 0.
        grad = grad / np.linalg.norm(grad) + 0.1 * expected
        buffer = 0.9 * buffer + grad
        expected = expected - 0.5 * (grad + 0.9 * buffer if nesterov else buffer)
    np.testing.assert_allclose(params['w'], expected, rtol=1e-5)


def test_decay_of_kernels_alone():
    config = OptimConfig(momentum=0.0, weight_decay=0.1, decay_all=False)
    params = {'fc': {'kernel': jnp.ones((2, 2)), 'bias': jnp.ones(2)}, 'norm': {'scale': jnp.ones(2)}}
    optimizer = optim.optimizer(config, lambda step: 0.5)
    updates, _ = optimizer.update(jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params)
    np.testing.assert_allclose(updates['fc']['kernel'], -0.05)
    assert not np.any(updates['fc']['bias']) and not np.any(updates['norm']['scale'])
