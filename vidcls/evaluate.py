"""Scores of a model on a split: every clip once, in any number of views, whatever the batch and the devices.

The protocol is part of the result: numbers of the same network differ by several points between one centre view,
three crops and ten clips, and published ones are often compared across that difference.

`vidcls.run.results` has what is left in the work directory.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import einops
import jax
import numpy as np
from absl import logging

from vidcls import config as config_lib
from vidcls import metrics
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
        canvas, windows = place(shard(batch.views, len(local_devices(devices))), devices)
        outputs = [
            unshard(step(variables, Views(canvas, windows[:, :, first : first + group])))
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
    return Predictions(dataset.index.ids[found], dataset.index.labels[found], logits)


def _in_order(parts: list[np.ndarray]) -> np.ndarray:
    """What every host has of each step, in the order of one host's batches."""
    return einops.rearrange(processes.gather(np.stack(parts)), 'host step place ... -> (step host place) ...')


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
        digest = dataset.digest(split)  # an unknown split is an error before the model is loaded
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
    measured = metrics.summarize(predictions.logits, predictions.labels, config.test.average)
    if not math.isfinite(measured['loss']):
        measured['loss'] = None  # JSON has no other word for it
    by_class = metrics.hits_by_class(predictions.logits, predictions.labels, config.test.average)
    named = {run.labels[label]: list(found) for label, found in by_class.items()}
    result = measured | protocol | {'class_accuracy': named}
    if processes.is_first():
        results.save(results.free_path(run, config, protocol), result, predictions)
    return result
