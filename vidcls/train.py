"""Training, from a configuration to checkpoints. `train` is the whole story.

`job` says what is trained, `train_step` has the step, `parallel` runs it on all devices. Randomness and the order of data
are functions of (seed, step), so that a run that was cut off and started again goes the same way.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np

from vidcls import evaluate, hosts, metrics, parallel, shortage
from vidcls.checkpoint import Checkpoints
from vidcls.config import Config
from vidcls.data import pipeline
from vidcls.data.dataset import Dataset
from vidcls.interruption import Interrupted, Listener
from vidcls.job import prepare
from vidcls.profile import Profile
from vidcls.run_log import REMEDY, Diverged, LogWindow, RunLog, SilentLog
from vidcls.train_step import TrainState, make_train_step


@shortage.explained
def train(config: Config, folder: str | Path, devices: Sequence[jax.Device] | None = None) -> dict[str, float]:
    """Trains until `config.epochs`, from scratch or from where the work directory's last checkpoint stands.

    Args:
      folder: the work directory, made if need be (`vidcls.workdir` lists its files).
      devices: the devices to use; all of every host if not given.

    Returns:
      The last validation's scores; empty without a validation split, or where nothing was left to train.

    Raises:
      ValueError: a setting that can't work, or a work directory of another run.
      Diverged: the loss is not finite.
      Interrupted: SIGTERM or SIGINT came; the step that ran is saved.
      shortage.DiskFull, shortage.OutOfMemory: say what helps.
    """
    devices = list(devices or parallel.all_devices())
    job = prepare(config, folder, devices)
    config, model, num_steps = job.config, job.model, job.num_steps
    checkpoints = Checkpoints(job.run.checkpoints, keep_best=bool(config.data.validation_split))
    state = _restore(checkpoints, job.state)
    first = int(state.step)
    if hosts.is_first():
        job.describe(state, devices)

    state = parallel.replicate(state, devices)
    train_step = parallel.pmap(make_train_step(model, job.optimizer, job.learning_rate, config), devices, donate=(0,))
    validate = _validator(model, job.dataset, config, devices)
    log = RunLog(job.run.folder, first, num_steps) if hosts.is_first() else SilentLog()
    batches = parallel.feed(pipeline.train_batches(job.dataset, config, first, *hosts.this()), devices)
    window = LogWindow(log, config.batch_size)
    profile = Profile(job.run.folder / 'profile', config.profile_steps)
    agreed = hosts.Agreement(devices)
    scores: dict[str, float] = {}
    try:
        with Listener() as interruption:
            for step in range(first + 1, num_steps + 1):
                with window.waiting():
                    batch = next(batches)
                profile.before(step, state)
                state, measured = train_step(state, batch)
                window.add(step, measured)
                log.advance()
                validate_now = is_due(step, config.eval_every_epochs * job.steps_per_epoch, num_steps)
                stop = agreed(interruption.signum)  # read once: one that comes from here on is the next step's
                if validate_now or stop:
                    window.flush()
                    saved = parallel.unreplicate(state)
                    check_finite(saved, step)
                    scores = validate(state) if validate_now else {}
                    if scores:
                        log.write(step, {f'validation/{name}': value for name, value in scores.items()})
                    checkpoints.save(step, saved.saved, saved.opt_state, scores)
                    window.restart()
                elif is_due(step, config.log_every_steps, num_steps):
                    window.flush(keep=1)
                if stop and step < num_steps:
                    raise Interrupted(stop, step, num_steps)
    finally:
        with contextlib.closing(log), contextlib.closing(profile):
            checkpoints.close()
    return scores


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


def _validator(model: nn.Module, dataset: Dataset, config: Config, devices: Sequence[jax.Device]):
    """state -> scores on the validation split from one centre view, or nothing without such a split."""
    split = config.data.validation_split
    if not split:
        return lambda state: {}
    predict = parallel.pmap(evaluate.predict_step(model, config), devices)

    def validate(state: TrainState) -> dict[str, float]:
        scores = evaluate.score(predict, state.variables, dataset, config, split, 1, 1, devices)
        found = metrics.scores(scores.logits, scores.labels)
        return {name: found[name] for name in ('loss', 'top1', 'top5', 'mean_class_accuracy') if name in found}

    return validate
