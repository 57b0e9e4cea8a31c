"""Writes TensorBoard's event file.

tensorboardX's `SummaryWriter` and `FileWriter` pass events to a thread through a queue of ten. If the disk is full, the
thread dies, and the program waits for ever once the queue is full too. This module uses `EventsWriter`, the class that
the thread uses, which writes at once and raises an exception.
"""

import time
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary


class TensorBoard:
    """Writes scalars.

    Args:
      folder: the folder of the event files; it is made if it doesn't exist.
      step: the step at which the run starts or resumes. TensorBoard then hides values of later steps in older files.
    """

    def __init__(self, folder: Path, step: int):
        folder.mkdir(exist_ok=True)
        self._writer = EventsWriter(str(folder / 'events'), f'.{time.time_ns()}')
        self._write(Event(step=step + 1, session_log=SessionLog(status=SessionLog.START)))

    def write(self, step: int, values: dict[str, float]) -> None:
        scalars = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._write(Event(step=step, summary=Summary(value=scalars)))

    def close(self) -> None:
        self._writer.close()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._writer.write_event(event)
        self._writer.flush()
