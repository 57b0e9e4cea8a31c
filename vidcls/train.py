"""Training, from a configuration to checkpoints. `train` is the whole story.

`job` says what is trained, `train_step` has the step, `parallel` runs it on all devices. Randomness and the order of data
are functions of (seed, step), so that a run that was cut off and started again goes the same way. A checkpoint is saved
before it is validated; a validation that was cut off is made when the run continues.
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
from vidcls.run.log import REMEDY, Diverged, LogWindow, RunLog, SilentLog
from vidcls.run.profile import Profile
from vidcls.run.signals import Interrupted, Listener
from vidcls.run.workdir import Run
from vidcls.training import setup
from vidcls.training.optimizer import make_optimizer, make_schedule
from vidcls.training.step import TrainState, init_state, make_train_step


@resource_errors.explained
@lock.holding
def train(
    config: Config, folder: str | Path, devices: Sequence[jax.Device] | None = None, extend: bool = False
) -> dict[str, float]:
    """Trains until `config.epochs`, from scratch or from where the work directory's last checkpoint stands.

    Args:
      folder: the work directory, made if need be (`vidcls.run.workdir` lists its files).
      devices: the devices to use, of which those are taken that divide the batch; all of every host if not given.
      extend: a run may go on to another number of epochs although its schedule is bound to its end.

    Returns:
      The last validation's scores; empty without a validation split, or where nothing was left to do.

    Raises:
      ValueError: a setting that can't work, or a work directory of another run, or one that is being trained in.
      Diverged: the loss is not finite.
      Interrupted: SIGTERM or SIGINT came; the step that ran is saved, and a validation that ran is given up.
      resource_errors.DiskFull, resource_errors.OutOfMemory: say what helps.
    """
    devices = dividing(devices or all_devices(), config.batch_size)
    job = begin(config, folder, devices, extend)
    config, model, num_steps = job.config, job.model, job.num_steps
    checkpoints = Checkpoints(job.run.checkpoints, keep_best=bool(config.data.validation_split))
    state = _restore(checkpoints, job.state)
    first = int(state.step)
    eval_every = config.eval_every_epochs * job.steps_per_epoch
    unrated = bool(
        config.data.validation_split
        and first
        and is_due(first, eval_every, num_steps)
        and not checkpoints.is_rated(first)
    )
    processes.check_same('validation of the last checkpoint', unrated)
    if processes.is_first():
        setup.describe(job.run, job.dataset, model, state, num_steps, devices)

    state = replicate(state, devices)
    step_function = make_train_step(model, job.optimizer, job.learning_rate, config, job.averaged_steps)
    train_step = pmap(step_function, devices, donate=(0,))
    log = RunLog(job.run.folder, first, num_steps, unrated) if processes.is_first() else SilentLog()
    batches = feed(pipeline.train_batches(job.dataset, config, first, *processes.this()), devices)
    window = LogWindow(log, config.batch_size)
    profile = Profile(job.run.folder / 'profile', config.profile_steps)
    agreed, clock = processes.Agreement(devices), Clock(config.checkpoint_every_minutes, processes.Agreement(devices))
    scores: dict[str, float] = {}
    with (
        Listener() as interruption,  # until all is closed: what is being saved would be lost
        contextlib.closing(log),
        contextlib.closing(profile),
        contextlib.closing(checkpoints),
    ):

        def stop_if_told(step: int) -> None:
            if stop := agreed(interruption.signum):
                raise Interrupted(stop, step, num_steps)

        score = _validator(model, job.dataset, config, devices, stop_if_told)

        def validate(step: int) -> dict[str, float]:
            scores = score(step, state)
            if scores:
                log.write(step, {f'validation/{name}': value for name, value in scores.items()})
                checkpoints.rate(step, scores)
            window.restart()
            return scores

        if unrated:
            scores = validate(first)
        for step in range(first + 1, num_steps + 1):
            with window.waiting():
                batch = next(batches)
            profile.before(step, state)
            state, measured = train_step(state, batch)
            window.add(step, measured)
            log.advance()
            if is_due(step - 1, config.log_every_steps, num_steps):
                window.flush(keep=1)  # one step late: the device has begun the next
            validate_now = is_due(step, eval_every, num_steps)
            stop = agreed(interruption.signum)
            # Saving only where a row ends: when the clock was looked at shows in no row.
            save_now = is_due(step, config.log_every_steps, num_steps) and clock.is_over()
            if validate_now or stop or save_now:
                window.flush()
                saved = unreplicate(state)
                check_finite(saved, step)
                checkpoints.save(step, saved.saved, saved.opt_state)
                window.restart()
            if validate_now:
                scores = validate(step)
                stop = agreed(interruption.signum)
            if stop and step < num_steps:
                raise Interrupted(stop, step, num_steps)
    return scores


class Job(NamedTuple):
    """A training run before its first step.

    Attributes:
      config: with the folder and the splits of the dataset that were found.
      run: its work directory, made by now.
      state: at step 0, arrays of numpy.
      averaged_steps: updates behind the state's moving averages.
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
    """Dataset, network, schedule, optimizer, first state and work directory of a run.

    Raises:
      UserError: a setting that can't work, or a work directory of another run.
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
    """The state of the last checkpoint, or the given one if there is none yet."""
    step = checkpoints.latest()
    if step is None:
        return state
    saved, opt_state = checkpoints.restore(step, state.saved, state.opt_state)
    return TrainState(np.int32(step), **({'ema': {}} | saved), opt_state=opt_state)


def check_finite(state: TrainState, step: int) -> None:
    """Refuses to save a state that an update ruined: its loss is only seen in the step after.

    Raises:
      Diverged: a parameter or a running statistic is not finite.
    """
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.saved)):
        raise Diverged(f'the parameters are not finite after step {step}; {REMEDY}')


def is_due(step: int, interval: float, last: int) -> bool:
    """Whether something is due after `step`: when it crosses a multiple of `interval` steps, and at the last."""
    return step == last or int(step / interval) > int((step - 1) / interval)


class Clock:
    """Says once in each period that it is over, on all hosts at the same call.

    Args:
      minutes: of a period; 0: it is never over.
    """

    def __init__(self, minutes: float, agreed: processes.Agreement):
        self._seconds, self._agreed = 60 * minutes or math.inf, agreed
        self._start, self._periods = time.monotonic(), 0

    def is_over(self) -> bool:
        before, self._periods = self._periods, self._agreed(int((time.monotonic() - self._start) / self._seconds))
        return self._periods > before


def _validator(
    model: nn.Module, dataset: Dataset, config: Config, devices: Sequence[jax.Device], check: Callable[[int], None]
) -> Callable[[int, TrainState], dict[str, float]]:
    """(step, state) -> scores on the validation split from one centre view, or nothing without such a split.

    Before each batch `check(step)` may end it by an exception.
    """
    split = config.data.validation_split
    if not split:
        return lambda step, state: {}
    predict = pmap(make_predict_step(model, config), devices)

    def score(step: int, state: TrainState) -> dict[str, float]:
        def checked(*args):
            check(step)
            return predict(*args)

        scores = evaluate.predict_split(checked, state.variables, dataset, config, split, 1, 1, devices)
        found = metrics.summarize(scores.logits, scores.labels)
        return {name: found[name] for name in ('loss', 'top1', 'top5', 'mean_class_accuracy') if name in found}

    return score
