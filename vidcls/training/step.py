"""The state of training, and the step: a pure function of (state, batch), written for one device.

The step averages gradients and measurements over all devices (`vidcls.distributed.devices.AXIS`). No random key is part
of the state: a key is folded from the seed, the step, the device, and the number of the part within the device's share.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from vidcls import metrics
from vidcls.config import Config
from vidcls.data.mixup import mix_clips
from vidcls.data.pipeline import Batch
from vidcls.data.transform import Views, transform
from vidcls.distributed.devices import AXIS
from vidcls.training import freezing


@flax.struct.dataclass
class TrainState:
    """The state of training: all that a step changes."""

    step: jax.Array | np.integer  # int32, the number of steps made
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    ema: Any  # {'params', 'batch_stats'}: moving averages; empty where none are kept

    @property
    def saved(self) -> dict[str, Any]:
        """The tree that a checkpoint saves as `model`."""
        saved = {'params': self.params, 'batch_stats': self.batch_stats}
        return saved | ({'ema': self.ema} if self.ema else {})

    @property
    def variables(self) -> dict[str, Any]:
        """The variables that are evaluated: the moving averages if they are kept, else parameters and statistics."""
        return self.ema or {'params': self.params, 'batch_stats': self.batch_stats}


def init_state(model: nn.Module, optimizer: optax.GradientTransformation, config: Config) -> TrainState:
    """The state at step 0, in numpy's arrays, with random numbers that depend on the seed alone."""

    def init(key):
        variables = model.init(key, jnp.zeros((1, *config.video_shape())), train=False)
        params = variables['params']
        return new_state(jnp.int32(0), params, variables.get('batch_stats', {}), optimizer.init(params), config)

    # This code runs once. XLA would optimise it for minutes for a network of hundreds of arrays, such as BN-Inception.
    unoptimised: dict[str, Any] = {'xla_backend_optimization_level': 0}
    key = jax.random.key(config.seed)
    return jax.device_get(jax.jit(init).lower(key).compile(unoptimised)(key))


def new_state(
    step: jax.Array | np.integer, params: Any, batch_stats: Any, opt_state: optax.OptState, config: Config
) -> TrainState:
    """A state whose moving averages, if the configuration keeps any, are equal to its parameters and statistics."""
    ema = {'params': params, 'batch_stats': batch_stats} if config.optim.ema_decay else {}
    return TrainState(step, params, batch_stats, opt_state, ema)


def make_train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    learning_rate: optax.Schedule,
    config: Config,
    averaged_steps: int = 0,
    loss: metrics.Loss = metrics.cross_entropy,
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:
    """A function for one device: (state, batch) -> (next state, measurements).

    A device works through its share of the global batch in equal parts of at most `config.optim.clips_per_device`
    clips, one after the other, and averages their gradients. This is the same step in less memory, except that
    BatchNorm sees each part by itself. For TimeSformer, which has no BatchNorm, the number of parts changes the result
    by rounding alone.

    Args:
      learning_rate: the schedule that the measurements report; the optimizer has its own.
      averaged_steps: the number of updates in the moving averages at step 0.
      loss: (logits [b k], targets float32[b k]) -> float32[b]. It gets targets that are mixed and smoothed already.
    """
    gradients = jax.grad(_mean_loss(model, config, loss), has_aux=True)
    decay = config.optim.ema_decay

    def step(state: TrainState, batch: Batch):
        key = jax.random.fold_in(jax.random.key(config.seed), state.step)
        key = jax.random.fold_in(key, jax.lax.axis_index(AXIS))
        parts = num_parts(len(batch.label), config.optim.clips_per_device)

        def part(batch_stats, inputs):
            number, views, label = inputs
            grads, aux = gradients(state.params, batch_stats, views, label, jax.random.fold_in(key, number))
            return aux['batch_stats'], (grads, aux['measured'])

        if parts == 1:
            batch_stats, found = part(state.batch_stats, (0, batch.views, batch.label))
        else:
            split = jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), (batch.views, batch.label))
            batch_stats, found = _scan_mean(part, state.batch_stats, (jnp.arange(parts), *split))
        # Each device updates BatchNorm's running statistics by its share. Their mean keeps the devices' states equal.
        (grads, measured), batch_stats = jax.lax.pmean((found, batch_stats), AXIS)
        measured |= {'grad_norm': optax.tree.norm(grads), 'learning_rate': learning_rate(state.step)}
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if decay:  # statistics are averaged too: the latest ones would not fit the averaged parameters
            moved = 1 - ema_decay(decay, state.step + averaged_steps)
            ema = optax.incremental_update({'params': params, 'batch_stats': batch_stats}, ema, moved)
        return TrainState(state.step + 1, params, batch_stats, opt_state, ema), measured

    return step


def num_parts(share: int, at_once: int) -> int:
    """The smallest number of equal parts of a share that gives a part at most `at_once` clips (0: no limit)."""
    return next(n for n in range(1, share + 1) if share % n == 0 and (share // n <= at_once or not at_once))


def ema_decay(decay: float, step: jax.Array) -> jax.Array:
    """The decay of the moving averages at the update that follows `step` updates.

    The decay is smaller at first, to forget the random start, by the rule of TensorFlow's
    `tf.train.ExponentialMovingAverage` with `num_updates`.
    """
    return jnp.minimum(decay, (1 + step) / (10 + step))


def _mean_loss(model: nn.Module, config: Config, loss: metrics.Loss) -> Callable:
    """A function (params, batch_stats, views, label, key) -> (mean loss, {'batch_stats', 'measured'})."""
    augment = config.augment

    def mean_loss(params: Any, batch_stats: Any, views: Views, label: jax.Array, key: jax.Array):
        video = transform(views, config)
        targets = jax.nn.one_hot(label, model.num_classes)
        if augment.mixup_alpha or augment.cutmix_alpha:
            mix_key = jax.random.fold_in(key, 1)
            video, targets = mix_clips(mix_key, video, targets, augment.mixup_alpha, augment.cutmix_alpha)
        with freezing.hold_statistics(config.init):
            logits, updated = model.apply(
                {'params': freezing.hold(config.init, params), 'batch_stats': batch_stats},
                video,
                train=True,
                mutable=['batch_stats'],
                rngs={'dropout': key},
            )
        mean = loss(logits, optax.smooth_labels(targets, config.optim.label_smoothing)).mean()
        dominant = targets.argmax(-1)
        ranks = metrics.ranks(model.num_classes)
        measured = {'loss': mean} | {f'top{k}': metrics.in_top_k(logits, dominant, k).mean() for k in ranks}
        return mean, {'batch_stats': updated.get('batch_stats', {}), 'measured': measured}

    return mean_loss


def _scan_mean(part: Callable, carry: Any, inputs: Any) -> tuple[Any, Any]:
    """Runs `jax.lax.scan`, but returns the mean of the outputs. Only their sum is kept on the way."""
    shapes = jax.eval_shape(part, carry, jax.tree.map(lambda x: x[0], inputs))[1]
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    def add(carry, inputs):
        carry, sums = carry
        carry, found = part(carry, inputs)
        return (carry, optax.tree.add(sums, found)), None

    (carry, sums), _ = jax.lax.scan(add, (carry, zeros), inputs)
    count = len(jax.tree.leaves(inputs)[0])
    return carry, jax.tree.map(lambda x: x / count, sums)
