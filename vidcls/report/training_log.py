"""Reads what a run left of its training: the curves, the time of each step, resumptions, and settings that changed.

metrics.jsonl has the measurements. TensorBoard's files have the moments at which their events were written, and the
step at which each process of the training began. Running time and resumptions are taken from TensorBoard's files. If
these files are gone, running time is computed from the clips a second in metrics.jsonl, and then has no validations
and saves in it.

Running time never includes the pauses between processes, or work that was lost with a process and done again.

TensorBoard's files are TFRecords: for each event its length, the CRC of the length, the event itself as in
tensorflow/core/util/event.proto, and the CRC of the event.
"""

import dataclasses
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import logging
from google.protobuf.message import DecodeError
from tensorboardX.proto.event_pb2 import Event, SessionLog

from vidcls.config import Config
from vidcls.errors import UserError
from vidcls.run import workdir
from vidcls.text.bounded_file import check_regular, read_text

METRICS = (
    'train/loss', 'train/top1', 'train/learning_rate', 'train/grad_norm', 'train/clips_per_second', 'train/data_wait',
    'validation/loss', 'validation/top1',
)  # fmt: skip
_MAX_BYTES = 128 << 20  # of metrics.jsonl, and of TensorBoard's files together; 100,000 rows take 30 MB
_MAX_HISTORY = 1 << 20  # bytes
_MAX_FILES = 10_000
_HEADER = struct.Struct('<QI')
_CRC_BYTES = 4


class Curve(NamedTuple):
    """A measurement at some steps.

    Attributes:
      step: int64[n], ascending.
      value: float64[n].
    """

    step: np.ndarray
    value: np.ndarray


class Change(NamedTuple):
    """A setting that changed when the run was resumed at `step`."""

    step: int
    name: str
    before: str
    now: str


@dataclasses.dataclass(frozen=True)
class TrainingLog:
    """The training of one run.

    Attributes:
      folder: the work directory.
      curves: the curve of each metric of METRICS; metrics that were never measured are absent.
      clock: some steps, and the running time in seconds at each of them; both are ascending.
      has_clock: whether the times were measured; otherwise they are computed from the clips a second.
      resumed: the steps from which another process resumed the run.
      changes: the settings that changed when the run was resumed.
    """

    folder: Path
    config: Config
    curves: dict[str, Curve]
    clock: Curve
    has_clock: bool
    resumed: tuple[int, ...]
    changes: tuple[Change, ...]

    def seconds(self, step: np.ndarray) -> np.ndarray:
        """The running time at each of these steps, float64[n], seconds."""
        return np.interp(step, [0, *self.clock.step], [0, *self.clock.value])

    @property
    def last_step(self) -> int:
        return max((int(curve.step[-1]) for curve in self.curves.values()), default=0)

    @property
    def best(self) -> tuple[int, float] | None:
        """The step of the highest validation top-1, and that value.

        If several steps have this value, the last of them counts, as for the best checkpoint.
        """
        curve = self.curves.get('validation/top1')
        if curve is None:
            return None
        place = len(curve.value) - 1 - int(curve.value[::-1].argmax())
        return int(curve.step[place]), float(curve.value[place])


def read(folder: str | Path) -> TrainingLog:
    """Reads the training of the run in a work directory.

    Raises:
      UserError: the folder has no run, or files that are not as training writes them.
      OSError: a file is missing or can't be read.
    """
    run = workdir.load(folder)
    curves = _curves(run.folder / 'metrics.jsonl')
    clock, resumed = _from_tensorboard(run.folder / 'tensorboard')
    if has_clock := len(clock.step) > 0:
        last = max((int(curve.step[-1]) for curve in curves.values()), default=0)
        resumed = tuple(step for step in resumed if step <= last)
    else:
        clock = _from_rates(curves, run.config.batch_size)
    return TrainingLog(
        run.folder, run.config, curves, clock, has_clock, resumed, _changes(run.folder / 'history.jsonl')
    )


def _curves(path: Path) -> dict[str, Curve]:
    rows: dict[str, dict[int, float]] = {}
    for row in _json_lines(path, _MAX_BYTES):
        step = row.get('step')
        if type(step) is not int or not 0 <= step < 1 << 53:
            continue
        for name in METRICS:
            value = row.get(name)
            if isinstance(value, int | float) and abs(value) < 1e300:  # neither NaN nor infinite, and no huge integer
                rows.setdefault(name, {})[step] = value
    return {
        name: Curve(np.array(sorted(of_step)), np.array([of_step[step] for step in sorted(of_step)], float))
        for name, of_step in rows.items()
    }


def _json_lines(path: Path, most: int) -> Iterator[dict[str, Any]]:
    """Yields the objects of a file of JSON lines. Other lines are left out, such as a last line that was cut off."""
    if not path.exists():
        return
    for line in read_text(path, most).splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            yield row


def _changes(path: Path) -> tuple[Change, ...]:
    found = []
    for row in _json_lines(path, _MAX_HISTORY):
        step, changes = row.get('step'), row.get('changes')
        if type(step) is int and isinstance(changes, dict):
            found += [
                Change(step, name, *(str(value)[:200] for value in values))
                for name, values in changes.items()
                if isinstance(values, list) and len(values) == 2
            ]
    return tuple(found)


def _from_rates(curves: dict[str, Curve], batch_size: int) -> Curve:
    """The clock computed from the clips a second of each row."""
    rate = curves.get('train/clips_per_second')
    if rate is None:
        return Curve(np.zeros(0, int), np.zeros(0))
    seconds = np.diff(rate.step, prepend=0) * batch_size / np.maximum(rate.value, 1e-9)
    return Curve(rate.step, np.cumsum(seconds))


def _from_tensorboard(folder: Path) -> tuple[Curve, tuple[int, ...]]:
    """The clock, from the moments at which events were written; and the steps at which processes resumed."""
    step_at: list[int] = []
    seconds_at: list[float] = []
    resumed: list[int] = []
    for events in sorted(_event_files(folder), key=lambda events: events[0].wall_time):
        begins = next((event for event in events if event.session_log.status == SessionLog.START), None)
        if begins is None:
            continue
        first = begins.step - 1  # the step that the process resumed at; rows of later steps were deleted
        while step_at and step_at[-1] > first:
            step_at.pop(), seconds_at.pop()
        resumed = [step for step in resumed if step < first] + [first] * (first > 0)
        before = seconds_at[-1] if seconds_at else 0.0
        for event in events:
            if event.summary.value and event.step > (step_at[-1] if step_at else 0):
                step_at.append(event.step)
                seconds_at.append(max(before + event.wall_time - begins.wall_time, seconds_at[-1] if seconds_at else 0))
    return Curve(np.array(step_at, int), np.array(seconds_at)), tuple(resumed)


def _event_files(folder: Path) -> Iterator[list[Event]]:
    """Yields the events of each file, in order. A damaged end of a file is left out."""
    paths = sorted(folder.glob('events*'))[:_MAX_FILES] if folder.is_dir() and not folder.is_symlink() else []
    room = _MAX_BYTES
    for path in paths:
        try:
            check_regular(path)
        except UserError as error:
            logging.warning('%s', error)
            continue
        room -= path.stat().st_size
        if room < 0:
            logging.warning('%s: has more than %d bytes; the later files are not read', folder, _MAX_BYTES)
            return
        if events := list(_events(path.read_bytes())):
            yield events


def _events(data: bytes) -> Iterator[Event]:
    place = 0
    while place + _HEADER.size <= len(data):
        size = _HEADER.unpack_from(data, place)[0]
        place += _HEADER.size
        if size > len(data) - place:
            return
        try:
            yield Event.FromString(data[place : place + size])
        except DecodeError:
            return
        place += size + _CRC_BYTES
