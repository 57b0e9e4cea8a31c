"""Where every JPEG of a dataset lies in its TFRecord shards, so that a reader fetches only the frames it wants.

A record holds a whole video (2 MB for an average UCF101 clip) and training looks at three to sixteen of its
frames. Parsing whole records is what limits a plain reader; the index turns a clip into a few `pread` calls, makes any
clip reachable at once (exact shuffling, resuming at any position), and leaves the records as TFDS wrote them. It is
derived data: `build` makes it from the shards, the converters store it beside them as `frame_index.npz`.
"""

import dataclasses
import functools
import math
import os
import struct
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from vidcls.errors import UserError
from vidcls.text.bounded_file import check_regular

FILENAME = 'frame_index.npz'
MAX_OPEN = 256  # shards; a system admits 1,024 descriptors a process, and there is a reader for each split in use
_HEADER = struct.Struct('<QI')  # TFRecord: length and its CRC, the record, its CRC
_CRC_BYTES = 4
_MAX_RECORD = (1 << 31) - 1  # bytes; a protocol buffer has no more
_MAX_SIDE = 65_535  # pixels of a JPEG
_JPEG_START = b'\xff\xd8'
_TEXT = ('shards', 'ids')
_DTYPES = {
    'shard_bytes': np.int64, 'shard': np.int32, 'labels': np.int32, 'fps': np.float32, 'height': np.int32,
    'width': np.int32, 'first': np.int64, 'offset': np.int64, 'length': np.int32,
}  # fmt: skip


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
        """Reads what `save` wrote, and checks that its arrays fit each other and the sizes of shards that they state.

        Raises:
          UserError: they don't, or the file is broken; nothing of it can be used.
          OSError: no such file, or no permission.
        """
        path = folder / FILENAME
        check_regular(path)
        try:
            _check_packing(path, [field.name for field in dataclasses.fields(cls)])
            with np.load(path, allow_pickle=False) as arrays:
                index = cls(**{field.name: arrays[field.name] for field in dataclasses.fields(cls)})
        except (ValueError, KeyError, EOFError, OverflowError, RuntimeError, MemoryError, zipfile.BadZipFile) as error:
            raise UserError(f'{path}: is damaged: {error}') from error
        index.check(path)
        return index

    def check(self, path: Path) -> None:
        """Refuses arrays that do not fit each other, whatever file they are from: `path`, for the message.

        Raises:
          UserError: names what is wrong.
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
            ('height', 1, _MAX_SIDE),
            ('width', 1, _MAX_SIDE),
            ('length', 1, np.iinfo(np.int32).max),
            ('offset', 0, np.iinfo(np.int64).max // 2),  # so that a length can be added
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


def _check_packing(path: Path, names: Sequence[str]) -> None:
    """Refuses an .npz that says it holds more than it does, before room is made for it; `save` compresses nothing."""
    headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if sorted(member.filename for member in members) != sorted(f'{name}.npy' for name in names):
            raise ValueError('it has other arrays')
        if sum(member.file_size for member in members) > path.stat().st_size:
            raise ValueError('it unpacks to more than it has')
        for member in members:
            if member.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f'{member.filename} is compressed')
            with archive.open(member) as file:
                shape, _, dtype = headers[np.lib.format.read_magic(file)](file)
                if math.prod(shape) * dtype.itemsize != member.file_size - file.tell():
                    raise ValueError(f'{member.filename} does not hold the array that it states')


class FrameReader:
    """Reads single JPEGs of an index's shards; safe to share between threads (`pread` keeps no position)."""

    def __init__(self, folder: Path, index: FrameIndex):
        self._folder, self._index = folder, index
        # A thread that reads holds the file, so that one which is dropped for another is closed after the last read.
        self._open = functools.lru_cache(maxsize=MAX_OPEN)(lambda shard: _open(folder / index.shards[shard]))

    def read(self, clip: int, frames: Sequence[int]) -> list[bytes]:
        """The encoded JPEGs of the clip's `frames` (numbers within the clip).

        Raises:
          UserError: the file has no JPEG there; names the shard, the clip and the frame.
          OSError: as of opening and reading files.
        """
        index = self._index
        file = self._open(int(index.shard[clip]))
        rows = index.first[clip] + np.asarray(frames)
        lengths, offsets = index.length[rows].tolist(), index.offset[rows].tolist()
        jpegs = [os.pread(file.descriptor, length, offset) for length, offset in zip(lengths, offsets)]
        for place, jpeg in enumerate(jpegs):
            if len(jpeg) != lengths[place] or not jpeg.startswith(_JPEG_START):
                found = f'{len(jpeg)} of {lengths[place]} bytes' if len(jpeg) != lengths[place] else 'no JPEG'
                raise self._fault(clip, int(frames[place]), f'{found} at byte {offsets[place]}')
        return jpegs

    def check(self, clip: int, frames: Sequence[int]) -> None:
        """Decodes the clip's `frames` as a whole, to say which one another decoder could not take.

        Raises:
          UserError: as `read`, and where a JPEG is broken or of another size than the clip's.
        """
        import simplejpeg

        stated = (int(self._index.height[clip]), int(self._index.width[clip]))
        for frame, jpeg in zip(frames, self.read(clip, frames)):
            try:
                size = simplejpeg.decode_jpeg_header(jpeg)[:2]
                if size == stated:
                    simplejpeg.decode_jpeg(jpeg)
            except ValueError as error:
                raise self._fault(clip, frame, f'a broken JPEG ({error})') from error
            if size != stated:
                raise self._fault(clip, frame, f'{size[1]} x {size[0]} pixels, not {stated[1]} x {stated[0]}')

    def _fault(self, clip: int, frame: int, found: str) -> UserError:
        index = self._index
        return UserError(
            f'{self._folder / index.shards[index.shard[clip]]}: frame {frame} of clip {str(index.ids[clip])!r}: {found}; '
            'convert the dataset again'
        )


class _OpenFile:
    """A descriptor that is closed when nobody holds it any more."""

    def __init__(self, descriptor: int):
        self.descriptor = descriptor

    def __del__(self, close=os.close):  # bound, for it may be the interpreter's last act
        close(self.descriptor)


def _open(path: Path) -> _OpenFile:
    return _OpenFile(os.open(path, os.O_RDONLY))


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
    """Yields (position in the file, payload) of each TFRecord."""
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


def _index_record(path: Path, start: int, record: bytes):
    """One example: (id, label, fps, height, width), and its frames' offsets in the file and lengths."""
    import simplejpeg
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    where = f'{path}: the record at byte {start}'
    try:
        feature: Mapping[str, tf.train.Feature] = tf.train.Example.FromString(record).features.feature
    except DecodeError as error:
        raise UserError(f'{where}: an example that cannot be parsed; it was not written by data_prep') from error
    missing = {'video', 'label', 'id', 'fps'} - set(feature)
    if missing:
        raise UserError(f'{path}: an example without {sorted(missing)}; it was not written by data_prep')
    values = (feature['id'].bytes_list.value, feature['label'].int64_list.value, feature['fps'].float_list.value)
    if any(len(value) != 1 for value in values):
        raise UserError(f'{where}: id, label and fps must be one value each; it was not written by data_prep')
    (name,), (label,), (fps,) = values
    frames = feature['video'].bytes_list.value
    if not frames:
        raise UserError(f'{path}: {name!r} has no frames')
    offsets, position = [], 0
    try:
        name = name.decode()
        height, width, _, _ = simplejpeg.decode_jpeg_header(frames[0])
        for frame in frames:
            # The list's entries follow each other with a few bytes of length between them.
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
    return path.stat().st_size if path.exists() else -1
