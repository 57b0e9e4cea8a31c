"""What a configuration asks to be trained, checked before anything is written: dataset, network, optimizer, first state."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
import optax
from absl import logging

from vidcls import checkpoint, evaluate, fine_tuning, hosts, optim, overview, parallel, pretrained, workdir
from vidcls import config as config_lib
from vidcls.config import Config
from vidcls.data.dataset import Dataset, open_dataset
from vidcls.errors import UserError
from vidcls.train_step import TrainState, begin, init_state


class Job(NamedTuple):
    """A training run before its first step.

    Attributes:
      config: with the folder where the dataset was found.
      run: the work directory, made by now.
      state: at step 0, arrays of numpy.
    """

    config: Config
    dataset: Dataset
    steps_per_epoch: float
    num_steps: int
    model: nn.Module
    optimizer: optax.GradientTransformation
    learning_rate: optax.Schedule
    state: TrainState
    run: workdir.Run

    def describe(self, state: TrainState, devices: Sequence[jax.Device]) -> None:
        """Logs what is about to be trained, and where it stands."""
        num_params = sum(x.size for x in jax.tree.leaves(state.params))
        logging.info(
            '%s, %.2f M parameters, %s, %d classes; %d clips, %d steps of %d clips on %d %s device(s)\n%s',
            self.config.model.name, num_params / 1e6, overview.forward_cost(self.model, state.variables, self.config),
            len(self.run.labels), len(self.dataset.clips(self.config.data.train_split)),
            self.num_steps, self.config.batch_size, len(devices), devices[0].platform, overview.table(state.params),
        )  # fmt: skip
        if state.step:
            left = 'nothing is left' if state.step >= self.num_steps else 'continuing'
            logging.info('%s stands at step %d of %d: %s', self.run.folder, state.step, self.num_steps, left)


def prepare(config: Config, folder: str | Path, devices: Sequence[jax.Device]) -> Job:
    """Checks what can be checked on all hosts alike, and makes the work directory.

    Raises:
      UserError: a setting that can't work, or a work directory of another run.
    """
    with hosts.together():
        config, dataset = _open(config, devices)
        steps_per_epoch = len(dataset.clips(config.data.train_split)) / config.batch_size
        num_steps = max(round(config.epochs * steps_per_epoch), 1)
        model = evaluate.build_model(config, len(dataset.labels))
        learning_rate = optim.schedule(config.optim, steps_per_epoch, num_steps)
        optimizer = optim.optimizer(config.optim, learning_rate, config.init)
        state = init_state(model, optimizer, config)
        fine_tuning.check(config.init, state.variables)
        evaluate.check_frames(config, model, state.variables)
        begins, origin = not checkpoint.steps(Path(folder).expanduser() / 'checkpoints'), None
        if config.init.weights and begins:
            state, origin = _start_from_weights(config, model, state)
        run = workdir.check(folder, config, dataset.labels, workdir.Frames(dataset.short_side, dataset.target_fps))
    settings, saved = config_lib.flatten(config) | {'data.dir': ''}, checkpoint.steps(run.checkpoints)
    hosts.check_same('configuration, dataset or work directory', (settings, dataset.index.ids.tolist(), saved))
    with hosts.together():
        # Only now: a model that can't be built should leave no work directory that refuses the corrected command.
        if hosts.is_first():
            workdir.prepare(run)
            if begins:
                workdir.save_origin(run, origin)
    return Job(config, dataset, steps_per_epoch, num_steps, model, optimizer, learning_rate, state, run)


def _open(config: Config, devices: Sequence[jax.Device]) -> tuple[Config, Dataset]:
    """The dataset, and the settings with the folder where it was found; all that can be checked by now is."""
    config_lib.validate(config)
    parts, augment, data = config.optim.accumulation, config.augment, config.data
    parallel.check_batch('--config.batch_size', config.batch_size, len(devices), parts)
    if config.model.attention_implementation == 'cudnn' and devices[0].platform != 'gpu':
        raise UserError(
            f'--config.model.attention_implementation=cudnn: needs a GPU, and this is a {devices[0].platform}; leave it out'
        )
    part = config.batch_size // (len(devices) * parts)
    if part < 2 and (augment.mixup_alpha or augment.cutmix_alpha):
        raise UserError(
            f'mixup and cutmix blend clips of one device and part, and --config.batch_size={config.batch_size} gives each '
            f'{part}: double it, or set --config.augment.mixup_alpha=0 --config.augment.cutmix_alpha=0'
        )
    dataset = open_dataset(data.dir)
    dataset.clips(data.train_split)
    try:
        if data.validation_split:
            dataset.clips(data.validation_split)
    except ValueError as error:
        raise UserError(f'{error}; --config.data.validation_split= trains without validation') from None
    # The work directory is used from anywhere.
    return dataclasses.replace(config, data=dataclasses.replace(data, dir=str(dataset.folder.resolve()))), dataset


def _start_from_weights(config: Config, model: nn.Module, state: TrainState) -> tuple[TrainState, dict[str, Any]]:
    """The state with the parameters and statistics of `config.init.weights`, and what is to be known of them."""
    init, augment = config.init, config.augment
    converted = pretrained.load(init.weights, model, state.variables, init.allow_missing)
    inputs = converted.layout.inputs
    origin = pretrained.origin(init.weights, converted)
    logging.info('%s (sha256 %s): %s', init.weights, origin['sha256'], converted.summary())
    if not np.allclose((augment.mean, augment.std), (inputs.mean, inputs.std), atol=1e-3):
        logging.warning(
            '%s were trained on other values than the configuration makes; for theirs set '
            '--config.augment.mean=%s --config.augment.std=%s',
            converted.layout.title, inputs.mean, inputs.std,
        )  # fmt: skip
    variables = converted.for_rgb()
    return begin(state.step, variables['params'], variables.get('batch_stats', {}), state.opt_state, config), origin
