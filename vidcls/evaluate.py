"""Scores of a model on a split: every clip once, in any number of views, whatever the batch and the devices.

The protocol is part of the result: numbers of the same network differ by several points between one centre view,
three crops and ten clips, and published ones are often compared across that difference.

`eval/<name>.json` has the scores and the protocol, `eval/<name>.npz` what the network said of n videos in v views:

    ids     str[n]            the video's path in the source, without its ending
    labels  int32[n]          its true label, a line of the work directory's labels.txt, counted from 0
    logits  float32[n v k]    view number moment * crops + crop; crops in the order of `vidcls.data.windows.views`

The videos that the mean over the views gets wrong, for instance:

    saved = np.load(path)
    found = saved['logits'].mean(axis=1).argmax(axis=-1)
    print(saved['ids'][found != saved['labels']])
"""

import dataclasses
import hashlib
import itertools
import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from vidcls import config as config_lib
from vidcls import metrics, models
from vidcls.config import Config
from vidcls.data import pipeline, splits
from vidcls.data.dataset import Dataset, open_dataset
from vidcls.data.sampling import Sampler, views_at_once
from vidcls.data.transform import Clips, transform
from vidcls.distributed import processes
from vidcls.distributed.devices import AXIS, all_devices, local_devices, place, pmap, replicate, shard, unshard
from vidcls.errors import UserError
from vidcls.run import checkpoint, resource_errors, workdir
from vidcls.run.workdir import Run

PredictStep = Callable[[Any, Clips], jax.Array]


@dataclasses.dataclass(frozen=True)
class Scores:
    """What the network said: logits float32[n v k] of v views of n videos; ids str[n]; labels int32[n]."""

    ids: np.ndarray
    labels: np.ndarray
    logits: np.ndarray


def build_model(config: Config, num_classes: int) -> nn.Module:
    """The configured network, for clips as the configuration samples and crops them.

    Raises:
      UserError: an unknown model, or a setting that it does not have.
    """
    given = {
        'num_segments': config.sampling.num_segments,
        'seg_len': config.sampling.seg_len,
        'num_frames': config.sampling.num_frames,
        'image_size': config.augment.crop_size,
        'axis_name': AXIS if config.model.sync_batch_norm else None,
        'dtype': jnp.dtype(config.model.dtype),
    }
    known = models.settings(config.model.name)
    if config.model.sync_batch_norm and 'axis_name' not in known:
        raise UserError(f'--config.model.sync_batch_norm=true: {config.model.name} has no BatchNorm')
    given = {name: value for name, value in given.items() if name in known} | config.model.overrides()
    if given.get('attention_implementation') == 'cudnn' and jax.default_backend() != 'gpu':
        del given['attention_implementation']  # trained on a GPU: the same function of the same parameters
    return models.build(config.model.name, num_classes, **given)


def predict_step(model: nn.Module, config: Config) -> PredictStep:
    """(variables, clips of v windows each) -> logits float32[(b v) k], for one device."""
    augment = config.augment

    def step(variables: Any, clips: Clips) -> jax.Array:
        video = transform(clips, augment.crop_size, augment.mean, augment.std)
        return model.apply(variables, video, train=False)

    return step


def score(
    step: PredictStep,
    variables: Any,
    dataset: Dataset,
    config: Config,
    split: str,
    clips: int,
    crops: int,
    devices: Sequence[jax.Device],
) -> Scores:
    """Logits of every clip of a split, the same on every host.

    Args:
      step: `parallel.pmap` of `predict_step`.
      variables: replicated over `devices`.
      clips, crops: views in time and in space.
    """
    # What a device holds at once changes no score: whole moments of clips, or one in groups of its crops.
    held, moments = views_at_once(config), len(dataset.clips(split)) * clips
    per_device = min(max(held // crops, 1), -(-moments // len(devices)))
    group = largest_divisor(crops, held)
    batches = pipeline.eval_batches(dataset, config, split, per_device * len(devices), clips, crops, *processes.this())
    found, logits = [], []
    for batch in batches:
        canvas, windows = place(shard(batch.clips, len(local_devices(devices))), devices)
        outputs = [
            unshard(step(variables, Clips(canvas, windows[:, :, first : first + group])))
            for first in range(0, crops, group)
        ]
        logits.append(np.concatenate([output.reshape(len(batch.mask), group, -1) for output in outputs], axis=1))
        found.append(np.where(batch.mask, batch.clip, -1).astype(np.int32))  # a device has no 64-bit integers
    found, logits = map(_in_order, (found, logits))
    real = found >= 0
    found, logits = found[real][::clips], einops.rearrange(logits[real], '(n m) v k -> n (m v) k', m=clips)
    broken = int((~np.isfinite(logits).all(axis=(1, 2))).sum())
    if broken and processes.is_first():
        logging.warning('%d of %d clips have logits that are not finite; they count as wrong', broken, len(found))
    return Scores(dataset.index.ids[found], dataset.index.labels[found], logits)


def largest_divisor(number: int, limit: int) -> int:
    """The largest divisor of `number` up to `limit`, at least 1."""
    return max(part for part in range(1, number + 1) if number % part == 0 and part <= max(limit, 1))


def _in_order(parts: list[np.ndarray]) -> np.ndarray:
    """What every host has of each step, in the order of one host's batches."""
    return einops.rearrange(processes.gather(np.stack(parts)), 'host step place ... -> (step host place) ...')


def check_frames(config: Config, model: nn.Module, variables: Any) -> None:
    """Refuses a number of test frames that the network can't take: validation would find out after an epoch.

    Raises:
      UserError: names the setting and what the network takes.
    """
    frames, size = Sampler(config.sampling, training=False).num_frames, config.augment.crop_size
    if frames == config.sampling.num_frames:
        return
    try:
        jax.eval_shape(model.apply, variables, jax.ShapeDtypeStruct((1, frames, size, size, 3), np.float32))
    except UserError as error:
        raise UserError(
            f'--config.sampling.test_segments={config.sampling.test_segments}: {config.model.name} as trained with '
            f'num_segments={config.sampling.num_segments} cannot take so many ({error})'
        ) from error


def evaluate(
    run: Run,
    split: str = '',
    checkpoint_name: str = 'best',
    clips: int = 0,
    crops: int = 0,
    data_dir: str = '',
    ema: bool = True,
    devices: Sequence[jax.Device] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Evaluates a checkpoint of a work directory; writes `eval/<name>.json` and the scores as `.npz`.

    The name has dataset, split, step, views and changed settings. A result of another protocol or another dataset of the same
    name is never overwritten; the same evaluation repeated overwrites itself.

    Args:
      split: 'train', 'validation' or 'test' for the configured one, or a split of the dataset; empty: test.
      checkpoint_name: 'best', 'latest' or a step.
      clips, crops: 0 for the configured numbers.
      data_dir: where the dataset lies now, if not where it was in training.
      ema: False for the parameters themselves, where the run kept their moving averages.
      settings: over the run's own, those of `config.TEST_SETTINGS`, such as {'sampling.test_segments': 25}.

    Returns:
      The scores (`metrics.scores`, and of each class: hits and videos) and the protocol that produced them.

    Raises:
      UserError: the dataset has other labels than the run, the split is unknown or empty, or a setting can't work.
      resource_errors.OutOfMemory: says what helps.
    """
    devices = list(devices or all_devices())
    config = config_lib.for_testing(run.config, settings or {})
    clips, crops = clips or config.test.clips, crops or config.test.crops
    with processes.together():
        dataset = open_dataset(data_dir or config.data.dir)
        workdir.check_labels(run, dataset.labels)
        stored = workdir.Frames(dataset.short_side, dataset.target_fps)
        if stored != run.frames:
            logging.warning('%s has frames stored as %s; the run was trained on %s', dataset.folder, stored, run.frames)
        split = getattr(splits.resolved(config.data, dataset.splits), f'{split or "test"}_split', split) or split
        digest = _digest(dataset, split)  # an unknown split is an error before the model is loaded
    processes.check_same(
        'protocol or dataset', (split, checkpoint_name, clips, crops, ema, config_lib.flatten(config), digest)
    )
    with resource_errors.explained_views(config):
        step, variables = checkpoint.restore_model(run.checkpoints, checkpoint_name, ema)
        model = build_model(config, len(run.labels))
        check_frames(config, model, variables)
        compiled = pmap(predict_step(model, config), devices)
        scores = score(compiled, replicate(variables, devices), dataset, config, split, clips, crops, devices)
    protocol = {
        'dataset': dataset.name,
        'dataset_digest': digest,
        'data_dir': str(dataset.folder),
        'split': split,
        'checkpoint_step': int(step),
        'checkpoint': checkpoint_name,
        'ema': bool(ema and config.optim.ema_decay),
        'model': config.model.name,
        'clips': clips,
        'crops': crops,
        'frames_per_clip': Sampler(config.sampling, training=False).num_frames,
        'sampling': config.sampling.scheme,
        'view_offset': config.sampling.view_offset,
        'short_side': config.augment.test_short_side or config.augment.short_side,
        'crop_size': config.augment.crop_size,
        'average': config.test.average,
    }
    measured = metrics.scores(scores.logits, scores.labels, config.test.average)
    if not math.isfinite(measured['loss']):
        measured['loss'] = None  # JSON has no other word for it
    by_class = metrics.hits_by_class(scores.logits, scores.labels, config.test.average)
    named = {run.labels[label]: list(found) for label, found in by_class.items()}
    result = measured | protocol | {'class_accuracy': named}
    if processes.is_first():
        _save(_free_path(run, config, protocol), result, scores)
    return result


def _digest(dataset: Dataset, split: str) -> str:
    """Tells this split of this dataset from another of the same name: clips, labels, and the size of each frame's JPEG."""
    index, selected = dataset.index, dataset.clips(split)
    found = hashlib.sha256('\n'.join([*dataset.labels, *index.ids[selected].tolist()]).encode())
    for column in (index.labels, index.fps, index.height, index.width):
        found.update(column[selected].tobytes())
    for clip in selected:
        found.update(index.length[index.first[clip] : index.first[clip + 1]].tobytes())
    return found.hexdigest()[:8]


# Other values of these are the same evaluation: where the dataset lies, and by what name the step was asked for.
_SAME = ('data_dir', 'checkpoint')


def _free_path(run: Run, config: Config, protocol: dict[str, Any]) -> Path:
    """`eval/<name>.json`, with a number behind the name where a result of another protocol has it."""
    folder = run.folder / 'eval'
    folder.mkdir(exist_ok=True)
    dataset = protocol['dataset'].split()[0]
    name = '{}-{split}-{dataset_digest}-step{checkpoint_step}-{clips}x{crops}'.format(dataset, **protocol)
    if run.config.optim.ema_decay and not protocol['ema']:
        name += '-noema'
    ours, theirs = config_lib.flatten(config), config_lib.flatten(run.config)
    for setting in config_lib.TEST_SETTINGS:
        in_name = setting not in ('test.clips', 'test.crops', 'test.batch_size')  # the views, and what changes nothing
        if in_name and ours[setting] != theirs[setting]:
            name += f'-{setting.split(".")[1]}={ours[setting]}'
    name = re.sub(r'[^\w.+=-]', '_', name)
    for number in itertools.count(1):
        path = folder / f'{name}{"" if number == 1 else f"-{number}"}.json'
        if not path.exists():
            return path
        kept = json.loads(path.read_text())
        if all(kept.get(key) == value for key, value in protocol.items() if key not in _SAME):
            return path


def _save(path: Path, result: dict[str, Any], scores: Scores) -> None:
    """Writes both files, each whole or not at all."""
    partial = path.with_name(f'.{path.stem}.partial.npz')
    np.savez(partial, **dataclasses.asdict(scores))
    os.replace(partial, path.with_suffix('.npz'))
    partial = path.with_name(f'.{path.name}.partial')
    partial.write_text(json.dumps(result, indent=2) + '\n', encoding='utf-8')
    os.replace(partial, path)
