"""Makes a run's first state of random numbers, of published weights (`init.weights`) or of another run (`init.run`).

From another run, its parameters and statistics are taken. If no parameter starts anew, its moving averages and the
state of its optimizer are taken too; the learning rate's schedule starts at step 0. The classifier starts anew if the
labels of the two runs differ, or stand in another order.
"""

import dataclasses
import hashlib
import os
import re
from pathlib import Path
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import numpy as np
import optax
from absl import logging

from vidcls import pretrained
from vidcls.config import Config, InitConfig
from vidcls.errors import UserError
from vidcls.pretrained import fetching
from vidcls.pretrained.conversion import Converted
from vidcls.pretrained.layout import Arrays, Inputs, Layout
from vidcls.run import checkpoint, workdir
from vidcls.text.bounded_file import read_json
from vidcls.training.step import TrainState, new_state

AVERAGED_STEPS = 'averaged_steps'  # in weights.json: the number of updates in the moving averages of the first state
_ORIGIN_BYTES = 16 << 20  # the limit on weights.json, which lists parameters
_HEAD = '^head/'


def first_state(
    config: Config, model: nn.Module, state: TrainState, labels: tuple[str, ...]
) -> tuple[TrainState, dict[str, Any] | None]:
    """The state at step 0, and its origin for weights.json.

    Args:
      state: the state made of random numbers.
      labels: the dataset's labels, in order.

    Returns:
      The state and its origin. The origin is None if the result is `state` itself.

    Raises:
      UserError: the weights or the other run do not fit the network; the message names what differs.
    """
    if config.init.run:
        return _from_run(config, model, state, labels)
    if config.init.weights:
        return _from_weights(config, model, state)
    return state, None


def absolute(init: InitConfig) -> InitConfig:
    """The settings with absolute paths, which mean the same in every folder. Addresses stay as they are."""
    one_way = lambda path: path and os.path.abspath(os.path.expanduser(path))
    weights = init.weights if fetching.SCHEME.match(init.weights) else one_way(init.weights)
    return dataclasses.replace(init, weights=weights, run=one_way(init.run))


def _from_weights(config: Config, model: nn.Module, state: TrainState) -> tuple[TrainState, dict[str, Any]]:
    init = config.init
    converted = pretrained.load(init.weights, model, state.variables, init.allow_missing)
    origin = pretrained.origin(init.weights, converted)
    logging.info('%s (sha256 %s): %s', init.weights, origin['sha256'], converted.summary())
    _warn_of_other_values(config, converted)
    variables = converted.for_rgb()
    return new_state(state.step, variables['params'], variables.get('batch_stats', {}), state.opt_state, config), origin


def _warn_of_other_values(config: Config, converted: Converted) -> None:
    inputs = converted.layout.inputs_of(config.sampling.modality)
    known = converted.has_inputs and bool(inputs.mean)
    if known and not np.allclose(config.channels[1:], inputs[:2], atol=1e-3):
        logging.warning(
            '%s were trained on frames that were normalised in another way than the configuration does; for theirs set '
            '--config.augment.mean=%s --config.augment.std=%s',
            converted.layout.title, inputs.mean, inputs.std,
        )  # fmt: skip


# ---- Another run


class _Ours(Layout):
    """The layout of our own checkpoints, whose names and axes need no conversion."""

    def theirs(self, path: str) -> list[tuple[str, ...]]:
        return [(path,)]

    def to_ours(self, arrays, leaf: str, shape: tuple[int, ...]) -> np.ndarray:
        return arrays[0]


def _from_run(
    config: Config, model: nn.Module, state: TrainState, labels: tuple[str, ...]
) -> tuple[TrainState, dict[str, Any]]:
    folder, which = _parse(config.init.run)
    run = workdir.load(folder)
    step, saved = checkpoint.restore_parts(run.checkpoints, which)
    _check_modality(config, run)
    inputs = Inputs(*run.config.channels[1:])
    same_labels = labels == run.labels
    title = f'the parameters of {run.folder}'
    layout = _Ours((), title, {}, (), inputs=inputs, flow=inputs, difference=inputs)
    if not same_labels:
        layout = dataclasses.replace(layout, starts=_HEAD)

    def converted(tree: Any) -> Converted:
        arrays = _named(tree)
        if not same_labels:
            arrays = {name: array for name, array in arrays.items() if not re.match(_HEAD, name)}
        # Not `state.variables`, which may be the moving averages.
        ours = {'params': state.params, 'batch_stats': state.batch_stats}
        return pretrained.convert(arrays, model, ours, config.init.allow_missing, layout)

    averages = saved['model'].pop('ema', None)
    found = converted(saved['model'])
    opt_state, optimizer = _optimizer(saved['optimizer'], run.config, config, state.opt_state, found)
    params, batch_stats = found.variables['params'], found.variables.get('batch_stats', {})
    new = new_state(state.step, params, batch_stats, opt_state, config)
    averaged = 0
    if config.optim.ema_decay and averages and not found.started:
        new = dataclasses.replace(new, ema={'batch_stats': {}} | converted(averages).variables)
        averaged = step + averaged_steps(run)
    origin = {
        'run': str(run.folder.resolve()),
        'step': step,
        'config_sha256': hashlib.sha256((run.folder / 'config.json').read_bytes()).hexdigest(),
        'loaded': len(found.loaded),
        'started': dict(found.started),
        'unused': list(found.unused),
        'optimizer': optimizer,
        AVERAGED_STEPS: averaged,
    }
    logging.info(
        'step %d of %s%s; its optimizer: %s; moving averages: %s', step, found.summary(),
        '' if same_labels else '; it has other labels', optimizer,
        'loaded' if averaged else 'equal to the parameters' if config.optim.ema_decay else 'none',
    )  # fmt: skip
    _warn_of_other_values(config, found)
    return new, origin


def _check_modality(config: Config, run: workdir.Run) -> None:
    """Refuses to start from a run of another modality if the first convolution would then be given the wrong channels.

    A run of optical flow starts no other network, and none that stacks another number of frames. A network of optical
    flow can start from a run of colours or differences if it takes another number of channels: its first convolution
    then gets the mean over the colours.
    """
    ours, theirs = (one.sampling for one in (config, run.config))
    number = lambda one: one.channels.number * one.sampling.seg_len
    flow_elsewhere = theirs.modality == 'flow' and (ours.modality, ours.seg_len) != ('flow', theirs.seg_len)
    elsewhere_as_flow = ours.modality == 'flow' and theirs.modality != 'flow' and number(config) == number(run.config)
    if flow_elsewhere or elsewhere_as_flow:
        raise UserError(
            f'--config.init.run={config.init.run}: that run looks at {theirs.modality}, {theirs.seg_len} frames stacked, and this '
            f'one at {ours.modality}, {ours.seg_len}; start from the weights that it started from'
        )


def averaged_steps(run: workdir.Run) -> int:
    """The number of updates that the moving averages of an existing run had at its step 0."""
    path = run.folder / 'weights.json'
    if not path.exists():
        return 0
    found = read_json(path, _ORIGIN_BYTES).get(AVERAGED_STEPS, 0)
    return found if isinstance(found, int) and found >= 0 else 0


def _parse(value: str) -> tuple[Path, str]:
    """Splits 'RUN@300' into the folder RUN and the checkpoint '300'.

    The checkpoint may also be 'best' or 'latest'. Any other @ belongs to the folder's name, and the checkpoint is
    'latest'.
    """
    match = re.fullmatch(r'(.+)@(best|latest|\d+)', value)
    return (Path(match[1]), match[2]) if match else (Path(value), 'latest')


def _named(tree: Any) -> Arrays:
    """The arrays of parameters and statistics by path, such as 'backbone/conv1/kernel'."""
    return {'/'.join(key[1:]): value for key, value in flax.traverse_util.flatten_dict(tree).items()}


def _optimizer(saved: Any, theirs: Config, ours: Config, fresh: Any, found: Converted) -> tuple[Any, str]:
    """The state of the optimizer at step 0, and a text for the log that says where the state comes from.

    The state is the other run's, with the schedule set back to step 0, if it fits our optimizer and all parameters come
    from the other run. Otherwise the state is `fresh`.
    """
    if found.started:
        return fresh, 'starts anew, as some parameters do'
    if theirs.optim.name != ours.optim.name:
        return fresh, f'starts anew, for that was {theirs.optim.name}'
    arrays = _by_path(saved)
    wanted = _by_path(fresh)
    if {path: np.shape(x) for path, x in arrays.items()} != {path: np.shape(x) for path, x in wanted.items()}:
        return fresh, 'starts anew, for its arrays have other shapes'
    state = jax.tree.unflatten(jax.tree.structure(fresh), [arrays[path] for path in wanted])
    is_schedule = lambda node: isinstance(node, optax.ScaleByScheduleState)
    begun = lambda node: node._replace(count=np.zeros_like(node.count)) if is_schedule(node) else node
    return jax.tree.map(begun, state, is_leaf=is_schedule), 'loaded'


def _by_path(tree: Any) -> dict[str, np.ndarray]:
    """The leaves by path, in order. A tuple gets the same paths as the list or dictionary that it is saved as."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator='/'): leaf for path, leaf in leaves}
