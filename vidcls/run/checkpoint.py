"""The checkpoints of a work directory, which orbax stores: the latest one, and the best one by validation top-1.

A checkpoint has two parts, `model` (params, batch_stats, ema) and `optimizer`, so that evaluation can restore the model
alone. A checkpoint is saved before it is validated. The scores of its validation are added afterwards, as orbax's
`metrics`.
"""

import contextlib
import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint import checkpoint_managers

from vidcls.distributed import processes
from vidcls.errors import UserError
from vidcls.run import resource_errors
from vidcls.text import whole_file
from vidcls.text.bounded_file import read_json

BEST_METRIC = 'top1'
_METADATA_BYTES = 16 << 20  # limit on orbax's list of arrays, which has some 300 bytes for each array
# Arrays may have _UNPACKED bytes in memory for each byte on disk, plus _UNPACKED_BYTES. Compression takes a tenth off
# trained numbers, and far more off zeros.
_UNPACKED, _UNPACKED_BYTES = 16, 64 << 20
_PLAIN = re.compile(r'[A-Za-z0-9_-]+')


class Checkpoints:
    """Saves and restores checkpoints. Saving runs in the background; if it is cut off, it leaves no checkpoint.

    Args:
      folder: `checkpoints/` of a work directory.
      keep_best: whether to keep the best checkpoint by validation top-1 beside the latest.
    """

    def __init__(self, folder: Path, keep_best: bool = True):
        latest = checkpoint_managers.LatestN(1)
        best = checkpoint_managers.BestN(get_metric_fn=_top1, n=1, keep_checkpoints_without_metrics=False)
        policy = checkpoint_managers.AnyPreservationPolicy([latest, best] if keep_best else [latest])
        self._folder = Path(folder).absolute()
        self._manager = ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(preservation_policy=policy),
            item_names=('model', 'optimizer'),
        )

    def save(self, step: int, model: Any, opt_state: Any) -> None:
        """Starts to save the model and the state of the optimizer, both as numpy arrays.

        Raises:
          resource_errors.DiskFull: the arrays don't fit on the disk. If the disk fills up while they are written, the
            next call of `save` or `close` raises an error.
        """
        resource_errors.check_disk(self._folder, (model, opt_state))
        args = {'model': ocp.args.StandardSave(model), 'optimizer': ocp.args.StandardSave(opt_state)}
        self._manager.save(step, args=ocp.args.Composite(**args))

    def add_scores(self, step: int, scores: dict[str, float]) -> None:
        """Adds the scores of a validation to the checkpoint of `step`, all or none of them.

        The checkpoint with the highest `top1` is the best.
        """
        self._manager.wait_until_finished()
        with processes.together():
            if processes.is_first():
                path = self._folder / str(step) / 'metrics' / 'metrics'  # where orbax looks for them
                path.parent.mkdir(exist_ok=True)
                whole_file.write_text(path, json.dumps(scores))
        self._manager.reload()

    def has_scores(self, step: int) -> bool:
        """Whether the checkpoint of `step` has the scores of its validation."""
        return self._manager.metrics(step) is not None

    def latest(self) -> int | None:
        """Returns the step of the latest checkpoint, or None if there is none."""
        return self._manager.latest_step()

    def restore(self, step: int, model: Any, opt_state: Any) -> tuple[Any, Any]:
        """Returns the saved model and state of the optimizer, in the structure of `model` and `opt_state`.

        Raises:
          UserError: a saved array has another shape than the given array, or the checkpoint is broken.
        """
        args = {
            'model': ocp.args.StandardRestore(model),
            'optimizer': ocp.args.StandardRestore(opt_state),
        }
        with _explained(self._folder / str(step)):
            _check_files(self._folder)
            for part in args:
                _check_metadata(self._folder / str(step) / part)
            restored = self._manager.restore(step, args=ocp.args.Composite(**args))
        return restored['model'], restored['optimizer']

    def close(self) -> None:
        """Waits until the last save has ended, and closes orbax's manager."""
        with contextlib.closing(self._manager):
            self._manager.wait_until_finished()


def _top1(metrics: dict[str, float]) -> float:
    return metrics.get(BEST_METRIC, -math.inf)


def steps(folder: Path) -> list[int]:
    """Returns the steps that have a checkpoint in `folder`, `checkpoints/` of a work directory, in ascending order."""
    return sorted(ocp.utils.checkpoint_steps(Path(folder).absolute())) if Path(folder).is_dir() else []


def restore_model(folder: Path, which: str, ema: bool = True) -> tuple[int, Any]:
    """Restores the variables of the model from a checkpoint, for evaluation.

    Args:
      folder: `checkpoints/` of a work directory.
      which: 'best', 'latest' or a step. If no checkpoint was validated, the best is the latest.
      ema: whether to return the moving averages of the variables, if the run kept them.

    Returns:
      (step, variables). The variables are numpy arrays.

    Raises:
      UserError: there is no such checkpoint, and the message names the checkpoints that exist; or the checkpoint is
        broken, contains links, or declares larger arrays than its files can contain.
    """
    step, parts = restore_parts(folder, which, ('model',))
    saved = parts['model']
    averages = saved.pop('ema', None)
    return step, averages if ema and averages else saved


def restore_parts(
    folder: Path, which: str, parts: tuple[str, ...] = ('model', 'optimizer')
) -> tuple[int, dict[str, Any]]:
    """Restores parts of a checkpoint without their structure: tuples come back as dictionaries and lists.

    Args:
      folder, which: as in `restore_model`.
      parts: the names of the parts: 'model', 'optimizer' or both.

    Returns:
      (step, {name of the part: its arrays}).

    Raises:
      UserError: as in `restore_model`.
    """
    saved = steps(folder)
    if not saved:
        raise UserError(f'{folder}: no checkpoint yet; train first')
    options = ocp.CheckpointManagerOptions(best_fn=_top1, best_mode='max', create=False)
    absolute = Path(folder).absolute()
    with _explained(folder):
        _check_files(absolute)
        with ocp.CheckpointManager(absolute, options=options, item_names=parts) as manager:
            step = _find(manager, which, saved, folder)
            logging.info('restoring step %d (%s) of %s', step, which, folder)
            for part in parts:
                _check_metadata(absolute / str(step) / part)
                _check_arrays(absolute / str(step) / part)
            restored = manager.restore(
                step, args=ocp.args.Composite(**{part: ocp.args.StandardRestore() for part in parts})
            )
    return step, {part: restored[part] for part in parts}


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """A context that turns any exception of orbax about a broken checkpoint into a UserError of one line."""
    try:
        yield
    except (UserError, PermissionError):
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f'{path}: this checkpoint cannot be restored ({reason:.300}); take another step that is there, or train again'
        ) from error


def _check_files(folder: Path) -> None:
    """Raises UserError if `checkpoints/` contains links, devices or pipes; the folder itself may be a link."""
    for parent, folders, files in os.walk(folder):
        for name in folders + files:
            path = Path(parent, name)
            try:
                mode = path.lstat().st_mode
            except FileNotFoundError:  # a run that is being trained deletes old checkpoints
                continue
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                raise UserError(f'{path}: must be a file or a folder, and is a link, a device or a pipe')


def _check_metadata(part: Path) -> None:
    """Raises UserError if the name of an array could lead orbax out of the folder. Orbax makes paths of these names."""
    path = part / '_METADATA'
    metadata = read_json(path, _METADATA_BYTES)
    if metadata.get('use_ocdbt') is not True:
        raise UserError(f'{path}: is not of the form that training saves; train again')
    for entry in metadata.get('tree_metadata', {}).values():
        for key in entry['key_metadata']:
            if not _PLAIN.fullmatch(str(key['key'])):
                raise UserError(f'{path}: {key["key"]!r:.100} is no name of a parameter')


def _check_arrays(part: Path) -> None:
    """Raises UserError if the declared arrays are far larger than the files can contain. Allocates nothing for them."""
    on_disk = sum(file.stat().st_size for file in part.rglob('*') if file.is_file())
    limit = _UNPACKED * on_disk + _UNPACKED_BYTES
    arrays = jax.tree.leaves(ocp.StandardCheckpointHandler().metadata(part).tree)
    shapes = [(array.shape, array.dtype) for array in arrays]
    chunks = [(array.storage.chunk_shape, array.dtype) for array in arrays]
    for what, found in (('arrays', shapes), ('chunks of arrays', chunks)):
        total = sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in found)
        if total > limit:
            raise UserError(f'{part}: states {what} of {total:,} bytes in files of {on_disk:,}; train again')


def digest(folder: Path, step: int) -> str:
    """The SHA-256 of a checkpoint's model: the hash of the lines that `sha256sum` writes for its files, sorted by name.

    In the shell: (cd checkpoints/STEP/model && find * -type f | LC_ALL=C sort | xargs sha256sum | sha256sum).
    """
    part = Path(folder) / str(step) / 'model'
    lines = []
    for path in sorted((path for path in part.rglob('*') if path.is_file()), key=lambda path: path.as_posix().encode()):
        with path.open('rb') as file:
            lines.append(f'{hashlib.file_digest(file, "sha256").hexdigest()}  {path.relative_to(part).as_posix()}\n')
    return hashlib.sha256(''.join(lines).encode()).hexdigest()


def _find(manager: ocp.CheckpointManager, which: str, steps: list[int], folder: Path) -> int:
    if which == 'latest':
        return steps[-1]
    if which == 'best':
        best = manager.best_step()
        return steps[-1] if best is None else best
    if which.isdecimal() and int(which) in steps:
        return int(which)
    raise UserError(f'{folder}: no checkpoint {which!r}; there are best, latest and {", ".join(map(str, steps))}')
