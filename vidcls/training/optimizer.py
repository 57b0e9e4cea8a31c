"""Optimizers and schedules, of optax parts.

SGD as torch has it: the gradient is clipped, weight decay is added to it (L2), then momentum, then the rate. Caffe is the
same as long as the rate is: its momentum has the rate in it, so that the steps after a drop are longer there.
"""

from typing import Any

import jax
import optax

from vidcls.config import InitConfig, OptimConfig
from vidcls.training import freezing


def make_schedule(config: OptimConfig, steps_per_epoch: float, num_steps: int) -> optax.Schedule:
    """Learning rate of each optimizer step: linear warm-up, then steps or half a cosine down to zero."""
    warmup = round(config.warmup_epochs * steps_per_epoch)
    if config.schedule == 'cosine':
        main = optax.cosine_decay_schedule(config.learning_rate, max(num_steps - warmup, 1))
    else:
        drops: dict[int, float] = {}  # on a small dataset two milestones can fall on one step
        for epoch in config.milestones:
            boundary = round(epoch * steps_per_epoch) - warmup
            drops[boundary] = drops.get(boundary, 1.0) * config.decay
        main = optax.piecewise_constant_schedule(config.learning_rate, drops)
    if not warmup:
        return main
    # From one step's worth, not from zero: a step that moves nothing is a step lost.
    rise = optax.linear_schedule(config.learning_rate / warmup, config.learning_rate, max(warmup - 1, 1))
    return optax.join_schedules([rise, main], [warmup])


def make_optimizer(
    config: OptimConfig, learning_rate: optax.Schedule, init: InitConfig | None = None
) -> optax.GradientTransformation:
    """Updates of parameters; where `init` says so some stay, and others move at a multiple of the rate."""
    made = _everywhere(config, learning_rate)
    if init is None:
        return made
    if init.freeze or init.partial_bn:
        # What stays has no part in the clipped norm either, nor a momentum.
        made = optax.multi_transform(
            {True: made, False: optax.set_to_zero()},
            lambda params: jax.tree.map(lambda stays: not stays, freezing.frozen(init, params)),
        )
    if init.head_multiplier != 1 or init.bias_multiplier != 1:
        made = optax.chain(made, optax.stateless(lambda updates, _: _multiply(init, updates)))
    return made


def _everywhere(config: OptimConfig, learning_rate: optax.Schedule) -> optax.GradientTransformation:
    clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
    mask = None if config.decay_all else decayed
    if config.name == 'adamw':
        return optax.chain(clip, optax.adamw(learning_rate, weight_decay=config.weight_decay, mask=mask))
    return optax.chain(
        clip,
        optax.add_decayed_weights(config.weight_decay, mask),
        optax.sgd(learning_rate, momentum=config.momentum, nesterov=config.nesterov),
    )


def _multiply(init: InitConfig, updates: Any) -> Any:
    return jax.tree.map(lambda x, factor: x * factor, updates, freezing.multipliers(init, updates))


def decayed(params: Any) -> Any:
    """Which parameters are kernels: not the biases, the scales of norms, or the embeddings of tokens and places."""
    return jax.tree.map_with_path(lambda path, _: path[-1].key == 'kernel', params)
