"""What an evaluation leaves in `eval/` of a work directory: `<name>.json` with scores and protocol, `<name>.npz` with logits.

The arrays of a `.npz`, of n clips in v views:

    ids     str[n]            the clip's path in the source, without its ending
    labels  int32[n]          its true label, a line of the work directory's labels.txt, counted from 0
    logits  float32[n v k]    view number moment * crops + crop; crops in the order of `vidcls.data.windows.test_windows`

The clips that the mean over the views gets wrong, for instance:

    saved = np.load(path)
    found = saved['logits'].mean(axis=1).argmax(axis=-1)
    print(saved['ids'][found != saved['labels']])
"""

import dataclasses
import itertools
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from vidcls import config as config_lib
from vidcls.config import Config
from vidcls.run.workdir import Run

# Other values of these are the same evaluation: where the dataset lies, and by what name the step was asked for.
_SAME = ('data_dir', 'checkpoint')


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What the network said: logits float32[n v k] of v views of n clips; ids str[n]; labels int32[n]."""

    ids: np.ndarray
    labels: np.ndarray
    logits: np.ndarray


def free_path(run: Run, config: Config, protocol: dict[str, Any]) -> Path:
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


def save(path: Path, result: dict[str, Any], predictions: Predictions) -> None:
    """Writes both files, each whole or not at all."""
    partial = path.with_name(f'.{path.stem}.partial.npz')
    np.savez(partial, **dataclasses.asdict(predictions))
    os.replace(partial, path.with_suffix('.npz'))
    partial = path.with_name(f'.{path.name}.partial')
    partial.write_text(json.dumps(result, indent=2) + '\n', encoding='utf-8')
    os.replace(partial, path)
