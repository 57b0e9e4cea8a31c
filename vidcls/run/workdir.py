"""A work directory: everything that later steps need to know of a run, and nothing else is needed.

config.json      the resolved configuration
labels.txt       class names, one a line, in the order of the logits
frames.json      how the dataset's frames were stored, so that a new video is prepared alike
dataset.json     which clips it is trained and validated on (`vidcls.run.trained_on`)
weights.json     the file or run that it started from, if any: sha256 or step, what of it was loaded
history.jsonl    settings that changed when the run was continued, if any did: a JSON object a line
lock             while it is trained in: by which process (vidcls.run.lock)
checkpoints/     orbax: the latest and the best
metrics.jsonl    a JSON object a line: step, and what was measured
tensorboard/     the same values
profile/         a trace of some steps, where one was asked for
eval/            one JSON for each evaluation, and its scores
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from absl import logging

from vidcls import config as config_lib
from vidcls.config import Config
from vidcls.data import description
from vidcls.errors import UserError
from vidcls.run import checkpoint, resuming
from vidcls.text.bounded_file import read_json, read_labels

_FRAMES_BYTES = 4096


@dataclasses.dataclass(frozen=True)
class Frames:
    """How frames are stored: the limit on their short side in pixels, and their rate if they were resampled."""

    short_side: int
    fps: float | None


@dataclasses.dataclass(frozen=True)
class Run:
    """What a work directory says of its run."""

    folder: Path
    config: Config
    labels: tuple[str, ...]
    frames: Frames

    @property
    def checkpoints(self) -> Path:
        return self.folder / 'checkpoints'


def check(
    folder: str | Path,
    config: Config,
    labels: tuple[str, ...],
    frames: Frames,
    terms: resuming.Terms = resuming.Terms(),  # noqa: B008, never changes
) -> Run:
    """What the work directory of this run will be; only looks.

    A run that was stopped before its first checkpoint is begun anew, with any configuration. One that has made more steps
    than are asked for keeps its number of epochs.

    Raises:
      UserError: it holds a run with another configuration or other labels; shows the difference.
    """
    folder = Path(folder).expanduser()
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


def create(run: Run) -> None:
    """Makes the work directory that `check` returned, or notes what changes in the one that is there."""
    if saved := checkpoint.steps(run.checkpoints):
        _note_changes(run, saved[-1])
    else:
        (run.folder / 'history.jsonl').unlink(missing_ok=True)
        run.folder.mkdir(parents=True, exist_ok=True)
        (run.folder / 'labels.txt').write_text(''.join(f'{label}\n' for label in run.labels), encoding='utf-8')
        (run.folder / 'frames.json').write_text(json.dumps(dataclasses.asdict(run.frames)) + '\n')
    config_lib.save(run.config, run.folder / 'config.json')  # last: it marks a whole work directory


def _note_changes(run: Run, step: int) -> None:
    changes = resuming.changes(run.config, load(run.folder).config)
    if changes:
        lines = '; '.join(resuming.line(name, *values) for name, values in changes.items())
        logging.info('%s goes on from step %d with other settings: %s', run.folder, step, lines)
        with open(run.folder / 'history.jsonl', 'a', encoding='utf-8') as file:
            file.write(json.dumps({'step': step, 'changes': changes}) + '\n')


def save_origin(run: Run, origin: dict[str, Any] | None) -> None:
    """Keeps where the first state came from; None: from random numbers, whatever an earlier attempt left."""
    path = run.folder / 'weights.json'
    if origin is None:
        path.unlink(missing_ok=True)
    else:
        path.write_text(json.dumps(origin, indent=2) + '\n', encoding='utf-8')


def load(folder: str | Path) -> Run:
    """Opens an existing work directory.

    Raises:
      UserError: it holds no run, or a file that can't be one of training's; names the file and what is wrong.
      OSError: a file that is missing or can't be read.
    """
    folder = Path(folder).expanduser()
    if not (folder / 'config.json').exists():
        raise UserError(f'{folder}: no run here (config.json is missing); --workdir names a folder of training')
    return Run(
        folder,
        config_lib.load(folder / 'config.json'),
        read_labels(folder / 'labels.txt'),
        _load_frames(folder / 'frames.json'),
    )


def _load_frames(path: Path) -> Frames:
    values, names = read_json(path, _FRAMES_BYTES), [field.name for field in dataclasses.fields(Frames)]
    if sorted(values) != sorted(names):
        raise UserError(f'{path}: must have {" and ".join(names)} and nothing else')
    description.check_storage(path, **values)
    return Frames(**values)


def check_labels(run: Run, labels: tuple[str, ...]) -> None:
    """Refuses a dataset whose labels are not those of the run.

    Raises:
      UserError: names what differs.
    """
    if labels != run.labels:
        only = sorted(set(run.labels) ^ set(labels)) or ['the same names in another order']
        raise UserError(
            f"the dataset's {len(labels)} labels are not the {len(run.labels)} of {run.folder}; "
            f'they differ in: {", ".join(only[:5])}'
        )
