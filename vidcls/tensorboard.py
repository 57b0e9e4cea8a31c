"""TensorBoard's event file, written as the values come.

tensorboardX's own writer hands them to a thread; on a full disk that thread dies, and whoever writes next waits for ever.
"""

import os
import socket
import struct
import time
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import masked_crc32c


class TensorBoard:
    """Writes scalars.

    Args:
      folder: made if need be.
      step: the step a run continues from; TensorBoard forgets what older files say of later ones.
    """

    def __init__(self, folder: Path, step: int):
        folder.mkdir(exist_ok=True)
        name = f'events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}'
        self._file = open(folder / name, 'wb')  # noqa: SIM115, closed by close()
        self._write(Event(file_version='brain.Event:2'))
        self._write(Event(step=step + 1, session_log=SessionLog(status=SessionLog.START)))

    def write(self, step: int, values: dict[str, float]) -> None:
        scalars = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._write(Event(step=step, summary=Summary(value=scalars)))

    def close(self) -> None:
        self._file.close()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        data = event.SerializeToString()
        header = struct.pack('<Q', len(data))
        for part in (header, _checksum(header), data, _checksum(data)):  # a TFRecord
            self._file.write(part)
        self._file.flush()


def _checksum(data: bytes) -> bytes:
    return struct.pack('<I', masked_crc32c(data))
