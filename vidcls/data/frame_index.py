"""Where every JPEG of a dataset lies in its TFRecord shards, so that a reader fetches only the frames it wants.

A record holds a whole video (2 MB for an average UCF101 clip) and training looks at three to sixteen of its
frames. Parsing whole records is what limits a plain reader; the index turns a clip into a few `pread` calls, makes any
clip reachable at once (exact shuffling, resuming at any position), and leaves the records as TFDS wrote them. It is
derived data: `build` makes it from the shards, the converters store it beside them as `frame_index.npz`.
"""

import dataclasses
import os
import struct
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from vidcls.errors import UserError

FILENAME = 'frame_index.npz'
_HEADER = struct.Struct('<QI')  # TFRecord: length and its CRC, the record, its CRC
_CRC_BYTES = 4


@dataclasses.dataclass(frozen=True)
class FrameIndex:
    """One row a clip (n clips), one entry a frame (f frames in all).

    Attributes:
      shards: file names, relative to the dataset's folder.
      shard_bytes: int64[shards], their sizes when indexed; a difference means that the index is stale.
      shard: int32[n], which shard holds the clip.
      ids: str[n], the clip's path in the source without its ending.
      labels: int32[n].
      fps: float32[n], frames per second of the stored frames.
      height, width: int32[n], of the stored frames, pixels.
      first: int64[n + 1]; clip i owns frames first[i] to first[i + 1] - 1.
      offset: int64[f] position of the frame's JPEG in the shard, bytes.
      length: int32[f] its size, bytes.
    """

    shards: np.ndarray
    shard_bytes: np.ndarray
    shard: np.ndarray
    ids: np.ndarray
    labels: np.ndarray
    fps: np.ndarray
    height: np.ndarray
    width: np.ndarray
    first: np.ndarray
    offset: np.ndarray
    length: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def num_frames(self, clip: int) -> int:
        return int(self.first[clip + 1] - self.first[clip])

    def matches(self, folder: Path) -> bool:
        """Whether the shards are still those that were indexed (by name and size)."""
        sizes = [_size(folder / name) for name in self.shards]
        return sizes == list(self.shard_bytes)

    def save(self, folder: Path) -> None:
        """Writes `frame_index.npz` whole or not at all."""
        partial = folder / f'.{FILENAME}.{os.getpid()}'
        try:
            with open(partial, 'wb') as file:
                np.savez(file, **dataclasses.asdict(self))
            os.replace(partial, folder / FILENAME)
        finally:
            partial.unlink(missing_ok=True)  # a full disk

    @classmethod
    def load(cls, folder: Path) -> 'FrameIndex':
        with np.load(folder / FILENAME, allow_pickle=False) as arrays:
            return cls(**{field.name: arrays[field.name] for field in dataclasses.fields(cls)})


class FrameReader:
    """Reads single JPEGs of an index's shards; safe to share between threads (`pread` keeps no position)."""

    def __init__(self, folder: Path, index: FrameIndex):
        self._index = index
        self._files = [os.open(folder / name, os.O_RDONLY) for name in index.shards]
        weakref.finalize(self, lambda files: [os.close(file) for file in files], self._files)

    def read(self, clip: int, frames: Sequence[int]) -> list[bytes]:
        """The encoded JPEGs of the clip's `frames` (numbers within the clip)."""
        index = self._index
        file = self._files[index.shard[clip]]
        rows = index.first[clip] + np.asarray(frames)
        return [
            os.pread(file, length, offset)
            for length, offset in zip(index.length[rows].tolist(), index.offset[rows].tolist())
        ]


def build(folder: Path, shards: Sequence[str]) -> FrameIndex:
    """Indexes the examples of `shards` (file names within `folder`), in their order.

    Raises:
      UserError: a shard that is cut off or whose examples are not ours (`video`, `label`, `id`, `fps`).
    """
    rows, first, offset, length = [], [0], [], []
    for number, name in enumerate(shards):
        for start, record in _records(folder / name):
            row, offsets, lengths = _index_record(folder / name, start, record)
            rows.append((number, *row))
            offset += offsets
            length += lengths
            first.append(len(offset))
    shard, ids, labels, fps, height, width = zip(*rows) if rows else [()] * 6
    return FrameIndex(
        shards=np.array(shards, dtype=np.str_),
        shard_bytes=np.array([_size(folder / name) for name in shards], np.int64),
        shard=np.array(shard, np.int32),
        ids=np.array(ids, dtype=np.str_),
        labels=np.array(labels, np.int32),
        fps=np.array(fps, np.float32),
        height=np.array(height, np.int32),
        width=np.array(width, np.int32),
        first=np.array(first, np.int64),
        offset=np.array(offset, np.int64),
        length=np.array(length, np.int32),
    )


def _records(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yields (position in the file, payload) of each TFRecord."""
    with open(path, 'rb') as file:
        while header := file.read(_HEADER.size):
            size = _HEADER.unpack(header)[0] if len(header) == _HEADER.size else 0
            start = file.tell()
            record = file.read(size)
            if len(header) < _HEADER.size or len(file.read(_CRC_BYTES)) < _CRC_BYTES:
                raise UserError(f'{path}: cut off in the record at byte {start}; convert the dataset again')
            yield start, record


def _index_record(path: Path, start: int, record: bytes):
    """One example: (id, label, fps, height, width), and its frames' offsets in the file and lengths."""
    import simplejpeg
    import tensorflow as tf

    feature: Mapping[str, tf.train.Feature] = tf.train.Example.FromString(record).features.feature
    missing = {'video', 'label', 'id', 'fps'} - set(feature)
    if missing:
        raise UserError(f'{path}: an example without {sorted(missing)}; it was not written by data_prep')
    frames = feature['video'].bytes_list.value
    if not frames:
        raise UserError(f'{path}: {feature["id"].bytes_list.value[0]!r} has no frames')
    offsets, position = [], record.index(frames[0])
    for frame in frames:
        # The list's entries follow each other with a few bytes of length between them.
        position = record.index(frame, position, position + len(frame) + 16)
        offsets.append(start + position)
        position += len(frame)
    height, width, _, _ = simplejpeg.decode_jpeg_header(frames[0])
    row = (
        feature['id'].bytes_list.value[0].decode(),
        feature['label'].int64_list.value[0],
        feature['fps'].float_list.value[0],
        height,
        width,
    )
    return row, offsets, [len(frame) for frame in frames]


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else -1
