"""Training, from a configuration to checkpoints. Reads top to bottom: `train` is the whole story.

The step is written for one device and averages over the devices' axis; `parallel` runs it on all of them. Randomness and
the order of data are functions of (seed, step), so that a run that was cut off and started again goes the same way.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging

from vidcls import config as config_lib
from vidcls import evaluate, metrics, optim, parallel, workdir
from vidcls.checkpoint import Checkpoints
from vidcls.config import Config
from vidcls.data import pipeline
from vidcls.data.dataset import Dataset, open_dataset
from vidcls.data.pipeline import Batch
from vidcls.data.transform import transform
from vidcls.run_log import RunLog

_REMEDY = 'the last checkpoint is kept. Lower --config.optim.learning_rate, or set --config.optim.clip_norm'


class Diverged(FloatingPointError):
    """The loss is no longer a number; the last good checkpoint stays."""


@flax.struct.dataclass
class TrainState:
    """All that changes in training. No random key: keys are folded from the seed and the step."""

    step: jax.Array  # int32, optimizer steps made
    params: Any
    batch_stats: Any
    opt_state: optax.OptState

    @property
    def variables(self) -> dict[str, Any]:
        return {'params': self.params, 'batch_stats': self.batch_stats}


def train(config: Config, folder: str | Path, devices: Sequence[jax.Device] | None = None) -> dict[str, float]:
    """Trains until `config.epochs`, from scratch or from where the work directory's last checkpoint stands.

    Args:
      folder: the work directory, made if need be (`vidcls.workdir` lists its files).
      devices: the devices to use; all local ones if not given.

    Returns:
      The last validation's scores; empty without a validation split, or where nothing was left to train.

    Raises:
      ValueError: a setting that can't work, or a work directory of another run.
      Diverged: the loss is not finite.
    """
    # ---- What to train on what
    config_lib.validate(config)
    devices = list(devices or jax.local_devices())
    parallel.check_batch('--config.batch_size', config.batch_size, len(devices))
    dataset = open_dataset(config.data.dir)
    # The work directory is used from anywhere.
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, dir=str(dataset.folder.resolve())))
    num_clips = len(dataset.clips(config.data.train_split))
    _check_validation(dataset, config.data.validation_split)
    steps_per_epoch = num_clips / config.batch_size
    num_steps = max(round(config.epochs * steps_per_epoch), 1)

    # ---- Model and optimizer
    model = evaluate.build_model(config, len(dataset.labels))
    learning_rate = optim.schedule(config.optim, steps_per_epoch, num_steps)
    optimizer = optim.optimizer(config.optim, learning_rate)
    state = init_state(model, optimizer, config)
    # Only now: a model that can't be built should leave no work directory that refuses the corrected command.
    run = workdir.prepare(folder, config, dataset.labels, workdir.Frames(dataset.short_side, dataset.target_fps))
    checkpoints = Checkpoints(run.checkpoints, keep_best=bool(config.data.validation_split))
    if (step := checkpoints.latest()) is not None:
        variables, opt_state = checkpoints.restore(step, state.variables, state.opt_state)
        state = TrainState(np.int32(step), **variables, opt_state=opt_state)
        logging.info('continuing %s from step %d of %d', run.folder, step, num_steps)
    first = int(state.step)
    num_params = sum(x.size for x in jax.tree.leaves(state.params))
    logging.info(
        '%s, %.2f M parameters, %d classes; %d clips, %d steps of %d clips on %d %s device(s)',
        config.model.name, num_params / 1e6, len(dataset.labels),
        num_clips, num_steps, config.batch_size, len(devices), devices[0].platform,
    )  # fmt: skip
    if first >= num_steps:
        logging.info('%s is finished: nothing is left of its %d steps', run.folder, num_steps)

    # ---- The loop
    state = parallel.replicate(state, devices)
    train_step = parallel.pmap(make_train_step(model, optimizer, learning_rate, config), devices, donate=(0,))
    validate = _validator(model, dataset, config, devices)
    log = RunLog(run.folder, first, num_steps)
    batches = parallel.feed(pipeline.train_batches(dataset, config, first), devices)
    window = _LogWindow(log, config.batch_size)
    scores: dict[str, float] = {}
    try:
        for step in range(first + 1, num_steps + 1):
            with window.waiting():
                batch = next(batches)
            state, measured = train_step(state, batch)
            window.add(step, measured)
            log.advance()
            if is_due(step, config.eval_every_epochs * steps_per_epoch, num_steps):
                window.flush()
                scores = validate(state)
                if scores:
                    log.write(step, {f'validation/{name}': value for name, value in scores.items()})
                saved = parallel.unreplicate(state)
                check_finite(saved, step)
                checkpoints.save(step, saved.variables, saved.opt_state, scores)
                window.restart()
            elif is_due(step, config.log_every_steps, num_steps):
                window.flush(keep=1)
    finally:
        checkpoints.close()
        log.close()
    return scores


def _check_validation(dataset: Dataset, split: str) -> None:
    try:
        if split:
            dataset.clips(split)
    except ValueError as error:
        raise ValueError(f'{error}; --config.data.validation_split= trains without validation') from None


def init_state(model: nn.Module, optimizer: optax.GradientTransformation, config: Config) -> TrainState:
    """The state at step 0, a function of the seed."""
    frames = config.sampling.num_segments * config.sampling.seg_len
    size = config.augment.crop_size

    @jax.jit
    def init(key):
        variables = model.init(key, jnp.zeros((1, frames, size, size, 3)), train=False)
        opt_state = optimizer.init(variables['params'])
        return TrainState(jnp.int32(0), variables['params'], variables.get('batch_stats', {}), opt_state)

    return jax.device_get(init(jax.random.key(config.seed)))


def make_train_step(
    model: nn.Module, optimizer: optax.GradientTransformation, learning_rate: optax.Schedule, config: Config
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:
    """(state, batch) -> (state, measurements), for one device of `parallel.AXIS`."""
    augment = config.augment

    def step(state: TrainState, batch: Batch):
        key = jax.random.fold_in(jax.random.key(config.seed), state.step)
        key = jax.random.fold_in(key, jax.lax.axis_index(parallel.AXIS))
        video = transform(batch.clips, augment.crop_size, augment.mean, augment.std)

        def loss_fn(params):
            logits, updated = model.apply(
                {'params': params, 'batch_stats': state.batch_stats},
                video,
                train=True,
                mutable=['batch_stats'],
                rngs={'dropout': key},
            )
            loss = metrics.cross_entropy(logits, batch.label, config.optim.label_smoothing).mean()
            return loss, (logits, updated.get('batch_stats', {}))

        (loss, (logits, batch_stats)), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
        measured = {
            'loss': loss,
            'top1': metrics.in_top_k(logits, batch.label, 1).mean(),
            'top5': metrics.in_top_k(logits, batch.label, 5).mean(),
        }
        # Each device has its own running statistics of BatchNorm; their mean keeps the state the same everywhere.
        grads, batch_stats, measured = jax.lax.pmean((grads, batch_stats, measured), parallel.AXIS)
        measured |= {'grad_norm': optax.global_norm(grads), 'learning_rate': learning_rate(state.step)}
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, batch_stats, opt_state), measured

    return step


def check_finite(state: TrainState, step: int) -> None:
    """Refuses to save a state that an update ruined: its loss is only seen in the step after.

    Raises:
      Diverged: a parameter or a running statistic is not finite.
    """
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.variables)):
        raise Diverged(f'the parameters are not finite after step {step}; {_REMEDY}')


def is_due(step: int, interval: float, last: int) -> bool:
    """Whether something is due after `step`: when it crosses a multiple of `interval` steps, and at the last."""
    return step == last or int(step / interval) > int((step - 1) / interval)


def _validator(model: nn.Module, dataset: Dataset, config: Config, devices: Sequence[jax.Device]):
    """state -> scores on the validation split from one centre view, or nothing without such a split."""
    split = config.data.validation_split
    if not split:
        return lambda state: {}
    predict = parallel.pmap(evaluate.predict_step(model, config), devices)

    def validate(state: TrainState) -> dict[str, float]:
        scores = evaluate.score(predict, state.variables, dataset, config, split, 1, 1, devices)
        found = metrics.scores(scores.logits, scores.labels)
        return {name: found[name] for name in ('loss', 'top1', 'top5', 'mean_class_accuracy')}

    return validate


@dataclasses.dataclass
class _LogWindow:
    """Collects the steps' measurements on the device and reads them late, so that logging never blocks a step."""

    log: RunLog
    batch_size: int

    def __post_init__(self):
        self._pending: list[tuple[int, Any]] = []
        self.restart()

    def restart(self) -> None:
        """Starts the clock anew, after time that was not training."""
        self._started, self._waited, self._steps = time.perf_counter(), 0.0, 0

    def waiting(self):
        return _Timer(self)

    def add(self, step: int, measured: Any) -> None:
        self._pending.append((step, measured))
        self._steps += 1

    def flush(self, keep: int = 0) -> None:
        """Writes the mean of what is pending but for the newest `keep` steps, which may still be running.

        Raises:
          Diverged: a loss is not finite.
        """
        ready, self._pending = self._pending[: len(self._pending) - keep], self._pending[len(self._pending) - keep :]
        if not ready:
            return
        rows = [(step, parallel.unreplicate(measured)) for step, measured in ready]
        bad = [step for step, row in rows if not np.isfinite(row['loss'])]
        if bad:
            raise Diverged(
                f'the loss is not finite at step{"s" * (len(bad) > 1)} {", ".join(map(str, bad))}; {_REMEDY}'
            )
        elapsed = time.perf_counter() - self._started
        values = {name: float(np.mean([row[name] for _, row in rows])) for name in rows[0][1]}
        values |= {'clips_per_second': self._steps * self.batch_size / elapsed, 'data_wait': self._waited / elapsed}
        self.log.write(rows[-1][0], {f'train/{name}': value for name, value in values.items()})
        self.restart()


@dataclasses.dataclass
class _Timer:
    """Adds the time spent inside to its window's time of waiting for data."""

    window: _LogWindow

    def __enter__(self):
        self._start = time.perf_counter()

    def __exit__(self, *_):
        self.window._waited += time.perf_counter() - self._start
