"""The files of an evaluation in `eval/` of a work directory: `<name>.json`, scores and protocol; `<name>.npz`, logits.

A page beside them, `<name>.html`, is made of both (`vidcls.report.evaluation`).

The arrays of a `.npz`, of n clips in v views:

    ids     str[n]            the clip's path in the source, without its ending
    labels  int32[n]          the clip's label: the number of a line of the work directory's labels.txt, counted from 0
    logits  float32[n v k]    of view number moment * crops + crop; crops in the order of `vidcls.data.windows.view_windows`

For instance, the clips that are classified wrongly by the mean of their views' logits:

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
from vidcls.run.workdir import Run
from vidcls.text import whole_file

# They may differ between two results of the same evaluation: the dataset's folder, and 'best', 'latest' or the step. The
# modality is the run's, and earlier results do not name it.
_SAME = ('data_dir', 'checkpoint', 'modality')


@dataclasses.dataclass(frozen=True)
class Predictions:
    """The logits of v views of n clips.

    Attributes:
      ids: str[n].
      labels: int32[n].
      logits: float32[n v k].
    """

    ids: np.ndarray
    labels: np.ndarray
    logits: np.ndarray


def content(predictions: Predictions, classes: Sequence[str], protocol: dict[str, Any]) -> dict[str, Any]:
    """What the JSON file has: scores, protocol, and of each class the number of its clips that are right and of its clips."""
    logits, labels, average = predictions.logits, predictions.labels, protocol['average']
    scores: dict[str, Any] = metrics.summarize(logits, labels, average)
    if not math.isfinite(scores['loss']):
        scores['loss'] = None  # JSON has neither NaN nor infinity
    by_class = metrics.hits_by_class(logits, labels, average)
    return scores | protocol | {'class_accuracy': {classes[label]: list(hits) for label, hits in by_class.items()}}


def free_path(run: Run, config: Config, protocol: dict[str, Any]) -> Path:
    """`eval/<name>.json`, with a number behind the name if a result of another protocol has that name already."""
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
        )  # in the name as views; changes no score
        if in_name and ours[setting] != theirs[setting]:
            name += f'-{setting.split(".")[1]}={ours[setting]}'
    return free_named(run.folder, name, protocol)


def free_named(workdir: Path, name: str, protocol: dict[str, Any]) -> Path:
    """As `free_path`, with a name of the caller's choice, of which other characters than those of file names are replaced."""
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
        result.get(key) == value for key, value in protocol.items() if key not in _SAME
    )


def save(path: Path, result: dict[str, Any], predictions: Predictions) -> None:
    """Writes the scores to `path` (.json) and the logits beside it (.npz), each whole or not at all."""
    with whole_file.replacing(path.with_suffix('.npz')) as partial, open(partial, 'wb') as file:
        np.savez(file, **dataclasses.asdict(predictions))
    whole_file.write_text(path, json.dumps(result, indent=2) + '\n')
