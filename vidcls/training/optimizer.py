"""Optimizers and learning-rate schedules, built of optax parts.

SGD works as in PyTorch: the gradient is clipped, weight decay (L2) is added, then momentum is applied, then the
learning rate. Caffe's SGD differs where the learning rate changes: its momentum accumulates updates that are already
multiplied by the rate, so that the updates after a drop are larger in Caffe.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

from vidcls.config import InitConfig, OptimConfig
from vidcls.errors import UserError
from vidcls.text import spelling
from vidcls.training import freezing


class Steps(NamedTuple):
    """How long a schedule is.

    Attributes:
      per_epoch: the number of steps of an epoch; not whole in general.
      warmup: the number of steps of the warm-up. A schedule counts its own steps from the end of the warm-up.
      total: the number of steps of the whole run.
    """

    per_epoch: float
    warmup: int
    total: int


def multi_step(config: OptimConfig, steps: Steps) -> optax.Schedule:
    """A schedule that multiplies the learning rate by `config.decay` at each of `config.milestones`."""
    drops: dict[int, float] = {}  # on a small dataset two milestones can fall on one step
    for epoch in config.milestones:
        boundary = round(epoch * steps.per_epoch) - steps.warmup
        drops[boundary] = drops.get(boundary, 1.0) * config.decay
    return optax.piecewise_constant_schedule(config.learning_rate, drops)


def cosine(config: OptimConfig, steps: Steps) -> optax.Schedule:
    """A schedule along half a cosine, down to zero at the last step (Loshchilov & Hutter 2017, equation 5)."""
    return optax.cosine_decay_schedule(config.learning_rate, max(steps.total - steps.warmup, 1))


# Name in `--config.optim.schedule` -> a function that makes the schedule that follows the warm-up.
SCHEDULES: dict[str, Callable[[OptimConfig, Steps], optax.Schedule]] = {'multi_step': multi_step, 'cosine': cosine}


def make_schedule(config: OptimConfig, steps_per_epoch: float, num_steps: int) -> optax.Schedule:
    """The learning rate of each step: a linear warm-up, then the configured schedule.

    Raises:
      UserError: `SCHEDULES` has no such schedule.
    """
    if config.schedule not in SCHEDULES:
        near, known = spelling.hint(config.schedule, SCHEDULES), ', '.join(SCHEDULES)
        raise UserError(f'--config.optim.schedule={config.schedule!r}: must be one of {known}{near}')
    warmup = round(config.warmup_epochs * steps_per_epoch)
    main = SCHEDULES[config.schedule](config, Steps(steps_per_epoch, warmup, num_steps))
    if not warmup:
        return main
    # The first rate is the full rate over `warmup`, not zero: a rate of zero would waste a step.
    rise = optax.linear_schedule(config.learning_rate / warmup, config.learning_rate, max(warmup - 1, 1))
    return optax.join_schedules([rise, main], [warmup])


def make_optimizer(
    config: OptimConfig, learning_rate: optax.Schedule, init: InitConfig | None = None
) -> optax.GradientTransformation:
    """The optimizer. With `init`, some parameters are frozen, and others have a multiple of the learning rate."""
    made = _of_all_parameters(config, learning_rate)
    if init is None:
        return made
    if init.freeze or init.partial_bn:
        # A frozen parameter has no momentum, and its gradient is not part of the norm that is clipped.
        made = optax.multi_transform(
            {True: made, False: optax.set_to_zero()},
            lambda params: jax.tree.map(lambda is_frozen: not is_frozen, freezing.frozen(init, params)),
        )
    if (init.head_multiplier, init.bias_multiplier, init.first_multiplier) != (1, 1, 1):
        made = optax.chain(made, optax.stateless(lambda updates, _: _multiply(init, updates)))
    return made


def _of_all_parameters(config: OptimConfig, learning_rate: optax.Schedule) -> optax.GradientTransformation:
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
    """A tree of bools with the structure of `params`: whether each parameter is a kernel, and so gets weight decay.

    Biases, scales of norms, class tokens, and embeddings of position and time are no kernels.
    """
    return jax.tree.map_with_path(lambda path, _: path[-1].key == 'kernel', params)
