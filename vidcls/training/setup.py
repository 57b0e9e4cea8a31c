"""Checks a run before its first step, and opens its work directory."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import flax.linen as nn
import jax
from absl import logging

from vidcls import config as config_lib
from vidcls.config import Config, DataConfig
from vidcls.data import splits
from vidcls.data.dataset import Dataset, open_dataset
from vidcls.distributed import processes
from vidcls.errors import UserError
from vidcls.models.configured import check_frames
from vidcls.run import checkpoint, model_summary, resuming, trained_on, workdir
from vidcls.training import first_state, freezing
from vidcls.training.optimizer import make_schedule
from vidcls.training.step import TrainState, num_parts


def open_data(config: Config, devices: Sequence[jax.Device]) -> tuple[Config, Dataset]:
    """Checks the settings and opens the dataset.

    Returns:
      The configuration and the dataset. The configuration has the dataset's folder and splits as they were found,
        absolute paths, and the mean and deviation of each channel.

    Raises:
      UserError: a setting can't work on these devices or with this dataset.
    """
    config_lib.validate(config)
    data = config.data
    if config.model.attention_implementation == 'cudnn' and devices[0].platform != 'gpu':
        raise UserError(
            f'--config.model.attention_implementation=cudnn: needs a GPU, and this is a {devices[0].platform}; leave it out'
        )
    check_mixing(config, len(devices))
    dataset = open_dataset(data.dir)
    dataset.stored(config.sampling.modality)
    found = splits.resolved(data, dataset.splits)
    num_clips = len(dataset.clips(found.train_split, '--config.data.train_split'))
    try:
        if found.validation_split:
            dataset.clips(found.validation_split, '--config.data.validation_split')
    except ValueError as error:
        raise UserError(f'{error}; --config.data.validation_split= trains without validation') from None
    _say_what_is_unusual(config, found, dataset, num_clips, len(devices))
    # Absolute paths: evaluation may start in another folder, and a run may resume under another spelling of its path.
    found = dataclasses.replace(found, dir=str(dataset.folder.resolve()))
    augment = dataclasses.replace(config.augment, mean=config.channels.mean, std=config.channels.std)
    return dataclasses.replace(config, data=found, augment=augment, init=first_state.absolute(config.init)), dataset


def enter(
    folder: str | Path,
    config: Config,
    dataset: Dataset,
    model: nn.Module,
    state: TrainState,
    num_steps: int,
    extend: bool,
) -> tuple[workdir.Run, TrainState, int]:
    """Makes the work directory, or opens an existing one. Every process gets the same result.

    Args:
      state: the state made of random numbers.
      num_steps: the number of the run's last step.
      extend: whether a run may go on to another number of epochs although its schedule depends on that number.

    Returns:
      The run, a state, and the number of updates that the run's moving averages had at step 0. A new run gets its first
        state: published weights or another run replace the random numbers if the configuration names them. A run that
        resumes gets `state`.

    Raises:
      UserError: the network can't take the settings, or the work directory belongs to another run.
    """
    with processes.together():
        freezing.check(config.init, state.variables)
        check_frames(config, model, state.variables)
        begins, origin = not checkpoint.steps(Path(folder).expanduser() / 'checkpoints'), None
        if begins:
            state, origin = first_state.first_state(config, model, state, dataset.labels)
        terms = resuming.Terms(bool(state.batch_stats), num_steps, extend)
        run = workdir.check(folder, config, dataset.labels, dataset.stored(config.sampling.modality), terms)
        if not begins:
            trained_on.check(run, dataset)
    settings, saved = config_lib.flatten(config) | {'data.dir': ''}, checkpoint.steps(run.checkpoints)
    processes.check_same('configuration, dataset or work directory', (settings, dataset.index.ids.tolist(), saved))
    with processes.together():
        # After all checks: a command that fails must leave no work directory, which would refuse the corrected command.
        if processes.is_first():
            _say_new_rate(run, len(dataset.clips(config.data.train_split)) / config.batch_size)
            workdir.create(run)
            if begins or not (run.folder / trained_on.FILENAME).exists():
                trained_on.save(run, dataset)
            if begins:
                workdir.save_origin(run, origin)
    averaged_steps = (origin or {}).get(first_state.AVERAGED_STEPS, 0) if begins else first_state.averaged_steps(run)
    return run, state, averaged_steps


def describe(
    run: workdir.Run,
    dataset: Dataset,
    model: nn.Module,
    state: TrainState,
    num_steps: int,
    devices: Sequence[jax.Device],
) -> None:
    """Logs what is trained: the network, its size and cost, the dataset and the number of steps.

    For a run that resumes, the step that it has reached is logged too.
    """
    config, num_params = run.config, sum(x.size for x in jax.tree.leaves(state.params))
    logging.info(
        '%s, %.2f M parameters, %s, %d classes; %d clips, %d steps of %d clips on %d %s device(s)\n%s',
        config.model.name, num_params / 1e6, model_summary.forward_cost(model, state.variables, config),
        len(run.labels), len(dataset.clips(config.data.train_split)),
        num_steps, config.batch_size, len(devices), devices[0].platform, model_summary.table(state.params),
    )  # fmt: skip
    if state.step:
        left = 'nothing is left' if state.step >= num_steps else 'resuming'
        logging.info('%s stands at step %d of %d: %s', run.folder, state.step, num_steps, left)


def _say_new_rate(run: workdir.Run, steps_per_epoch: float) -> None:
    """Logs the learning rates of the old and of the new schedule, if a run resumes with another number of epochs."""
    saved = checkpoint.steps(run.checkpoints)
    if not saved:
        return
    before, now = workdir.load(run.folder).config, run.config
    if before.epochs == now.epochs or now.optim.schedule == 'multi_step':
        return
    old_rate, new_rate = (
        float(make_schedule(config.optim, steps_per_epoch, round(config.epochs * steps_per_epoch))(saved[-1]))
        for config in (before, now)
    )
    logging.info(
        'the learning rate goes on from step %d along the %s of %g epochs, at %.3g; along that of %g it was at %.3g',
        saved[-1], now.optim.schedule, now.epochs, new_rate, before.epochs, old_rate,
    )  # fmt: skip


def check_mixing(config: Config, num_devices: int) -> None:
    """Refuses mixup and cutmix if a device has a single clip at a time.

    Raises:
      UserError: mixup or cutmix can't work; the message names the settings.
    """
    augment, share = config.augment, config.batch_size // num_devices
    at_once = config.optim.clips_per_device
    part = share // num_parts(share, at_once)
    if part < 2 and (augment.mixup_alpha or augment.cutmix_alpha):
        raise UserError(
            f'mixup and cutmix blend the clips that a device has at once, and --config.batch_size={config.batch_size} with '
            f'--config.optim.clips_per_device={at_once} gives {num_devices} device(s) {part} each: raise them, or set '
            '--config.augment.mixup_alpha=0 --config.augment.cutmix_alpha=0'
        )


def _say_what_is_unusual(config: Config, found: DataConfig, dataset: Dataset, num_clips: int, num_devices: int) -> None:
    """Warns if there are no clips for validation, or fewer clips than a global batch has places."""
    if not processes.is_first():
        return
    if config.data.validation_split and not found.validation_split:
        logging.warning(
            '%s has no clips for validation beside %s: training goes without, and only the latest checkpoint is kept',
            dataset.name, found.train_split,
        )  # fmt: skip
    if config.batch_size > num_clips:
        fits = [num_devices << power for power in range(32) if num_devices << power <= num_clips]
        logging.warning(
            '--config.batch_size=%d is more than the %d clips of %s: a step sees clips more than once, and an epoch is less '
            'than a step%s', config.batch_size, num_clips, found.train_split,
            f'; --config.batch_size={fits[-1]} fits' if fits else '',
        )  # fmt: skip
