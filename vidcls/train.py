"""Training, from a configuration to checkpoints. Reads top to bottom: `train` is the whole story.

`train_step` has the step, `parallel` runs it on all devices. Randomness and the order of data are functions of (seed,
step), so that a run that was cut off and started again goes the same way.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
from absl import logging

from vidcls import checkpoint, evaluate, fine_tuning, hosts, metrics, optim, parallel, pretrained, workdir
from vidcls import config as config_lib
from vidcls.checkpoint import Checkpoints
from vidcls.config import Config
from vidcls.data import pipeline
from vidcls.data.dataset import Dataset, open_dataset
from vidcls.data.sampling import Sampler
from vidcls.interruption import Interrupted, Listener
from vidcls.run_log import REMEDY, Diverged, LogWindow, RunLog, SilentLog
from vidcls.train_step import TrainState, begin, init_state, make_train_step


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
    """
    devices = list(devices or parallel.all_devices())
    with hosts.together():
        # ---- What to train on what
        config, dataset = _open(config, devices)
        num_clips = len(dataset.clips(config.data.train_split))
        steps_per_epoch = num_clips / config.batch_size
        num_steps = max(round(config.epochs * steps_per_epoch), 1)

        # ---- Model and optimizer
        model = evaluate.build_model(config, len(dataset.labels))
        learning_rate = optim.schedule(config.optim, steps_per_epoch, num_steps)
        optimizer = optim.optimizer(config.optim, learning_rate, config.init)
        state = init_state(model, optimizer, config)
        fine_tuning.check(config.init, state.variables)
        _check_test_frames(config, model, state)
        if config.init.weights and not checkpoint.steps(Path(folder).expanduser() / 'checkpoints'):
            state = start_from_weights(config, model, state)
        run = workdir.check(folder, config, dataset.labels, workdir.Frames(dataset.short_side, dataset.target_fps))
    settings, saved = config_lib.flatten(config) | {'data.dir': ''}, checkpoint.steps(run.checkpoints)
    hosts.check_same('configuration, dataset or work directory', (settings, dataset.index.ids.tolist(), saved))
    with hosts.together():
        # Only now: a model that can't be built should leave no work directory that refuses the corrected command.
        if hosts.is_first():
            workdir.prepare(run)
    checkpoints = Checkpoints(run.checkpoints, keep_best=bool(config.data.validation_split))
    state = _restore(checkpoints, state)
    first = int(state.step)
    _describe(config, state, run, num_clips, num_steps, devices)

    # ---- The loop
    state = parallel.replicate(state, devices)
    train_step = parallel.pmap(make_train_step(model, optimizer, learning_rate, config), devices, donate=(0,))
    validate = _validator(model, dataset, config, devices)
    log = RunLog(run.folder, first, num_steps) if hosts.is_first() else SilentLog()
    batches = parallel.feed(pipeline.train_batches(dataset, config, first, *hosts.this()), devices)
    window = LogWindow(log, config.batch_size)
    agreed = hosts.Agreement(devices)
    scores: dict[str, float] = {}
    try:
        with Listener() as interruption:
            for step in range(first + 1, num_steps + 1):
                with window.waiting():
                    batch = next(batches)
                state, measured = train_step(state, batch)
                window.add(step, measured)
                log.advance()
                validate_now = is_due(step, config.eval_every_epochs * steps_per_epoch, num_steps)
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
        checkpoints.close()
        log.close()
    return scores


def _open(config: Config, devices: Sequence[jax.Device]) -> tuple[Config, Dataset]:
    """The dataset, and the settings with the folder where it was found; all that can be checked by now is."""
    config_lib.validate(config)
    parts, augment, data = config.optim.accumulation, config.augment, config.data
    parallel.check_batch('--config.batch_size', config.batch_size, len(devices), parts)
    part = config.batch_size // (len(devices) * parts)
    if part < 2 and (augment.mixup_alpha or augment.cutmix_alpha):
        raise ValueError(
            f'mixup and cutmix blend clips of one device and part, and --config.batch_size={config.batch_size} gives each '
            f'{part}: double it, or set --config.augment.mixup_alpha=0 --config.augment.cutmix_alpha=0'
        )
    dataset = open_dataset(data.dir)
    dataset.clips(data.train_split)
    try:
        if data.validation_split:
            dataset.clips(data.validation_split)
    except ValueError as error:
        raise ValueError(f'{error}; --config.data.validation_split= trains without validation') from None
    # The work directory is used from anywhere.
    return dataclasses.replace(config, data=dataclasses.replace(data, dir=str(dataset.folder.resolve()))), dataset


def start_from_weights(config: Config, model: nn.Module, state: TrainState) -> TrainState:
    """The state with the parameters and statistics of `config.init.weights`."""
    init, augment = config.init, config.augment
    converted = pretrained.load(init.weights, model, state.variables, init.allow_missing)
    inputs = converted.layout.inputs
    logging.info('%s (sha256 %s): %s', init.weights, pretrained.sha256(init.weights), converted.summary())
    if not np.allclose((augment.mean, augment.std), (inputs.mean, inputs.std), atol=1e-3):
        logging.warning(
            '%s were trained on other values than the configuration makes; for theirs set '
            '--config.augment.mean=%s --config.augment.std=%s',
            converted.layout.title, inputs.mean, inputs.std,
        )  # fmt: skip
    variables = converted.for_rgb()
    return begin(state.step, variables['params'], variables.get('batch_stats', {}), state.opt_state, config)


def _check_test_frames(config: Config, model: nn.Module, state: TrainState) -> None:
    """Refuses a number of test frames that the network can't take: validation would find out after an epoch."""
    frames, size = Sampler(config.sampling, training=False).num_frames, config.augment.crop_size
    if frames == config.sampling.num_frames:
        return
    try:
        jax.eval_shape(model.apply, state.variables, jax.ShapeDtypeStruct((1, frames, size, size, 3), np.float32))
    except ValueError as error:
        raise ValueError(
            f'--config.sampling.test_segments={config.sampling.test_segments}: {config.model.name} as trained with '
            f'num_segments={config.sampling.num_segments} cannot take so many ({error})'
        ) from error


def _describe(
    config: Config, state: TrainState, run: workdir.Run, num_clips: int, num_steps: int, devices: Sequence[jax.Device]
) -> None:
    """Logs what is about to be trained, and where it stands."""
    num_params = sum(x.size for x in jax.tree.leaves(state.params))
    logging.info(
        '%s, %.2f M parameters, %d classes; %d clips, %d steps of %d clips on %d %s device(s)',
        config.model.name, num_params / 1e6, len(run.labels),
        num_clips, num_steps, config.batch_size, len(devices), devices[0].platform,
    )  # fmt: skip
    if state.step:
        left = 'nothing is left' if state.step >= num_steps else 'continuing'
        logging.info('%s stands at step %d of %d: %s', run.folder, state.step, num_steps, left)


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
        return {name: found[name] for name in ('loss', 'top1', 'top5', 'mean_class_accuracy')}

    return validate
