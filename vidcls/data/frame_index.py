"""The index of a dataset: where every JPEG lies in the TFRecord shards. A reader fetches only the pictures it wants.

A record has a whole video (2 MB for an average UCF101 clip), and training looks at three to sixteen of its frames. So a
reader that parses whole records is slow. With the index, a clip is read with a few `pread` calls. Clips can be read in
any order, which exact shuffling and resuming at any position need. The records stay as TFDS wrote them. The index is
derived data: `build` makes it from the shards, and the converters store it beside the shards. Frames and flow have an
index each, so that a reader of frames loads nothing of the flow.
"""

import dataclasses
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vidcls.data import plain_npz
from vidcls.data.frame_storage import MAX_SIDE
from vidcls.errors import UserError

FILENAME = 'frame_index.npz'
_HEADER = struct.Struct('<QI')  # a TFRecord begins with the length and its CRC; then come the record and its CRC
_CRC_BYTES = 4
_MAX_RECORD = (1 << 31) - 1  # bytes; a protocol buffer has at most 2 GiB
_TEXT = ('shards', 'ids')
_DTYPES = {
    'shard_bytes': np.int64, 'shard': np.int32, 'labels': np.int32, 'fps': np.float32, 'height': np.int32,
    'width': np.int32, 'first': np.int64, 'offset': np.int64, 'length': np.int32,
}  # fmt: skip


class Pictures(NamedTuple):
    """The pictures that an index lists.

    Attributes:
      feature: the feature of the examples that has the pictures.
      filename: the file name of the index.
      per_frame: the number of these pictures that a frame has.
    """

    feature: str
    filename: str
    per_frame: int


VIDEO = Pictures('video', FILENAME, 1)
FLOW = Pictures('flow', 'flow_index.npz', 2)  # x, then y


@dataclasses.dataclass(frozen=True)
class FrameIndex:
    """An index of n clips with f pictures in all.

    A picture is a frame or, in the index of flow, x or y of a frame's flow.

    Attributes:
      shards: the file names of the shards, relative to the dataset's folder.
      shard_bytes: int64[shards], the sizes of the shards when they were indexed. If a size differs, the index is stale.
      shard: int32[n], the number of the shard that has the clip.
      ids: str[n], the clip's path in the source without its ending.
      labels: int32[n], the clip's label.
      fps: float32[n], frames per second of the stored frames.
      height, width: int32[n], the size of the stored pictures, pixels.
      first: int64[n + 1]. Clip i has the pictures from first[i] to first[i + 1] - 1. In the index of flow, frame j of
        clip i has the pictures first[i] + 2 j (x) and first[i] + 2 j + 1 (y).
      offset: int64[f], the position of the picture's JPEG in its shard, bytes.
      length: int32[f], the size of the picture's JPEG, bytes.
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
        """The number of pictures that the clip has: one for each frame or, in the index of flow, two."""
        return int(self.first[clip + 1] - self.first[clip])

    def matches(self, folder: Path) -> bool:
        """Whether the shards in the folder have the same names and sizes as when they were indexed."""
        sizes = [_size(folder / name) for name in self.shards]
        return sizes == list(self.shard_bytes)

    def save(self, folder: Path, pictures: Pictures = VIDEO) -> None:
        """Writes the index whole or not at all."""
        partial = folder / f'.{pictures.filename}.{os.getpid()}'
        try:
            with open(partial, 'wb') as file:
                np.savez(file, **dataclasses.asdict(self))
            os.replace(partial, folder / pictures.filename)
        finally:
            partial.unlink(missing_ok=True)  # the file is left if the disk is full

    @classmethod
    def load(cls, folder: Path, pictures: Pictures = VIDEO) -> 'FrameIndex':
        """Reads what `save` wrote, and checks that the arrays fit each other and the stated sizes of shards.

        Raises:
          UserError: the arrays don't fit, or the file is broken.
          OSError: the file is missing or can't be read.
        """
        path = folder / pictures.filename
        index = cls(**plain_npz.load(path, [field.name for field in dataclasses.fields(cls)]))
        index.check(path)
        return index

    def check(self, path: Path) -> None:
        """Refuses arrays that do not fit each other.

        Args:
          path: the file that the arrays come from, for the message.

        Raises:
          UserError: the arrays do not fit each other; the message names what is wrong.
        """
        rows, frames, shards = len(self.ids), len(self.offset), len(self.shards)
        lengths = {'shards': shards, 'shard_bytes': shards, 'first': rows + 1, 'offset': frames, 'length': frames}
        for name, array in vars(self).items():
            right = array.dtype.kind == 'U' if name in _TEXT else array.dtype == _DTYPES[name]
            if not right or array.shape != (lengths.get(name, rows),):
                raise UserError(f'{path}: {name} is {array.dtype}{list(array.shape)}, which does not fit the others')
        if self.first[0] != 0 or self.first[-1] != frames or not (np.diff(self.first) > 0).all():
            raise UserError(f'{path}: first must ascend from 0 to the number of frames')
        for name, least, most in (
            ('shard', 0, shards - 1),
            ('height', 1, MAX_SIDE),
            ('width', 1, MAX_SIDE),
            ('length', 1, np.iinfo(np.int32).max),
            ('offset', 0, np.iinfo(np.int64).max // 2),  # so that adding a length does not overflow
        ):
            array = getattr(self, name)
            if rows and not least <= array.min() <= array.max() <= most:
                raise UserError(f'{path}: {name} must be from {least} to {most}')
        if not (np.isfinite(self.fps) & (self.fps > 0)).all():
            raise UserError(f'{path}: fps must be numbers greater than 0')
        if (
            rows
            and (np.maximum.reduceat(self.offset + self.length, self.first[:-1]) > self.shard_bytes[self.shard]).any()
        ):
            raise UserError(f'{path}: a frame lies beyond the end of its shard')


def build(folder: Path, shards: Sequence[str], pictures: Pictures = VIDEO) -> FrameIndex:
    """Indexes the examples of the shards, in the order of the shards.

    Args:
      folder: the dataset's folder.
      shards: file names in the folder.
      pictures: what is indexed.

    Raises:
      UserError: a shard is cut off, or an example is not as data_prep writes it (the pictures, `label`, `id`, `fps`).
    """
    rows, first, offset, length = [], [0], [], []
    for number, name in enumerate(shards):
        for start, record in _records(folder / name):
            row, offsets, lengths = _index_record(folder / name, start, record, pictures.feature)
            rows.append((number, *row))
            offset += offsets
            length += lengths
            first.append(len(offset))
    shard, ids, labels, fps, height, width = zip(*rows) if rows else [()] * 6
    index = FrameIndex(
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
    index.check(folder)
    return index


def _records(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yields each TFRecord of a shard: its position in the file, bytes, and its payload."""
    total = path.stat().st_size
    with open(path, 'rb') as file:
        while header := file.read(_HEADER.size):
            size = _HEADER.unpack(header)[0] if len(header) == _HEADER.size else 0
            start = file.tell()
            if len(header) < _HEADER.size or size > total - start - _CRC_BYTES:
                raise UserError(f'{path}: cut off in the record at byte {start}; convert the dataset again')
            if size > _MAX_RECORD:
                raise UserError(
                    f'{path}: the record at byte {start} has {size:,} bytes; no record has over {_MAX_RECORD:,}'
                )
            record = file.read(size)
            file.read(_CRC_BYTES)
            yield start, record


def _index_record(path: Path, start: int, record: bytes, pictures: str) -> tuple[tuple[Any, ...], list[int], list[int]]:
    """Indexes one example.

    Args:
      path: the shard.
      start: the record's position in the shard, bytes.
      record: the example, serialised.
      pictures: the feature whose pictures are indexed.

    Returns:
      A tuple (id, label, fps, height, width), and two lists in bytes: the offsets of the pictures in the shard, and the
        lengths of the pictures.
    """
    import simplejpeg
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    where = f'{path}: the record at byte {start}'
    try:
        feature: Mapping[str, tf.train.Feature] = tf.train.Example.FromString(record).features.feature
    except DecodeError as error:
        raise UserError(f'{where}: an example that cannot be parsed; it was not written by data_prep') from error
    missing = {pictures, 'label', 'id', 'fps'} - set(feature)
    if missing:
        raise UserError(f'{path}: an example without {sorted(missing)}; it was not written by data_prep')
    values = (feature['id'].bytes_list.value, feature['label'].int64_list.value, feature['fps'].float_list.value)
    if any(len(value) != 1 for value in values):
        raise UserError(f'{where}: id, label and fps must be one value each; it was not written by data_prep')
    (name,), (label,), (fps,) = values
    frames = feature[pictures].bytes_list.value
    if not frames:
        raise UserError(f'{path}: {name!r} has no pictures of {pictures}')
    offsets: list[int] = []
    position = 0
    try:
        name = name.decode()
        height, width, _, _ = simplejpeg.decode_jpeg_header(frames[0])
        for frame in frames:
            # The JPEGs follow each other, with a few bytes between them that state a length.
            end = position + len(frame) + 16 if offsets else len(record)
            position = record.index(frame, position, end)
            offsets.append(start + position)
            position += len(frame)
    except ValueError as error:
        raise UserError(f'{where}: {name!r} is not as data_prep writes it: {error}') from error
    if not -(2**31) <= label < 2**31:
        raise UserError(f'{where}: {name!r} has the label {label}')
    return (name, label, fps, height, width), offsets, [len(frame) for frame in frames]


def _size(path: Path) -> int:
    """The size of a file in bytes; -1 if there is no file."""
    return path.stat().st_size if path.exists() else -1
