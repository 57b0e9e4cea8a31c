"""Reads the description in a dataset's folder: its name, its labels, its parts and their shards.

TensorFlow Datasets reads the same files. But it imports the module of every class that `features.json` names, before it
checks the class. So a module in the dataset's own folder would run. The files are a few lines of JSON, so they are read
here, with a limit on every number that determines the size of later work. TensorFlow Datasets isn't needed to open a
dataset.

dataset_info.json   name, version, splits ("parts") with the number of clips in each shard, template of shard names
features.json       what an example is made of; must be what data_prep writes
label.labels.txt    class names, one a line
metadata.json       the splits that people use, as sums of parts, and how frames were stored; may be absent

The format of the files is in tensorflow_datasets/core/proto/dataset_info.proto and feature.proto; here it is JSON. The
names of shards are in tensorflow_datasets/core/naming.py.
"""

import dataclasses
import re
from pathlib import Path
from typing import Any

from vidcls.data import frame_storage
from vidcls.data.flow import FlowSettings
from vidcls.errors import UserError
from vidcls.text.bounded_file import read_json, read_labels

MAX_SHARDS = 100_000
_MAX_PARTS = 1000
_MAX_DEPTH = 12
_MAX_TEMPLATE = 200
_MAX_BYTES = 4 << 20  # the limit on each JSON file
_TEMPLATE = '{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}'
_PLAIN = re.compile(r'[A-Za-z0-9][A-Za-z0-9_.-]{0,199}')  # a file name that can't lead out of its folder
_FEATURES = 'tensorflow_datasets.core.features.'
_CLASSES = {
    'video': (f'{_FEATURES}sequence_feature.Sequence',),
    'label': (f'{_FEATURES}class_label_feature.ClassLabel',),
    'id': (f'{_FEATURES}text_feature.Text',),
    'fps': (f'{_FEATURES}scalar.Scalar', f'{_FEATURES}tensor_feature.Tensor'),
}
_FLOW = {'flow': _CLASSES['video']}  # only in datasets with flow
_KNOWN = {f'{_FEATURES}features_dict.FeaturesDict', f'{_FEATURES}image_feature.Image'}.union(*_CLASSES.values())
_CLASS_KEYS = ('pythonClassName', 'type')  # TensorFlow Datasets before 4.5 has 'type'


@dataclasses.dataclass(frozen=True)
class Description:
    """The description of a dataset, from the files beside its shards.

    Attributes:
      name, version: the dataset's name and version, such as 'ucf101' and '1.0.0'.
      labels: class names; a label is a position in this list.
      parts: part -> {file name of a shard: number of its clips}, in the order of the shards. Parts without clips are
        left out.
      splits: split name -> the names of its parts.
      short_side: the limit on the short side of stored frames, pixels; None if no file tells it.
      fps: the rate that frames were resampled to, frames per second; None if every frame was kept.
      flow: how the stored flow was computed; None for a dataset without flow.
    """

    name: str
    version: str
    labels: tuple[str, ...]
    parts: dict[str, dict[str, int]]
    splits: dict[str, tuple[str, ...]]
    short_side: int | None
    fps: float | None
    flow: FlowSettings | None


def read(folder: Path) -> Description:
    """Reads and checks the files of a dataset's folder.

    Raises:
      UserError: a file is broken, hostile or not as data_prep writes it; the message names the file and what is wrong.
      OSError: a file is missing or can't be read.
    """
    name, version, parts = read_parts(folder)
    labels = read_labels(folder / 'label.labels.txt')
    has_flow = _check_features(folder / 'features.json', len(labels))
    path = folder / 'metadata.json'
    metadata = read_json(path, _MAX_BYTES) if path.exists() else {}
    short_side, fps = metadata.get('short_side'), metadata.get('fps')
    stored = frame_storage.checked(
        path, frame_storage.MAX_SHORT_SIDE if short_side is None else short_side, fps, metadata.get('flow')
    )
    if has_flow != (stored.flow is not None):
        one, other = ('has', 'does not say') if has_flow else ('lacks', 'says')
        raise UserError(
            f'{folder}: features.json {one} flow, and metadata.json {other} how it was computed; convert again'
        )
    splits = _splits(path, parts, metadata.get('splits') or {part: part for part in parts})
    return Description(name, version, labels, parts, splits, short_side, fps, stored.flow)


def read_parts(folder: Path) -> tuple[str, str, dict[str, dict[str, int]]]:
    """The `name`, `version` and `parts` of a `Description`, read from dataset_info.json alone.

    Raises:
      UserError, OSError: as in `read`.
    """
    path = folder / 'dataset_info.json'
    info = read_json(path, _MAX_BYTES)
    name, version = (_plain(path, key, info.get(key)) for key in ('name', 'version'))
    return name, version, _parts(path, name, info)


def _plain(path: Path, what: str, value: Any) -> str:
    """Returns a value of a JSON file, after a check that it is a text which can stand in a file's name."""
    if not isinstance(value, str) or not _PLAIN.fullmatch(value):
        raise UserError(f'{path}: the {what} {value!r:.80} must be letters, digits, _, . and -')
    return value


def _parts(path: Path, name: str, info: dict[str, Any]) -> dict[str, dict[str, int]]:
    """The `parts` of a `Description`."""
    file_format = info.get('fileFormat') or 'tfrecord'
    if file_format != 'tfrecord':
        raise UserError(f'{path}: the shards are of the format {file_format!r:.80}; only tfrecord is read')
    entries = info.get('splits') or []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f'{path}: splits must be a list of objects')
    lengths: dict[str, list[int]] = {}
    for entry in entries:
        part = _plain(path, 'split name', entry.get('name'))
        if part in lengths:
            raise UserError(f'{path}: has the split {part!r} twice')
        counts = entry.get('shardLengths') or []
        if not isinstance(counts, list):
            raise UserError(f'{path}: shardLengths of {part!r} must be a list')
        lengths[part] = [_count(path, count) for count in counts]
    num_shards = sum(map(len, lengths.values()))
    if num_shards > MAX_SHARDS or len(lengths) > _MAX_PARTS:
        raise UserError(
            f'{path}: has {num_shards:,} shards in {len(lengths):,} splits; the limits are {MAX_SHARDS:,} and {_MAX_PARTS:,}'
        )
    templates = {entry['name']: entry.get('filepathTemplate') or _TEMPLATE for entry in entries}
    parts = {
        part: dict(zip(_shard_names(path, templates[part], name, part, len(counts)), counts))
        for part, counts in lengths.items()
        if sum(counts)
    }
    if not parts:
        raise UserError(f'{path}: the dataset has no clips')
    shards = [shard for part in parts.values() for shard in part]
    if len(set(shards)) < len(shards) or sum(map(len, parts.values())) < sum(len(lengths[part]) for part in parts):
        raise UserError(f'{path}: several shards have one name; the template must tell splits and shards apart')
    return parts


def _count(path: Path, value: Any) -> int:
    """Returns a number, after a check. It may be a string: the JSON of protocol buffers writes int64 as strings."""
    if isinstance(value, str) and re.fullmatch('[0-9]{1,10}', value):
        value = int(value)
    if type(value) is not int or not 0 <= value < 2**31:
        raise UserError(f'{path}: {value!r:.80} must be a number of clips')
    return value


def _shard_names(path: Path, template: Any, name: str, part: str, count: int) -> list[str]:
    """The file names of a part's `count` shards, made from the template."""
    if not isinstance(template, str) or len(template) > _MAX_TEMPLATE:
        raise UserError(f'{path}: filepathTemplate {template!r:.80} is no text of a file name')
    digits = max(len(str(count)), 5)
    names = []
    for shard in range(count):
        index, total = f'{shard:0{digits}}', f'{count:0{digits}}'
        values = {
            'DATASET': name, 'SPLIT': part, 'FILEFORMAT': 'tfrecord',
            'SHARD_INDEX': index, 'NUM_SHARDS': total, 'SHARD_X_OF_Y': f'{index}-of-{total}',
        }  # fmt: skip
        shard_name = template
        for key, value in values.items():
            shard_name = shard_name.replace(f'{{{key}}}', value)
        if not _PLAIN.fullmatch(shard_name):
            raise UserError(f'{path}: filepathTemplate {template!r:.80} must name files in the folder of the dataset')
        names.append(shard_name)
    return names


def _splits(path: Path, parts: dict[str, Any], sums: Any) -> dict[str, tuple[str, ...]]:
    """The `splits` of a `Description`, made from sums such as 'train+validation'."""
    if not isinstance(sums, dict) or len(sums) > _MAX_PARTS or not all(isinstance(v, str) for v in sums.values()):
        raise UserError(f'{path}: splits must be an object of at most {_MAX_PARTS:,} sums such as "train+validation"')
    splits = {_plain(path, 'split name', split): tuple(text.split('+')) for split, text in sums.items()}
    for split, names in splits.items():
        for part in names:
            if part not in parts:
                raise UserError(f'{path}: the split {split!r} names {part!r:.80}, which is not in dataset_info.json')
    return splits


def _check_features(path: Path, num_labels: int) -> bool:
    """Refuses a features.json that is not as data_prep writes it. Returns whether the examples have flow."""
    tree = read_json(path, _MAX_BYTES)
    _check_classes(path, tree, 0)
    features = tree.get('featuresDict')
    features = features.get('features') if isinstance(features, dict) else None
    known = _CLASSES | _FLOW if isinstance(features, dict) and 'flow' in features else _CLASSES
    if not isinstance(features, dict) or set(features) != set(known):
        raise UserError(
            f'{path}: an example must have {", ".join(_CLASSES)}, perhaps flow, and nothing else; convert with data_prep'
        )
    for name, classes in known.items():
        feature = features[name]
        if not isinstance(feature, dict) or feature.get('pythonClassName') not in classes:
            raise UserError(f'{path}: {name} must be of the class {classes[0]}; convert with data_prep')
    label = features['label'].get('classLabel')
    stated = label.get('numClasses') if isinstance(label, dict) else None
    if _count(path, stated) != num_labels:
        raise UserError(f'{path}: states {stated!r:.80} classes, and label.labels.txt has {num_labels}')
    return 'flow' in features


def _check_classes(path: Path, node: Any, depth: int) -> None:
    """Refuses a class that data_prep does not write, at any depth: TensorFlow Datasets would import its module."""
    if depth > _MAX_DEPTH:
        raise UserError(f'{path}: is nested too deeply')
    for key in _CLASS_KEYS:
        name = node.get(key) if isinstance(node, dict) else None
        if isinstance(name, str) and name not in _KNOWN:
            raise UserError(f'{path}: the class {name!r:.120} is none that data_prep writes; it was not imported')
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _check_classes(path, child, depth + 1)
