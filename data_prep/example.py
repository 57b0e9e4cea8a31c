"""One clip -> a serialised tf.train.Example, by processes that never import TensorFlow.

The wire format is written by hand: importing TensorFlow takes each worker seven seconds and half a
gigabyte, and its classes copy the megabytes of a clip several times where this copies them once.
"""

import dataclasses
import hashlib
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import simplejpeg

from data_prep import pool
from data_prep.source import Clip
from vidcls.data import decoding, video
from vidcls.data.frame_storage import FrameStorage
from vidcls.data.frame_times import IMAGE_FPS
from vidcls.errors import internal_error


@dataclasses.dataclass(frozen=True)
class EncodedClip:
    """A clip's frames as JPEGs, their rate, and what is wrong with the file ('' if nothing)."""

    jpegs: list[bytes]
    fps: float
    damage: str


@dataclasses.dataclass(frozen=True)
class FrameLayout:
    """Where a record holds its t frames, for the index of frames.

    Attributes:
      fps: frames per second.
      height, width: pixels.
      offsets, lengths: int64[t] and int32[t], of each JPEG in the record, bytes.
    """

    fps: float
    height: int
    width: int
    offsets: np.ndarray
    lengths: np.ndarray


@dataclasses.dataclass(frozen=True)
class Record:
    """A serialised clip: the file that holds it, and where its frames lie in that file."""

    file: Path
    layout: FrameLayout


@dataclasses.dataclass(frozen=True)
class Result:
    """What a worker returns of a clip.

    Attributes:
      clip: the clip.
      record: the serialised clip; None where the clip cannot be used.
      problem: why the clip cannot be used, or, beside a record, why it is used in part; '' if nothing is wrong.
    """

    clip: Clip
    record: Record | None
    problem: str


def read_clip(clip: Clip, storage: FrameStorage) -> EncodedClip:
    """Decodes and encodes a clip.

    Raises:
      video.VideoError: nothing of the clip can be used.
    """
    if clip.is_images:
        _, _, jpegs = video.encode_images(clip.files, short_side=storage.short_side)
        # Images carry no clock: they are taken to be at the rate that was asked for.
        return EncodedClip(jpegs, storage.fps or IMAGE_FPS, '')
    info, jpegs = video.encode(clip.files[0], short_side=storage.short_side, fps=storage.fps)
    return EncodedClip(jpegs, info.fps, info.damage)


def try_clip(clip: Clip, storage: FrameStorage) -> tuple[EncodedClip | None, str]:
    """(the encoded clip, what is wrong with the file or ''); or (None, the reason) where nothing of the clip can be used.

    Whatever decoding raises is the fault of this clip: thousands of others must not suffer for it.
    """
    try:
        encoded = read_clip(clip, storage)
    except video.VideoError as error:
        # Of a folder of frames, the message must name the image.
        return None, error.reason if len(clip.files) == 1 else str(error)
    except Exception as error:  # noqa: BLE001, see above
        return None, internal_error(error)
    return encoded, encoded.damage


def convert_clip(clip: Clip, storage: FrameStorage, spool: Path) -> Result:
    """Decodes, encodes and serialises a clip into a file in the folder `spool`, which the caller removes.

    The result goes through a file, not through the worker's pipe: megabytes through a pipe of 64 KiB would make worker and
    parent wait for each other dozens of times a clip.
    """
    decoding.report_frames(pool.report_progress)
    encoded, problem = try_clip(clip, storage)
    if encoded is None:
        return Result(clip, None, problem)
    try:
        record = serialize(encoded.jpegs, clip.label, clip.id, encoded.fps)
        layout = _lay_out(encoded, len(record))
    except Exception as error:  # noqa: BLE001, as in `try_clip`
        return Result(clip, None, internal_error(error))
    file = spool / hashlib.sha256(clip.id.encode()).hexdigest()
    file.write_bytes(record)  # an error here is the disk's fault, and ends the conversion
    return Result(clip, Record(file, layout), problem)


def _lay_out(encoded: EncodedClip, record_bytes: int) -> FrameLayout:
    height, width, _, _ = simplejpeg.decode_jpeg_header(encoded.jpegs[0])
    lengths = np.array([len(jpeg) for jpeg in encoded.jpegs], np.int32)
    return FrameLayout(encoded.fps, height, width, frame_offsets(record_bytes, lengths), lengths)


def serialize(jpegs: Sequence[bytes], label: int, id: str, fps: float) -> bytes:
    """tf.train.Example with `video` (bytes), `label` (int64), `id` (bytes) and `fps` (float).

    Field numbers: tensorflow/core/example/example.proto and feature.proto.
    """
    features = {  # `video` last: see frame_offsets
        'fps': _field(2, _field(1, struct.pack('<f', fps))),
        'id': _field(1, _field(1, id.encode())),
        'label': _field(3, _field(1, _varint(label))),
        'video': _field(1, [piece for jpeg in jpegs for piece in _field(1, jpeg)]),
    }
    entries = []
    for name, feature in features.items():
        entries += _field(1, _field(1, name.encode()) + _field(2, feature))
    return b''.join(_field(1, entries))


def frame_offsets(record_bytes: int, lengths: np.ndarray) -> np.ndarray:
    """int64[t]: where the JPEGs of these lengths begin in the record that `serialize` made of them.

    The JPEGs are the record's end, each after a byte of tag and its length as a varint of 7 bits a byte.
    """
    heads = [1 + len(_varint(int(length))) for length in lengths]
    ends = np.cumsum(lengths.astype(np.int64) + heads)
    return record_bytes - ends[-1] + ends - lengths


def _field(number: int, value: bytes | list[bytes]) -> list[bytes]:
    """A length-delimited field, in pieces so that nothing is copied before the end."""
    pieces = [value] if isinstance(value, bytes) else value
    return [bytes([number << 3 | 2]) + _varint(sum(map(len, pieces))), *pieces]


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(encoded) + bytes([value])
