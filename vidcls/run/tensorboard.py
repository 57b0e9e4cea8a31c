"""TensorBoard's event file.

tensorboardX's `SummaryWriter` and `FileWriter` pass events to a thread through a queue of ten. On a full disk the thread
dies, and the writer that fills the queue waits for ever. `EventsWriter`, which the thread uses, writes at once and raises.
"""

import time
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary


class TensorBoard:
    """Writes scalars.

    Args:
      folder: made if there is none.
      step: the step that the run starts or resumes at; TensorBoard then hides the values that older files have of later
        steps.
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
