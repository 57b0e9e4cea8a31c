"""A work directory: all that evaluation, prediction and a resumed training need to know of a run.

config.json      the resolved configuration
labels.txt       class names, one a line, in the order of the logits
frames.json      how the dataset stores frames, so that prediction prepares a new video in the same way
dataset.json     the clips that the run is trained and validated on (`vidcls.run.trained_on`)
weights.json     the file or run that the first state came from, if any; its sha256 or step; and what was loaded
history.jsonl    the settings that changed on resume, if any did; a JSON object a line
lock             the process that trains; only there during training (`vidcls.run.lock`)
checkpoints/     the latest checkpoint and the best one (`vidcls.run.checkpoint`)
metrics.jsonl    steps and their measurements; a JSON object a line (`vidcls.run.log`)
tensorboard/     the same values for TensorBoard
profile/         a trace of some steps, if the configuration asks for one (`vidcls.run.profile`)
eval/            the results of evaluations (`vidcls.run.results`)
training.html    a page of the curves, where the extra `report` is installed (`vidcls.report.training`)
"""

import dataclasses
import json
import os
import stat
from pathlib import Path
from typing import Any

from absl import logging

from vidcls import config as config_lib
from vidcls.config import Config
from vidcls.data import frame_storage
from vidcls.data.frame_storage import FrameStorage
from vidcls.errors import UserError
from vidcls.run import checkpoint, resuming
from vidcls.runtimes import description
from vidcls.text import whole_file
from vidcls.text.bounded_file import read_json, read_labels

_FRAMES_BYTES = 4096
# All that a run writes, except `checkpoints`, which may be a link to a larger disk.
_WRITTEN = (
    'config.json', 'labels.txt', 'frames.json', 'dataset.json', 'weights.json', 'history.jsonl', 'lock', 'metrics.jsonl',
    'tensorboard', 'profile', 'eval', 'training.html',
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Run:
    """A run, as its work directory describes it.

    Attributes:
      folder: the work directory.
      config: the configuration.
      labels: class names, in the order of the logits.
      frames: how the dataset stores frames.
    """

    folder: Path
    config: Config
    labels: tuple[str, ...]
    frames: FrameStorage

    @property
    def checkpoints(self) -> Path:
        return self.folder / 'checkpoints'


def check(
    folder: str | Path,
    config: Config,
    labels: tuple[str, ...],
    frames: FrameStorage,
    terms: resuming.Terms = resuming.Terms(),  # noqa: B008, never changes
) -> Run:
    """Checks that a run can start or resume in a folder, and returns the run. Nothing is written.

    A run that was stopped before its first checkpoint may start again with any configuration. A run that has already
    made the steps that the configuration asks for keeps its own number of epochs.

    Raises:
      UserError: the folder has a run with another configuration, labels or frames; the message shows the difference.
    """
    folder = Path(folder).expanduser()
    check_not_exported(folder)
    if (folder / 'config.json').exists() and checkpoint.steps(folder / 'checkpoints'):
        run = load(folder)
        if terms.num_steps <= checkpoint.steps(run.checkpoints)[-1]:
            config = dataclasses.replace(config, epochs=run.config.epochs)
        different = resuming.refused(config, run.config, terms)
        if different:
            raise UserError(
                f'{folder} holds a run with another configuration, and these settings change what it learns:\n  '
                + '\n  '.join(different)
                + f'\nUse the settings it has, or another --workdir, which --config.init.run={folder} starts from this run'
            )
        check_labels(run, labels)
        if frames != run.frames:
            raise UserError(f'{folder} was trained on frames stored as {run.frames}, the dataset has {frames}')
    return Run(folder, config, labels, frames)


def check_not_exported(folder: Path) -> None:
    """Raises UserError if the folder holds an exported file (`vidcls.export`): a run there would not fit the file."""
    if description.is_exported(folder):
        raise UserError(f'{folder}: holds an exported file; name another --workdir')


def check_no_links(folder: Path) -> None:
    """Checks that a work directory, which may come from elsewhere, doesn't make a run write to another place.

    Raises:
      UserError: a file or folder that a run writes is a link, a device or a pipe; the message names it.
    """
    for name in (*_WRITTEN, *(f'.partial-{name}' for name in _WRITTEN)):
        path = folder / name
        if os.path.lexists(path) and not stat.S_ISREG(mode := path.lstat().st_mode) and not stat.S_ISDIR(mode):
            raise UserError(f'{path}: is a link, a device or a pipe, and a run would write to it; take it away')


def create(run: Run) -> None:
    """Makes the work directory of a run that `check` returned. If the run resumes, records which settings changed."""
    if saved := checkpoint.steps(run.checkpoints):
        _note_changes(run, saved[-1])
    else:
        (run.folder / 'history.jsonl').unlink(missing_ok=True)
        run.folder.mkdir(parents=True, exist_ok=True)
        (run.folder / 'labels.txt').write_text(''.join(f'{label}\n' for label in run.labels), encoding='utf-8')
        (run.folder / 'frames.json').write_text(json.dumps(frame_storage.described(run.frames)) + '\n')
    config_lib.save(run.config, run.folder / 'config.json')  # last: the work directory is whole once this file exists


def _note_changes(run: Run, step: int) -> None:
    changes = resuming.changes(run.config, load(run.folder).config)
    if changes:
        lines = '; '.join(resuming.line(name, *values) for name, values in changes.items())
        logging.info('%s goes on from step %d with other settings: %s', run.folder, step, lines)
        with open(run.folder / 'history.jsonl', 'a', encoding='utf-8') as file:
            file.write(json.dumps({'step': step, 'changes': changes}) + '\n')


def save_origin(run: Run, origin: dict[str, Any] | None) -> None:
    """Writes weights.json.

    `origin` is None if the first state is random; then the weights.json of an earlier attempt is removed.
    """
    path = run.folder / 'weights.json'
    if origin is None:
        path.unlink(missing_ok=True)
    else:
        whole_file.write_text(path, json.dumps(origin, indent=2) + '\n')


def load(folder: str | Path) -> Run:
    """Opens an existing work directory.

    Raises:
      UserError: the folder has no run, or a file is not as training writes it; the message names the file and the
        fault.
      OSError: a file is missing or can't be read.
    """
    folder = Path(folder).expanduser()
    if not (folder / 'config.json').exists():
        raise UserError(f'{folder}: no run here (config.json is missing); --workdir names a folder of training')
    config, frames = config_lib.load(folder / 'config.json'), _load_frames(folder / 'frames.json')
    if (config.sampling.modality == 'flow') != (frames.flow is not None):
        raise UserError(
            f'{folder}: sampling.modality of config.json is {config.sampling.modality}, and frames.json '
            f'{"tells of flow" if frames.flow else "does not tell how flow is computed"}; train again'
        )
    return Run(folder, config, read_labels(folder / 'labels.txt'), frames)


def _load_frames(path: Path) -> FrameStorage:
    values, names = read_json(path, _FRAMES_BYTES), {'short_side', 'fps'}
    if set(values) not in (names, names | {'flow'}):
        raise UserError(f'{path}: must have short_side and fps and nothing else, but flow in a run of flow')
    return frame_storage.checked(path, **values)


def check_labels(run: Run, labels: tuple[str, ...]) -> None:
    """Checks that a dataset has the same labels as the run.

    Raises:
      UserError: the labels differ; the message names some labels that only one of the two has.
    """
    if labels != run.labels:
        only = sorted(set(run.labels) ^ set(labels)) or ['the same names in another order']
        raise UserError(
            f"the dataset's {len(labels)} labels are not the {len(run.labels)} of {run.folder}; "
            f'they differ in: {", ".join(only[:5])}'
        )
