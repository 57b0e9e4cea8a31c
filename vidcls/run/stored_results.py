"""Finds and reads evaluations in `eval/` of work directories, and checks that several are of the same clips.

A work directory from elsewhere is not trusted: its files are read within limits, and nothing in them is run.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from vidcls import metrics
from vidcls.data import plain_npz, splits
from vidcls.errors import UserError
from vidcls.run import workdir
from vidcls.run.protocol import fields_where
from vidcls.run.results import Predictions
from vidcls.text.bounded_file import read_json, read_labels
from vidcls.text.names import readable

_MAX_BYTES = 64 << 20  # the most bytes of a JSON file; 100,000 labels with their accuracies take 10 MB
_MAX_RESULTS = 1000  # the most evaluations that are looked at in one folder
_VIEWS = fields_where(lambda field: field.decides in ('clips', 'scores'))
_SAME_NETWORK = (*fields_where(lambda field: field.decides == 'scores'), 'checkpoint_step')
_TOLD = fields_where(lambda field: field.told)
_NAMED = 3  # the most ids in a message


@dataclasses.dataclass(frozen=True)
class StoredResult:
    """An evaluation, as read from its two files.

    Attributes:
      path: the path of the JSON file.
      scores: the content of the JSON file: scores and protocol.
      classes: class names, in the order of the logits.
      predictions: the ids, labels and logits of all clips.
    """

    path: Path
    scores: dict[str, Any]
    classes: tuple[str, ...]
    predictions: Predictions

    @property
    def run(self) -> str:
        """The name of the work directory's folder, as one printable line."""
        return readable(self.path.resolve().parents[1].name)

    @property
    def probabilities(self) -> np.ndarray:
        """The probabilities of the classes, float32[n k], averaged over the views as the protocol says."""
        return metrics.average_views(self.predictions.logits, self.scores['average'])


def find(place: str | Path, split: str, like: StoredResult | None = None) -> StoredResult:
    """Finds the evaluation that a user means, and loads it.

    Args:
      place: a work directory, or the .json or .npz of an evaluation. In a work directory, the newest evaluation of the
        split is taken, and damaged files are named in warnings. A file is taken whatever its split.
      split: the name of the split. 'test' also means 'test1', 'test2'...
      like: another evaluation. Only evaluations with the same checkpoint and the same views are taken.

    Raises:
      UserError: no evaluation is found, or several with different views or datasets are found. Other errors are those
        of `load`.
    """
    place = Path(place).expanduser()
    if place.suffix in ('.json', '.npz') and not place.is_dir():
        return load(place.with_suffix('.json'))
    paths = sorted((place / 'eval').glob('*.json'))[:_MAX_RESULTS]
    names = _names(place, split)
    found = {path: scores for path, scores in _readable_scores(paths) if _is_of(scores, names)}
    if like:
        found = {path: scores for path, scores in found.items() if _same_network(scores, like.scores)}
    if not found:
        step = f' --checkpoint={like.scores.get("checkpoint_step")}, with the views of {like.path}' if like else ''
        raise UserError(
            f'{place}: has no evaluation of {split!r}; make it: python -m experiments.evaluate --workdir={place} '
            f'--split={split}{step}'
        )
    if len({_views(scores) for scores in found.values()}) > 1:
        lines = '\n  '.join(f'{path}: {_described(scores)}' for path, scores in found.items())
        raise UserError(f'{place}: has several evaluations of {split!r}; name one in place of the folder:\n  {lines}')
    newest = max(found, key=lambda path: (path.stat().st_mtime_ns, path.name))
    logging.info('%s: taking %s', place, newest.name)
    return load(newest)


def load(path: Path) -> StoredResult:
    """Reads an evaluation.

    Args:
      path: the JSON file, in `eval/` of its work directory.

    Raises:
      UserError: the files are not as `vidcls.run.results` writes them; the message names the file and the fault.
      OSError: a file is missing or can't be read.
    """
    path = path.absolute()
    scores = _read_scores(path)
    if scores.get('average') not in ('probabilities', 'logits') or not isinstance(scores.get('split'), str):
        raise UserError(f'{path}: is no result of experiments.evaluate: split or average is missing')
    labels_path = path.parents[1] / 'labels.txt'
    if not labels_path.exists():
        raise UserError(f'{labels_path} is missing: an evaluation is read from eval/ of its work directory')
    classes = read_labels(labels_path)
    arrays = path.with_suffix('.npz')
    predictions = Predictions(**plain_npz.load(arrays, [field.name for field in dataclasses.fields(Predictions)]))
    _check(arrays, predictions, len(classes))
    return StoredResult(path, scores, classes, predictions)


def on_the_same_clips(results: Sequence[StoredResult]) -> list[StoredResult]:
    """Checks that results are of the same clips, and returns them with their clips in the order of the first result.

    Split, classes, ids and true labels must agree. The stored frames may differ, such as in their size.

    Raises:
      UserError: the results are not of the same clips; the message says what differs.
    """
    first = results[0]
    return [first, *(_in_order(first, other) for other in results[1:])]


def differing(first: StoredResult, other: StoredResult, names: Sequence[str]) -> list[str]:
    """Returns a line for each value of the protocol that differs between two results, such as 'crops: 1 and 10'.

    A fusion has the values of all its runs, and agrees with a run that has one of these values.

    Args:
      names: the names of the values to compare.
    """
    lines = []
    for name in names:
        values = [list(map(str, values_of(result.scores, name))) for result in (first, other)]
        ours, theirs = map(set, values)
        if not (ours <= theirs or theirs <= ours):
            lines.append(f'{name}: {" and ".join(readable(" + ".join(each)) for each in values)}')
    return lines


def values_of(scores: Mapping[str, Any], name: str) -> list[Any]:
    """Returns the values that a protocol has under `name`.

    There is one value, except in a fusion whose runs have different values.
    """
    value = scores.get(name, 'rgb' if name == 'modality' else None)  # of earlier evaluations, all 'rgb'
    return value if isinstance(value, list) else [value]


def _read_scores(path: Path) -> dict[str, Any]:
    return read_json(path, _MAX_BYTES)


def _readable_scores(paths: Iterable[Path]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yields the paths and the content of the files that can be read. The other files are named in warnings."""
    for path in paths:
        try:
            yield path, _read_scores(path)
        except (UserError, OSError) as error:
            logging.warning('left out: %s', error)


def _names(folder: Path, split: str) -> set[str]:
    """Returns `split`, and the split's name in the run's configuration, where 'validation' may be 'val2'."""
    if split in splits.ROLES and (folder / 'config.json').exists():
        return {split, getattr(workdir.load(folder).config.data, f'{split}_split')} - {''}
    return {split}


def _is_of(scores: Mapping[str, Any], names: set[str]) -> bool:
    found = scores.get('split')
    return isinstance(found, str) and any(
        found == name or (not name[-1:].isdecimal() and found.startswith(name) and found[len(name) :].isdecimal())
        for name in names
    )


def _views(scores: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(repr(scores.get(name)) for name in _VIEWS)


def _same_network(scores: Mapping[str, Any], like: Mapping[str, Any]) -> bool:
    return all(scores.get(name) == like.get(name) for name in _SAME_NETWORK)


def _described(scores: Mapping[str, Any]) -> str:
    return ', '.join(f'{name} {readable(str(scores[name]))}' for name in _TOLD if name in scores)


def _check(path: Path, predictions: Predictions, num_classes: int) -> None:
    ids, labels, logits = predictions.ids, predictions.labels, predictions.logits
    kinds = (ids.dtype.kind, labels.dtype, logits.dtype) == ('U', np.int32, np.float32)
    if not kinds or ids.ndim != 1 or labels.shape != ids.shape or logits.ndim != 3 or len(logits) != len(ids):
        raise UserError(f'{path}: must have ids str[n], labels int32[n] and logits float32[n v k]')
    if not len(ids) or not logits.shape[1]:
        raise UserError(f'{path}: has no clips')
    if logits.shape[2] != num_classes:
        raise UserError(f'{path}: has logits of {logits.shape[2]} classes, and labels.txt has {num_classes}')
    if labels.min() < 0 or labels.max() >= num_classes:
        raise UserError(f'{path}: has labels that are none of the {num_classes} classes')
    if len(np.unique(ids)) < len(ids):
        raise UserError(f'{path}: has a clip twice')


def _in_order(first: StoredResult, other: StoredResult) -> StoredResult:
    """Returns `other` with its clips in the order of `first`; raises UserError if their clips differ."""
    where = f'{first.path} and {other.path} differ in'
    if first.scores['split'] != other.scores['split']:
        raise UserError(f'{where} their split: {first.scores["split"]!r} and {other.scores["split"]!r}')
    for number, names in enumerate(itertools.zip_longest(first.classes, other.classes)):
        if names[0] != names[1]:
            raise UserError(f'{where} their labels: number {number} is {names[0]!r} and {names[1]!r}')
    ours, theirs = first.predictions.ids, other.predictions.ids
    alone = [np.setdiff1d(ours, theirs), np.setdiff1d(theirs, ours)]
    if len(alone[0]) or len(alone[1]):
        counts = ' and '.join(f'{len(ids)} are in the {which} alone' for which, ids in zip(('first', 'second'), alone))
        some = ', '.join(map(repr, np.concatenate(alone)[:_NAMED].tolist()))
        raise UserError(f'{where} their clips: {counts}, such as {some}')
    order = np.argsort(theirs)[np.searchsorted(np.sort(theirs), ours)]
    predictions = Predictions(*(array[order] for array in vars(other.predictions).values()))
    wrong = np.flatnonzero(first.predictions.labels != predictions.labels)
    if len(wrong):
        ours_is, theirs_is = (first.classes[found.labels[wrong[0]]] for found in (first.predictions, predictions))
        raise UserError(
            f'{where} the true labels of {len(wrong)} clips: {str(ours[wrong[0]])!r} is {ours_is!r} and {theirs_is!r}'
        )
    return dataclasses.replace(other, predictions=predictions)
