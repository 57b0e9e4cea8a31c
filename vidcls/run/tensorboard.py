"""TensorBoard's event file, written as the values come.

tensorboardX's `SummaryWriter` hands them to a thread; on a full disk that thread dies, and whoever writes next waits for
ever. This is what the thread uses, without it.
"""

import time
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary


class TensorBoard:
    """Writes scalars.

    Args:
      folder: made if need be.
      step: the step a run continues from; TensorBoard forgets what older files say of later ones.
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
