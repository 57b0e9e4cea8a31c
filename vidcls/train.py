"""Trains a network, from a configuration to checkpoints. `train` tells the whole story; `begin` makes what it needs.

`vidcls.training.step` has the step, and `vidcls.distributed.devices` runs it on every device. Random numbers and the
order of the clips are functions of (seed, step). So a run that was cut off and resumed ends with the same bits as an
uninterrupted run. A checkpoint is saved before it is validated. A validation that was cut off is repeated on resume.
"""

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import flax.linen as nn
import jax
import numpy as np
import optax

from vidcls import evaluate, metrics
from vidcls.config import Config
from vidcls.data import pipeline
from vidcls.data.dataset import Dataset
from vidcls.distributed import processes
from vidcls.distributed.devices import all_devices, dividing, feed, pmap, replicate, unreplicate
from vidcls.models.configured import build_model, make_predict_step
from vidcls.run import lock, resource_errors
from vidcls.run.checkpoint import Checkpoints
from vidcls.run.log import REMEDY, Diverged, Meter, RunLog, SilentLog
from vidcls.run.profile import Profile
from vidcls.run.signals import Interrupted, Listener
from vidcls.run.workdir import Run
from vidcls.training import setup
from vidcls.training.optimizer import make_optimizer, make_schedule
from vidcls.training.step import TrainState, init_state, make_train_step


@resource_errors.explained
@lock.holding
def train(
    config: Config,
    folder: str | Path,
    devices: Sequence[jax.Device] | None = None,
    extend: bool = False,
    loss: metrics.Loss = metrics.cross_entropy,
) -> dict[str, float]:
    """Trains until `config.epochs`, from step 0 or from the latest checkpoint of the work directory.

    Args:
      config: the settings. To resume a run, they must agree with the run's own settings (see `vidcls.run.resuming`).
      folder: the work directory, which is made if it is missing. `vidcls.run.workdir` lists its files.
      devices: the devices to choose from. As many are used as divide the global batch. None means all devices of all
        processes.
      extend: whether a run may go on to another number of epochs although its schedule depends on that number.
      loss: a JAX function (logits [b k], targets float32[b k]) -> float32[b]. The targets are probabilities, mixed and
        smoothed as the configuration says. The work directory does not record the loss: resume a run with the same
        loss.

    Returns:
      The scores of the last validation. They are empty without a validation split, and if the run was complete already.

    Raises:
      UserError: a setting can't work, the work directory has another run, or another process is training in it.
      Diverged: the loss or a parameter is not finite.
      Interrupted: SIGTERM or SIGINT came. A step that was running is saved; a validation that was running is given up.
      resource_errors.DiskFull, resource_errors.OutOfMemory: the message says what helps.
    """
    # ---- What is trained, and from which step
    devices = dividing(devices or all_devices(), config.batch_size)
    job = begin(config, folder, devices, extend)
    config, dataset, model, num_steps = job.config, job.dataset, job.model, job.num_steps
    validates = bool(config.data.validation_split)
    checkpoints = Checkpoints(job.run.checkpoints, keep_best=validates)
    state = _restore(checkpoints, job.state)
    start = int(state.step)  # the last step that was made; 0 at the beginning
    eval_every = config.eval_every_epochs * job.steps_per_epoch
    was_due = validates and start > 0 and is_due(start, eval_every, num_steps)
    validation_missing = was_due and not checkpoints.has_scores(start)
    processes.check_same('validation of the last checkpoint', validation_missing)
    if processes.is_first():
        setup.describe(job.run, dataset, model, state, num_steps, devices)

    # ---- On the devices: the state, the step, the batches
    state = replicate(state, devices)
    step_function = make_train_step(model, job.optimizer, job.learning_rate, config, job.averaged_steps, loss)
    train_step = pmap(step_function, devices, donate=(0,))
    batches = feed(pipeline.train_batches(dataset, config, start, *processes.this()), devices)

    # ---- What the run reports, and what may stop it
    log = RunLog(job.run.folder, start, num_steps, validation_missing) if processes.is_first() else SilentLog()
    meter = Meter(log, config.batch_size)
    profile = Profile(job.run.folder / 'profile', config.profile_steps)
    agree, clock = processes.Agreement(devices), Clock(config.checkpoint_every_minutes, processes.Agreement(devices))
    validate = _validator(job, devices, checkpoints, log)
    scores: dict[str, float] = {}
    with (
        Listener() as interruption,  # outermost, so that no signal cuts off the closing of checkpoints and logs
        contextlib.closing(log),
        contextlib.closing(profile),
        contextlib.closing(checkpoints),
    ):

        def stop_if_told(step: int) -> None:
            if stop := agree(interruption.signum):
                raise Interrupted(stop, step, num_steps)

        if validation_missing:
            scores = validate(start, state, stop_if_told)
            meter.restart()

        # ---- The loop
        for step in range(start + 1, num_steps + 1):
            with meter.waiting():
                batch = next(batches)
            profile.before(step, state)
            state, measured = train_step(state, batch)
            meter.add(step, measured)
            log.advance()
            if is_due(step - 1, config.log_every_steps, num_steps):
                meter.flush(keep=1)  # one step late, when the device has begun the next step
            validation_due = is_due(step, eval_every, num_steps)
            stop = agree(interruption.signum)
            # A checkpoint that is due by the clock is saved where a row of the log ends, so that the time of saving
            # counts in no row.
            save_now = is_due(step, config.log_every_steps, num_steps) and clock.is_over()
            if validation_due or stop or save_now:
                meter.flush()
                copy = unreplicate(state)
                check_finite(copy, step)
                checkpoints.save(step, copy.saved, copy.opt_state)
                meter.restart()
            if validation_due:
                scores = validate(step, state, stop_if_told)
                meter.restart()
                stop = agree(interruption.signum)
            if stop and step < num_steps:
                raise Interrupted(stop, step, num_steps)
    return scores


class Job(NamedTuple):
    """A training run before its first step.

    Attributes:
      config: the settings, with the dataset's folder and splits as they were found.
      steps_per_epoch: the number of clips in the training split, divided by `config.batch_size`; not whole in general.
      num_steps: the number of the last step.
      learning_rate: the learning rate of each step, counted from 0.
      state: the state at step 0, in numpy's arrays.
      run: the run, whose work directory exists already.
      averaged_steps: the number of updates that the state's moving averages are made of.
    """

    config: Config
    dataset: Dataset
    steps_per_epoch: float
    num_steps: int
    model: nn.Module
    optimizer: optax.GradientTransformation
    learning_rate: optax.Schedule
    state: TrainState
    run: Run
    averaged_steps: int


def begin(config: Config, folder: str | Path, devices: Sequence[jax.Device], extend: bool = False) -> Job:
    """Opens a run's dataset, and makes its network, schedule, optimizer, first state and work directory.

    The arguments are the same as in `train`.

    Raises:
      UserError: a setting can't work, or the work directory has another run.
    """
    with processes.together():
        config, dataset = setup.open_data(config, devices)
        steps_per_epoch = len(dataset.clips(config.data.train_split)) / config.batch_size
        num_steps = max(round(config.epochs * steps_per_epoch), 1)
        model = build_model(config, len(dataset.labels))
        learning_rate = make_schedule(config.optim, steps_per_epoch, num_steps)
        optimizer = make_optimizer(config.optim, learning_rate, config.init)
        state = init_state(model, optimizer, config)
    run, state, averaged_steps = setup.enter(folder, config, dataset, model, state, num_steps, extend)
    return Job(config, dataset, steps_per_epoch, num_steps, model, optimizer, learning_rate, state, run, averaged_steps)


def _restore(checkpoints: Checkpoints, state: TrainState) -> TrainState:
    """The state of the latest checkpoint, or `state` if there is no checkpoint yet."""
    step = checkpoints.latest()
    if step is None:
        return state
    saved, opt_state = checkpoints.restore(step, state.saved, state.opt_state)
    return TrainState(np.int32(step), **({'ema': {}} | saved), opt_state=opt_state)


def check_finite(state: TrainState, step: int) -> None:
    """Refuses to save a state that the last update ruined. The loss would not show this before the next step.

    Raises:
      Diverged: a parameter or a running statistic is not finite.
    """
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.saved)):
        raise Diverged(f'the parameters are not finite after step {step}; {REMEDY}')


def is_due(step: int, interval: float, last: int) -> bool:
    """Whether `step` is `last`, or the first step at or after a multiple of `interval`, which may be a fraction."""
    return step == last or int(step / interval) > int((step - 1) / interval)


class Clock:
    """Says once in each period that the period is over. All processes get this answer at the same call.

    Args:
      minutes: the length of a period. With 0, no period ends.
      agree: makes one answer of the answers of all processes.
    """

    def __init__(self, minutes: float, agree: processes.Agreement):
        self._seconds, self._agree = 60 * minutes or math.inf, agree
        self._start, self._periods = time.monotonic(), 0

    def is_over(self) -> bool:
        before, self._periods = self._periods, self._agree(int((time.monotonic() - self._start) / self._seconds))
        return self._periods > before


def _validator(
    job: Job, devices: Sequence[jax.Device], checkpoints: Checkpoints, log: RunLog | SilentLog
) -> Callable[[int, TrainState, Callable[[int], None]], dict[str, float]]:
    """A function (step, state, check) -> scores on the validation split, from a single view of each clip.

    Without a validation split, the scores are empty. The function adds the scores to the checkpoint of `step` and to
    the log. Before each batch it calls `check(step)`, which may end the validation by an exception.
    """
    split = job.config.data.validation_split
    if not split:
        return lambda step, state, check: {}
    predict = pmap(make_predict_step(job.model, job.config), devices)

    def validate(step: int, state: TrainState, check: Callable[[int], None]) -> dict[str, float]:
        def checked(*args):
            check(step)
            return predict(*args)

        predictions = evaluate.predict_split(
            checked, state.variables, job.dataset, job.config, split, clips=1, crops=1, devices=devices
        )
        found = metrics.summarize(predictions.logits, predictions.labels)
        names = [name for name in ('loss', 'top1', 'top5', 'mean_class_accuracy') if name in found]
        scores: dict[str, float] = {name: found[name] for name in names}
        log.write(step, {f'validation/{name}': value for name, value in scores.items()})
        checkpoints.add_scores(step, scores)
        return scores

    return validate
