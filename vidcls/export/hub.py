"""Exports a trained network as a folder for the Hugging Face hub. The folder is written whole or not at all.

    model.safetensors     the weights under the names of the library that publishes such networks: mmaction2 or tsn-pytorch
                          for TSN, ECO-pytorch for ECO, transformers for TimeSformer. If no library has the network, the
                          weights are under the names of vidcls, and there is no second file.
    vidcls.safetensors    the same weights under the names of vidcls
    config.json           the settings of the run, under `vidcls`; if transformers has the network, also the settings
                          that transformers reads
    labels.txt            class names in the order of the logits
    README.md             the model card: how to load the network, the protocol, and the scores of the evaluations

`hf upload` takes the folder as it is. A training with `--config.init.weights=hf://ORG/NAME` starts from
`model.safetensors`. Both files of weights are read back before the folder gets its name.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from vidcls import pretrained
from vidcls.config import Config
from vidcls.errors import UserError
from vidcls.export.folder import for_others, making
from vidcls.export.network import portable
from vidcls.models.configured import build_model
from vidcls.models.timesformer import TimeSformer
from vidcls.models.vit import MLP_RATIO
from vidcls.pretrained import own
from vidcls.run import checkpoint
from vidcls.run.workdir import Run
from vidcls.text.bounded_file import read_json
from vidcls.text.names import as_json, readable

# The layouts of `vidcls.pretrained` in which weights are published. The first that fits the network is taken.
_LIBRARIES = ('huggingface', 'mmaction2', 'tsn-pytorch', 'eco-pytorch', 'mmaction2-joint')
_ATTENTION = {'divided': 'divided_space_time', 'joint': 'joint_space_time', 'space': 'space_only'}
_SCORES_BYTES = 16 << 20


def export(run: Run, out: str | Path, checkpoint_name: str = 'best') -> None:
    """Exports a checkpoint of a run as a folder `out` for the hub.

    Args:
      checkpoint_name: 'best', 'latest' or a step.

    Raises:
      UserError: the folder exists, or there is no such checkpoint.
    """
    config = for_others(run.config)
    step, variables = checkpoint.restore_model(run.checkpoints, checkpoint_name)
    variables = {name: tree for name, tree in jax.tree.map(np.asarray, variables).items() if tree}
    model = build_model(portable(config), len(run.labels))
    library, theirs = _in_a_library(variables, model)
    ours = own.named(variables)
    with making(Path(out).expanduser()) as folder:
        files = {'model.safetensors': theirs, 'vidcls.safetensors': ours} if theirs else {'model.safetensors': ours}
        for name, arrays in files.items():
            pretrained.save(folder / name, arrays)
            _check(folder / name, model, variables)
        settings = {'vidcls': dataclasses.asdict(config), **_for_transformers(model, config, run.labels, library)}
        (folder / 'config.json').write_text(json.dumps(settings, indent=2) + '\n', encoding='utf-8')
        (folder / 'labels.txt').write_text(''.join(f'{label}\n' for label in run.labels), encoding='utf-8')
        digest = checkpoint.digest(run.checkpoints, step)
        (folder / 'README.md').write_text(card(run, config, step, digest, library), encoding='utf-8')


def _in_a_library(variables: Mapping[str, Any], model: nn.Module) -> tuple[str, dict[str, np.ndarray]]:
    """The first of `_LIBRARIES` that has this network, and the weights in its layout; ('', {}) if there is none."""
    for library in _LIBRARIES:
        try:
            return library, pretrained.export(variables, model, library, from_rgb=True)
        except UserError:
            continue
    return '', {}


def _check(path: Path, model: nn.Module, variables: Mapping[str, Any]) -> None:
    """Reads a file of weights as a training would that starts from it, and compares every array with `variables`."""
    found = own.named(pretrained.load(path, model, variables).for_rgb())
    right = own.named(variables)
    if {name: array.tobytes() for name, array in found.items()} != {name: right[name].tobytes() for name in right}:
        raise RuntimeError(f'{path.name} does not load back as it was saved')


def _for_transformers(model: nn.Module, config: Config, labels: tuple[str, ...], library: str) -> dict[str, Any]:
    """The settings that transformers reads, if the weights are in the layout of transformers; otherwise nothing."""
    if library != 'huggingface' or not isinstance(model, TimeSformer):
        return {}
    return {
        'architectures': ['TimesformerForVideoClassification'],
        'model_type': 'timesformer',
        'attention_type': _ATTENTION[model.attention],
        'drop_path_rate': model.drop_path,
        'hidden_size': model.width,
        'image_size': config.augment.crop_size,
        'intermediate_size': MLP_RATIO * model.width,
        'layer_norm_eps': 1e-6,
        'num_attention_heads': model.num_heads,
        'num_channels': config.channels.number,
        'num_frames': model.num_frames,
        'num_hidden_layers': model.depth,
        'patch_size': model.patch_size,
        'qkv_bias': True,
        'id2label': {str(number): label for number, label in enumerate(labels)},
        'label2id': {label: number for number, label in enumerate(labels)},
    }


# ---- The card


def card(run: Run, config: Config, step: int, digest: str, library: str) -> str:
    """The text of the model card: the hub's settings, then a page. The settings are JSON, which is valid YAML.

    Args:
      digest: the SHA-256 of the checkpoint.
      library: the library under whose names the weights are; '' means vidcls.
    """
    scores = _scores(run, step)
    front = {
        'library_name': 'vidcls',
        'pipeline_tag': 'video-classification',
        'tags': ['video-classification', 'jax', 'flax'],
        'model-index': [{'name': config.model.name, 'results': [_result(score) for score in scores]}],
    }
    sampling, augment, test = config.sampling, config.augment, config.test
    segments = sampling.test_segments or sampling.num_segments
    mean, std = (','.join(f'{value:g}' for value in values) for values in config.channels[1:])
    head = '\n'.join(f'{key}: {as_json(value)}' for key, value in front.items() if value)
    names = library or 'vidcls'
    return f"""---
{head}
---

# {readable(config.model.name)}

A network that names what happens in a video, one of {len(run.labels)} labels (`labels.txt`), trained with vidcls.

    python -m experiments.tsn_folder --workdir=runs/mine --config.data.dir=datasets/mine --config.model.name={config.model.name} \\
        --config.init.weights=hf://ORG/NAME --config.augment.mean={mean} --config.augment.std={std} \\
        --config.sampling.modality={sampling.modality} --config.sampling.seg_len={sampling.seg_len}

`model.safetensors` has the names of {names}{', whose settings `config.json` has too' if library == 'huggingface' else ''}; \
`vidcls.safetensors` has the same arrays under their names in vidcls. `config.json` has all settings of the run as `vidcls`.

## Protocol

| | |
|---|---|
| frames | scheme {sampling.scheme}, {segments} x {sampling.seg_len} of a view, {test.clips} views in time |
| crops | {test.crops} of {augment.crop_size} x {augment.crop_size}, of a short side of {augment.test_short_side or augment.short_side} |
| seen of a frame | {sampling.modality}, {sampling.seg_len} stacked |
| values | {'x first' if sampling.modality == 'flow' else 'red first'}, in [0, 1] less {mean}, over {std} |
| score | the mean of the {test.average} over the views |
| checkpoint | step {step}, SHA-256 {digest} |

## Scores

{_table(scores)}
"""


def _scores(run: Run, step: int) -> list[dict[str, Any]]:
    """The results of all evaluations of the checkpoint of `step`, in the order of their files' names."""
    found = [read_json(path, _SCORES_BYTES) for path in sorted((run.folder / 'eval').glob('*.json'))]
    return [score for score in found if score.get('checkpoint_step') == step and isinstance(score.get('top1'), float)]


def _result(score: Mapping[str, Any]) -> dict[str, Any]:
    dataset = readable(str(score.get('dataset', '')))
    return {
        'task': {'type': 'video-classification'},
        'dataset': {'name': dataset, 'type': dataset, 'split': readable(str(score.get('split', '')))},
        'metrics': [{'type': 'accuracy', 'name': 'top-1', 'value': score['top1']}],
    }


def _table(scores: list[dict[str, Any]]) -> str:
    if not scores:
        return 'None: this checkpoint was not evaluated.'
    rows = ['| dataset | split | views | clips | top-1 |', '|---|---|---|---|---|']
    for score in scores:
        shown = [readable(str(score.get(key, ''))).replace('|', '\\|') for key in ('dataset', 'split')]
        views, clips = f'{score.get("clips")} x {score.get("crops")}', score.get('num_videos')
        rows.append(f'| {shown[0]} | {shown[1]} | {views} | {clips} | {100 * score["top1"]:.1f} % |')
    return '\n'.join(rows)
