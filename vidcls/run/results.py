"""The files that an evaluation leaves in `eval/` of a work directory.

`<name>.json` has the scores and the protocol, and `<name>.npz` has the logits. `vidcls.report.evaluation` makes the
page `<name>.html` from both.

A `.npz` has these arrays, for n clips in v views each:

    ids     str[n]            the clip's path in the source, without its ending
    labels  int32[n]          the clip's label: the number of its line in the work directory's labels.txt, from 0
    logits  float32[n v k]    view number v is view v // crops in time and view v % crops in space;
                              `vidcls.data.windows.view_windows` gives the order of the views in space

For instance, this prints the clips that are classified wrongly by the mean of their views' logits:

    saved = np.load(path)
    found = saved['logits'].mean(axis=1).argmax(axis=-1)
    print(saved['ids'][found != saved['labels']])
"""

import dataclasses
import itertools
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vidcls import config as config_lib
from vidcls import metrics
from vidcls.config import Config
from vidcls.run.protocol import fields_where
from vidcls.run.workdir import Run
from vidcls.text import whole_file

_NOT_DECIDING = fields_where(lambda field: field.decides == 'none')


@dataclasses.dataclass(frozen=True)
class Predictions:
    """The logits of n clips in v views each, as in the `.npz` of an evaluation.

    Attributes:
      ids: the clips' ids, str[n].
      labels: the clips' labels, int32[n].
      logits: float32[n v k].
    """

    ids: np.ndarray
    labels: np.ndarray
    logits: np.ndarray


def content(predictions: Predictions, classes: Sequence[str], protocol: dict[str, Any]) -> dict[str, Any]:
    """Returns the content of the JSON file: the scores, the protocol, and [right clips, all clips] of each class."""
    logits, labels, average = predictions.logits, predictions.labels, protocol['average']
    scores: dict[str, Any] = metrics.summarize(logits, labels, average)
    if not math.isfinite(scores['loss']):
        scores['loss'] = None  # JSON has neither NaN nor infinity
    by_class = metrics.hits_by_class(logits, labels, average)
    return scores | protocol | {'class_accuracy': {classes[label]: list(hits) for label, hits in by_class.items()}}


def free_path(run: Run, config: Config, protocol: dict[str, Any]) -> Path:
    """Returns the path `eval/<name>.json`, where the name describes the protocol.

    A number follows the name if a result of another protocol has that name already.
    """
    dataset = protocol['dataset'].split()[0]
    name = '{}-{split}-{dataset_digest}-step{checkpoint_step}-{clips}x{crops}'.format(dataset, **protocol)
    if run.config.optim.ema_decay and not protocol['ema']:
        name += '-noema'
    ours, theirs = config_lib.flatten(config), config_lib.flatten(run.config)
    for setting in config_lib.TEST_SETTINGS:
        in_name = setting not in (
            'test.clips',
            'test.crops',
            'test.batch_size',
        )  # the first two are in the name already; batch_size changes no score
        if in_name and ours[setting] != theirs[setting]:
            name += f'-{setting.split(".")[1]}={ours[setting]}'
    return free_named(run.folder, name, protocol)


def free_named(workdir: Path, name: str, protocol: dict[str, Any]) -> Path:
    """Returns a path like `free_path`, with a name that the caller chooses.

    Characters that are unusual in the names of files are replaced by '_'.
    """
    folder = workdir / 'eval'
    folder.mkdir(exist_ok=True)
    name = re.sub(r'[^\w.+=-]', '_', name)
    names = itertools.chain([name], (f'{name}-{number}' for number in itertools.count(2)))
    paths = (folder / f'{name}.json' for name in names)
    return next(path for path in paths if not path.exists() or _is_of(path, protocol))


def _is_of(path: Path, protocol: dict[str, Any]) -> bool:
    try:
        result = json.loads(path.read_text())
    except ValueError:  # a damaged result stays as it is
        return False
    return isinstance(result, dict) and all(
        result.get(key) == value for key, value in protocol.items() if key not in _NOT_DECIDING
    )


def save(path: Path, result: dict[str, Any], predictions: Predictions) -> None:
    """Writes the scores to `path` (.json) and the logits beside it (.npz), each file whole or not at all."""
    with whole_file.replacing(path.with_suffix('.npz')) as partial, open(partial, 'wb') as file:
        np.savez(file, **dataclasses.asdict(predictions))
    whole_file.write_text(path, json.dumps(result, indent=2) + '\n')
