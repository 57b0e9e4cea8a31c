"""Evaluation: the scores of a checkpoint on a split. Every clip counts once, whatever the batches and the devices.

A score means something only together with its protocol. The scores of one network differ by several points between one
centre view, three views in space and ten views in time, and published scores are often compared in spite of such a
difference.

`vidcls.run.results` describes the files that an evaluation leaves in the work directory.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import einops
import jax
import numpy as np
from absl import logging

from vidcls import config as config_lib
from vidcls.config import Config
from vidcls.data import pipeline, splits
from vidcls.data.dataset import Dataset, open_dataset
from vidcls.data.sampling import Sampler, largest_divisor, views_at_once
from vidcls.data.transform import Views
from vidcls.distributed import processes
from vidcls.distributed.devices import all_devices, local_devices, place, pmap, replicate, shard, unshard
from vidcls.models.configured import PredictStep, build_model, check_frames, make_predict_step
from vidcls.run import checkpoint, resource_errors, results, workdir
from vidcls.run.results import Predictions
from vidcls.run.workdir import Run


def predict_split(
    step: PredictStep,
    variables: Any,
    dataset: Dataset,
    config: Config,
    split: str,
    clips: int,
    crops: int,
    devices: Sequence[jax.Device],
) -> Predictions:
    """Returns the logits of every clip of a split, the same arrays on every process.

    Args:
      step: the function that `make_predict_step` made, run on `devices` by `pmap`.
      variables: the network's variables, replicated over `devices`.
      clips, crops: the number of views in time and in space.
    """
    # At once, a device computes some moments (views in time) with all their crops, or one moment with a group of its
    # crops. The choice changes no score.
    held, moments = views_at_once(config), len(dataset.clips(split)) * clips
    per_device = min(max(held // crops, 1), -(-moments // len(devices)))
    group = largest_divisor(crops, held)
    batches = pipeline.eval_batches(dataset, config, split, per_device * len(devices), clips, crops, *processes.this())
    numbers_by_step, logits_by_step = [], []
    for batch in batches:
        canvas, windows = place(shard(batch.views, len(local_devices(devices))), devices)
        outputs = [
            unshard(step(variables, Views(canvas, windows[:, :, first : first + group])))
            for first in range(0, crops, group)
        ]
        logits_by_step.append(np.concatenate([x.reshape(len(batch.mask), group, -1) for x in outputs], axis=1))
        numbers_by_step.append(np.where(batch.mask, batch.clip, -1).astype(np.int32))  # devices lack 64-bit integers
    numbers, logits = _in_order(numbers_by_step), _in_order(logits_by_step)
    real = numbers >= 0
    numbers, logits = numbers[real][::clips], einops.rearrange(logits[real], '(n m) v k -> n (m v) k', m=clips)
    broken = int((~np.isfinite(logits).all(axis=(1, 2))).sum())
    if broken and processes.is_first():
        logging.warning('%d of %d clips have logits that are not finite; they count as wrong', broken, len(numbers))
    return Predictions(dataset.index.ids[numbers], dataset.index.labels[numbers], logits)


def _in_order(by_step: list[np.ndarray]) -> np.ndarray:
    """Joins the arrays of all processes and steps, in the order in which a single process would read the clips."""
    gathered = processes.gather(np.stack(by_step))
    return einops.rearrange(gathered, 'process step place ... -> (step process place) ...')


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
    on_saved: Callable[[Path], None] | None = None,
) -> dict[str, Any]:
    """Evaluates a checkpoint of a work directory; writes `eval/<name>.json` (scores) and `eval/<name>.npz` (logits).

    The files' name has the dataset, the split, the step, the views and the changed settings. A repeated evaluation
    overwrites its own result. Results of other protocols, and of other datasets with the same name, are never
    overwritten.

    Args:
      run: the work directory, opened by `vidcls.run.workdir.load`.
      split: 'train', 'validation' or 'test' for a configured split, or the name of a split of the dataset. '' means
        'test'.
      checkpoint_name: 'best', 'latest' or a step.
      clips, crops: the numbers of views in time and in space; 0 means the configured number.
      data_dir: the dataset's folder; '' means the folder that training read.
      ema: whether to evaluate the moving averages of the parameters, if the run kept them.
      devices: the devices to use; by default all devices of all processes.
      settings: values that replace the run's own, such as {'sampling.test_segments': 25}. `config.TEST_SETTINGS` lists
        the names that are allowed.
      on_saved: a function that is called with the path of the JSON file once both files are there. Only the process
        that wrote the files calls it.

    Returns:
      The scores of `metrics.summarize`, [right clips, all clips] of each class, and the protocol that produced them.

    Raises:
      UserError: the dataset has other labels than the run, the split is unknown or empty, or a setting can't work.
      resource_errors.OutOfMemory: memory is short; the message says what helps.
    """
    devices = list(devices or all_devices())
    views = {name: number for name, number in (('test.clips', clips), ('test.crops', crops)) if number}
    config = config_lib.for_testing(run.config, {**(settings or {}), **views})
    clips, crops = config.test.clips, config.test.crops
    with processes.together():
        dataset = open_dataset(data_dir or config.data.dir)
        workdir.check_labels(run, dataset.labels)
        stored = dataset.stored(config.sampling.modality, run.frames.flow)
        if stored != run.frames:
            logging.warning('%s has frames stored as %s; the run was trained on %s', dataset.folder, stored, run.frames)
        split = getattr(splits.resolved(config.data, dataset.splits), f'{split or "test"}_split', split) or split
        digest = dataset.digest(split)  # an unknown split fails here, before the model is loaded
    processes.check_same(
        'protocol or dataset', (split, checkpoint_name, clips, crops, ema, config_lib.flatten(config), digest)
    )
    with resource_errors.explained_views(config):
        step, variables = checkpoint.restore_model(run.checkpoints, checkpoint_name, ema)
        model = build_model(config, len(run.labels))
        check_frames(config, model, variables)
        compiled = pmap(make_predict_step(model, config), devices)
        predictions = predict_split(
            compiled, replicate(variables, devices), dataset, config, split, clips, crops, devices
        )
    which = {'checkpoint_step': int(step), 'checkpoint': checkpoint_name, 'ema': bool(ema and config.optim.ema_decay)}
    protocol = _protocol(config, dataset, split) | which
    result = results.content(predictions, run.labels, protocol)
    if processes.is_first():
        path = results.free_path(run, config, protocol)
        results.save(path, result, predictions)
        if on_saved:
            on_saved(path)
    return result


def _protocol(config: Config, dataset: Dataset, split: str) -> dict[str, Any]:
    """Returns the protocol: the dataset, the split and the views of its clips. The caller adds the checkpoint."""
    return {
        'dataset': dataset.name,
        'dataset_digest': dataset.digest(split),
        'data_dir': str(dataset.folder.resolve()),
        'split': split,
        'model': config.model.name,
        'clips': config.test.clips,
        'crops': config.test.crops,
        'frames_per_clip': Sampler(config.sampling, training=False).num_frames,
        'modality': config.sampling.modality,
        'sampling': config.sampling.scheme,
        'view_offset': config.sampling.view_offset,
        'short_side': config.augment.test_short_side or config.augment.short_side,
        'crop_size': config.augment.crop_size,
        'average': config.test.average,
    }
