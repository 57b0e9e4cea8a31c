"""Scores of a model on a split: every clip once, in any number of views, whatever the batch and the devices.

The protocol is part of the result: numbers of the same network differ by several points between one centre view,
three crops and ten clips, and published ones are often compared across that difference.
"""

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from vidcls import checkpoint, hosts, metrics, models, parallel, workdir
from vidcls.config import Config
from vidcls.data import pipeline, splits
from vidcls.data.dataset import Dataset, open_dataset
from vidcls.data.transform import Clips, transform
from vidcls.errors import UserError
from vidcls.workdir import Run

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
        'axis_name': parallel.AXIS if config.model.sync_batch_norm else None,
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
    """(variables, clips) -> logits float32[b k], for one device."""
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
    # The batch changes no score: round it up to what the devices divide.
    size = -(-config.test.batch_size // len(devices)) * len(devices)
    config = dataclasses.replace(config, test=dataclasses.replace(config.test, batch_size=size))
    batches = pipeline.eval_batches(dataset, config, split, clips, crops, *hosts.this())
    found, logits = [], []
    for batch in batches:
        output = step(variables, parallel.shard(batch.clips, len(parallel.local(devices))))
        logits.append(parallel.gather(output).reshape(len(batch.mask), clips * crops, -1))
        found.append(np.where(batch.mask, batch.clip, -1).astype(np.int32))  # a device has no 64-bit integers
    found, logits = map(_in_order, (found, logits))
    real = found >= 0
    return Scores(dataset.index.ids[found[real]], dataset.index.labels[found[real]], logits[real])


def _in_order(parts: list[np.ndarray]) -> np.ndarray:
    """What every host has of each step, in the order of one host's batches."""
    return einops.rearrange(hosts.gather(np.stack(parts)), 'host step place ... -> (step host place) ...')


def evaluate(
    run: Run,
    split: str = '',
    checkpoint_name: str = 'best',
    clips: int = 0,
    crops: int = 0,
    data_dir: str = '',
    ema: bool = True,
    devices: Sequence[jax.Device] | None = None,
) -> dict[str, Any]:
    """Evaluates a checkpoint of a work directory; writes `eval/<name>.json` and the scores as `.npz`.

    Args:
      split: 'train', 'validation' or 'test' for the configured one, or a split of the dataset; empty: test.
      checkpoint_name: 'best', 'latest' or a step.
      clips, crops: 0 for the configured numbers.
      data_dir: where the dataset lies now, if not where it was in training.
      ema: False for the parameters themselves, where the run kept their moving averages.

    Returns:
      The scores (`metrics.scores`) and the protocol that produced them.

    Raises:
      UserError: the dataset has other labels than the run, or the split is unknown or empty.
    """
    devices = list(devices or parallel.all_devices())
    config = run.config
    clips, crops = clips or config.test.clips, crops or config.test.crops
    with hosts.together():
        dataset = open_dataset(data_dir or config.data.dir)
        workdir.check_labels(run, dataset.labels)
        stored = workdir.Frames(dataset.short_side, dataset.target_fps)
        if stored != run.frames:
            logging.warning('%s has frames stored as %s; the run was trained on %s', dataset.folder, stored, run.frames)
        split = getattr(splits.resolved(config.data, dataset.splits), f'{split or "test"}_split', split) or split
        selected = dataset.clips(split, '--split')  # an unknown split is an error before the model is loaded
    hosts.check_same(
        'protocol or dataset', (split, checkpoint_name, clips, crops, ema, dataset.index.ids[selected].tolist())
    )
    step, variables = checkpoint.restore_model(run.checkpoints, checkpoint_name, ema)
    compiled = parallel.pmap(predict_step(build_model(config, len(run.labels)), config), devices)
    scores = score(compiled, parallel.replicate(variables, devices), dataset, config, split, clips, crops, devices)
    sampler = pipeline.Sampler(config.sampling, training=False)
    result = metrics.scores(scores.logits, scores.labels, config.test.average) | {
        'dataset': dataset.name,
        'data_dir': str(dataset.folder),
        'split': split,
        'checkpoint_step': int(step),
        'checkpoint': checkpoint_name,
        'ema': bool(ema and config.optim.ema_decay),
        'model': config.model.name,
        'clips': clips,
        'crops': crops,
        'frames_per_clip': sampler.num_frames,
        'sampling': config.sampling.scheme,
        'view_offset': config.sampling.view_offset,
        'short_side': config.augment.test_short_side or config.augment.short_side,
        'crop_size': config.augment.crop_size,
        'average': config.test.average,
    }
    if hosts.is_first():
        _save(run, result, scores)
    return result


def _save(run: Run, result: dict[str, Any], scores: Scores) -> None:
    folder = run.folder / 'eval'
    folder.mkdir(exist_ok=True)
    dataset = result['dataset'].split()[0]
    name = '{}-{split}-step{checkpoint_step}-{clips}x{crops}'.format(dataset, **result)
    if run.config.optim.ema_decay and not result['ema']:
        name += '-noema'
    (folder / f'{name}.json').write_text(json.dumps(result, indent=2) + '\n')
    np.savez(folder / f'{name}.npz', **dataclasses.asdict(scores))
