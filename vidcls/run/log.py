"""Writes the log of a run to metrics.jsonl, to TensorBoard and to the terminal, with the same names in each."""

import contextlib
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import tqdm
from absl import logging

from vidcls.distributed.devices import unreplicate
from vidcls.errors import UserError
from vidcls.run.tensorboard import TensorBoard
from vidcls.text import whole_file

REMEDY = 'the last checkpoint is kept. Lower --config.optim.learning_rate, or set --config.optim.clip_norm'


class Diverged(UserError):
    """The loss or a parameter is not finite. The latest checkpoint is sound, and stays."""


class RunLog:
    """Writes rows of metrics.

    Args:
      folder: the work directory.
      step: the step at which the run starts or resumes. Rows of later steps, left by a run that was cut off, are
        deleted.
      num_steps: the number of the last step, for the progress bar.
      validate: whether `step` is validated again on resume. If so, the row of its first validation, which was cut off,
        is deleted too.
    """

    def __init__(self, folder: Path, step: int, num_steps: int, validate: bool = False):
        path = folder / 'metrics.jsonl'
        kept = [line for line in _lines(path) if _is_kept(line, step, validate)]
        whole_file.write_text(path, ''.join(kept))  # a run that is killed here keeps its old rows
        self._file = open(path, 'a')  # noqa: SIM115, closed by close()
        self._tensorboard = TensorBoard(folder / 'tensorboard', step)
        # A progress bar on a terminal, plain lines elsewhere.
        self._bar = tqdm.tqdm(total=num_steps, initial=step, unit='step', disable=not sys.stderr.isatty())
        self._first_step_at, self._steps_made, self._validated = 0.0, 0, ''

    def write(self, step: int, values: dict[str, float]) -> None:
        """Writes one row of values, with names such as 'train/loss' and 'validation/top1'."""
        self._file.write(json.dumps({'step': step, **values}) + '\n')
        self._file.flush()
        self._tensorboard.write(step, values)
        text = ' '.join(f'{name.split("/")[-1]} {value:.4g}' for name, value in values.items())
        group = next(iter(values)).split('/')[0]
        if self._bar.disable:
            logging.info('step %d/%d %s: %s%s', step, self._bar.total, group, text, self._left(step))
        elif group == 'train':
            self._bar.set_postfix_str(text + self._validated)
        else:
            self._validated = f' validation_top1 {values["validation/top1"]:.4g}'
            self._bar.write(f'step {step} {group}: {text}', file=sys.stderr)

    def advance(self) -> None:
        """Counts a step that the device has begun. Compilation is over when the first step is counted."""
        self._bar.update()
        self._first_step_at = self._first_step_at or time.monotonic()
        self._steps_made += 1

    def close(self) -> None:
        # Each is closed even if closing another fails: a file that can't be written raises an error when it is closed.
        with contextlib.closing(self._bar), contextlib.closing(self._file), contextlib.closing(self._tensorboard):
            pass

    def _left(self, step: int) -> str:
        """Returns the time left, such as ', 12 min left'; '' before the second step of this process.

        The estimate is made from the steps and validations of this process.
        """
        if self._steps_made < 2 or step >= self._bar.total:
            return ''
        seconds = (time.monotonic() - self._first_step_at) / (self._steps_made - 1) * (self._bar.total - step)
        return f', {in_words(seconds)} left'


def in_words(seconds: float) -> str:
    """Returns a duration in one or two units: '40 s', '12 min', '3 h 20 min', '2 d 5 h'."""
    if seconds < 100:
        return f'{seconds:.0f} s'
    minutes = round(seconds / 60)
    if minutes < 100:
        return f'{minutes} min'
    if minutes < 48 * 60:
        return f'{minutes // 60} h {minutes % 60} min'
    return f'{minutes // 1440} d {minutes % 1440 // 60} h'


class SilentLog:
    """A log that writes nothing. Every process except the first has one."""

    def write(self, step: int, values: dict[str, float]) -> None:
        pass

    def advance(self) -> None:
        pass

    def close(self) -> None:
        pass


def _lines(path: Path) -> list[str]:
    """Returns the lines of a file, without a last line that was cut off."""
    if not path.exists():
        return []
    return [line for line in path.read_text().splitlines(keepends=True) if line.endswith('\n')]


def _is_kept(line: str, step: int, validate: bool) -> bool:
    try:
        row = json.loads(line)
    except ValueError:  # a line that a loss of power cut off
        return False
    again = validate and row['step'] == step and any(name.startswith('validation/') for name in row)
    return row['step'] <= step and not again


@dataclasses.dataclass
class Meter:
    """Collects the measurements of steps. They stay on the device until `flush`: logging never waits for a step."""

    log: RunLog | SilentLog
    batch_size: int

    def __post_init__(self) -> None:
        self._pending: list[tuple[int, Any]] = []
        self.restart()

    def restart(self) -> None:
        """Restarts the clock, so that time already spent, for example on a validation or a save, counts in no row."""
        self._started, self._waited, self._steps = time.perf_counter(), 0.0, 0

    def waiting(self) -> '_Timer':
        """Returns a context. The time spent in it counts as time that training waits for data."""
        return _Timer(self)

    def add(self, step: int, measured: Any) -> None:
        self._pending.append((step, measured))
        self._steps += 1

    def flush(self, keep: int = 0) -> None:
        """Writes a row: the mean over all pending steps except the newest `keep` steps, which may still be running.

        Raises:
          Diverged: a loss is not finite.
        """
        ready, self._pending = self._pending[: len(self._pending) - keep], self._pending[len(self._pending) - keep :]
        if not ready:
            return
        rows = [(step, unreplicate(measured)) for step, measured in ready]
        bad = [step for step, row in rows if not np.isfinite(row['loss'])]
        if bad:
            raise Diverged(f'the loss is not finite at step{"s" * (len(bad) > 1)} {", ".join(map(str, bad))}; {REMEDY}')
        elapsed = time.perf_counter() - self._started
        values = {name: float(np.mean([row[name] for _, row in rows])) for name in rows[0][1]}
        values |= {'clips_per_second': self._steps * self.batch_size / elapsed, 'data_wait': self._waited / elapsed}
        self.log.write(rows[-1][0], {f'train/{name}': value for name, value in values.items()})
        self.restart()


@dataclasses.dataclass
class _Timer:
    """A context that adds the time spent in it to the time that `meter` has waited for data."""

    meter: Meter

    def __enter__(self):
        self._start = time.perf_counter()

    def __exit__(self, *_):
        self.meter._waited += time.perf_counter() - self._start
