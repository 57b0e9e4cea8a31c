"""Checkpoints of a work directory, through orbax: the latest, and the best by validation top-1.

Saved in two parts, so that evaluation restores the model alone: `model` (params, batch_stats, ema) and `optimizer`.
"""

import contextlib
import math
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint import checkpoint_managers

from vidcls import shortage
from vidcls.errors import UserError

BEST_METRIC = 'top1'


class Checkpoints:
    """Saves in the background; a checkpoint that was interrupted is never seen as one.

    Args:
      folder: `checkpoints/` of a work directory.
      keep_best: whether to keep the best by validation top-1 beside the latest.
    """

    def __init__(self, folder: Path, keep_best: bool = True):
        latest = checkpoint_managers.LatestN(1)
        best = checkpoint_managers.BestN(get_metric_fn=_top1, n=1)
        policy = checkpoint_managers.AnyPreservationPolicy([latest, best] if keep_best else [latest])
        self._folder = Path(folder).absolute()
        self._manager = ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                best_fn=_top1 if keep_best else None, best_mode='max', preservation_policy=policy
            ),
            item_names=('model', 'optimizer'),
        )

    def save(self, step: int, model: Any, opt_state: Any, metrics: dict[str, float]) -> None:
        """Starts saving arrays of numpy; `metrics` holds `top1` where the best is kept.

        Raises:
          shortage.DiskFull: they don't fit. A disk that fills up meanwhile is an error of the next `save` or of `close`.
        """
        shortage.check_disk(self._folder, (model, opt_state))
        args = {'model': ocp.args.StandardSave(model), 'optimizer': ocp.args.StandardSave(opt_state)}
        self._manager.save(step, args=ocp.args.Composite(**args), metrics=metrics)

    def latest(self) -> int | None:
        return self._manager.latest_step()

    def restore(self, step: int, model: Any, opt_state: Any) -> tuple[Any, Any]:
        """Both parts, in the structure of the given ones.

        Raises:
          UserError: a shape differs.
        """
        args = {
            'model': ocp.args.StandardRestore(model),
            'optimizer': ocp.args.StandardRestore(opt_state),
        }
        restored = self._manager.restore(step, args=ocp.args.Composite(**args))
        return restored['model'], restored['optimizer']

    def close(self) -> None:
        """Waits for what is being saved."""
        with contextlib.closing(self._manager):
            self._manager.wait_until_finished()


def _top1(metrics: dict[str, float]) -> float:
    return metrics.get(BEST_METRIC, -math.inf)


def steps(folder: Path) -> list[int]:
    """The steps saved in `checkpoints/` of a work directory, ascending."""
    return sorted(ocp.utils.checkpoint_steps(Path(folder).absolute())) if Path(folder).is_dir() else []


def restore_model(folder: Path, which: str, ema: bool = True) -> tuple[int, Any]:
    """The model's variables alone, for evaluation: their moving averages where the run kept them.

    Args:
      folder: `checkpoints/` of a work directory.
      which: 'best', 'latest' or a step. Where no validation was made, the best is the latest.
      ema: False for the parameters themselves, although the run kept averages.

    Returns:
      (step, variables), arrays of numpy.

    Raises:
      UserError: there is no such checkpoint; names those there are.
    """
    step, parts = restore_parts(folder, which, ('model',))
    saved = parts['model']
    averages = saved.pop('ema', None)
    return step, averages if ema and averages else saved


def restore_parts(
    folder: Path, which: str, parts: tuple[str, ...] = ('model', 'optimizer')
) -> tuple[int, dict[str, Any]]:
    """What a checkpoint holds, as it was saved but for tuples, which are dictionaries and lists: (step, part -> arrays).

    Args:
      which: see `restore_model`.

    Raises:
      UserError: there is no such checkpoint; names those there are.
    """
    saved = steps(folder)
    if not saved:
        raise UserError(f'{folder}: no checkpoint yet; train first')
    options = ocp.CheckpointManagerOptions(best_fn=_top1, best_mode='max', create=False)
    with ocp.CheckpointManager(Path(folder).absolute(), options=options, item_names=parts) as manager:
        step = _find(manager, which, saved, folder)
        logging.info('restoring step %d (%s) of %s', step, which, folder)
        restored = manager.restore(
            step, args=ocp.args.Composite(**{part: ocp.args.StandardRestore() for part in parts})
        )
    return step, {part: restored[part] for part in parts}


def _find(manager: ocp.CheckpointManager, which: str, steps: list[int], folder: Path) -> int:
    if which == 'latest':
        return steps[-1]
    if which == 'best':
        best = manager.best_step()
        return steps[-1] if best is None else best
    if which.isdigit() and int(which) in steps:
        return int(which)
    raise UserError(f'{folder}: no checkpoint {which!r}; there are best, latest and {", ".join(map(str, steps))}')
