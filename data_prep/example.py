"""One clip -> a serialised tf.train.Example, by processes that never import TensorFlow.

The wire format is written by hand: importing TensorFlow takes each worker seven seconds and half a
gigabyte, and its classes copy the megabytes of a clip several times where this copies them once.
"""

import dataclasses
import hashlib
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import simplejpeg

from data_prep import pool, published_flow
from data_prep.source import Clip
from vidcls.data import decoding, flow, flow_jpeg, video
from vidcls.data.flow import FlowSettings
from vidcls.data.frame_index import FLOW, VIDEO
from vidcls.data.frame_storage import FrameStorage
from vidcls.data.frame_times import IMAGE_FPS
from vidcls.errors import internal_error


@dataclasses.dataclass(frozen=True)
class EncodedClip:
    """A clip's pictures as JPEGs, their rate, and what is wrong with the file ('' if nothing).

    Attributes:
      pictures: 'video' -> the frames; where flow is stored, 'flow' -> x and y of the first frame's flow, then of the second's...
    """

    pictures: dict[str, list[bytes]]
    fps: float
    damage: str


class Places(NamedTuple):
    """Where pictures lie in a record: int64[n] offsets and int32[n] lengths of JPEGs, bytes."""

    offsets: np.ndarray
    lengths: np.ndarray


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where a record holds its pictures, for the indices.

    Attributes:
      fps: frames per second.
      height, width: pixels.
      places: of the pictures of each feature.
    """

    fps: float
    height: int
    width: int
    places: dict[str, Places]


@dataclasses.dataclass(frozen=True)
class Record:
    """A serialised clip: the file that holds it, and where its pictures lie in that file."""

    file: Path
    layout: Layout


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
    """Decodes and encodes a clip, and computes or reads its flow.

    Raises:
      video.VideoError: nothing of the clip can be used.
    """
    if clip.is_images:
        _, _, jpegs = video.encode_images(clip.files, short_side=storage.short_side)
        # Images carry no clock: they are taken to be at the rate that was asked for.
        fps, damage = storage.fps or IMAGE_FPS, ''
    else:
        info, jpegs = video.encode(clip.files[0], short_side=storage.short_side, fps=storage.fps)
        fps, damage = info.fps, info.damage
    pictures = {VIDEO.feature: jpegs}
    if storage.flow:
        pictures[FLOW.feature] = published_flow.read(clip.flow, jpegs) if clip.flow else flow_of(jpegs, storage.flow)
        video.check_bytes(clip.files[0], sum(len(jpeg) for jpegs in pictures.values() for jpeg in jpegs))
    return EncodedClip(pictures, fps, damage)


def flow_of(jpegs: Sequence[bytes], settings: FlowSettings) -> list[bytes]:
    """The flow pictures x1 y1 x2 y2... of a clip's stored frames."""
    flow.use_one_thread()  # there is a process for each core
    found: list[bytes] = []
    for pair in flow_jpeg.of_frames(jpegs, settings):
        found += pair
        pool.report_progress()
    return found


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
        return Result(clip, write_record(clip, encoded.pictures, encoded.fps, spool), problem)
    except OSError:  # the disk's fault, which ends the conversion
        raise
    except Exception as error:  # noqa: BLE001, as in `try_clip`
        return Result(clip, None, internal_error(error))


def write_record(clip: Clip, pictures: Mapping[str, Sequence[bytes]], fps: float, spool: Path) -> Record:
    """Serialises a clip with its pictures into a file in the folder `spool`."""
    record, places = serialize(pictures, clip.label, clip.id, fps)
    height, width, _, _ = simplejpeg.decode_jpeg_header(pictures[VIDEO.feature][0])
    file = spool / hashlib.sha256(clip.id.encode()).hexdigest()
    file.write_bytes(record)
    return Record(file, Layout(fps, height, width, places))


def serialize(
    pictures: Mapping[str, Sequence[bytes]], label: int, id: str, fps: float
) -> tuple[bytes, dict[str, Places]]:
    """tf.train.Example with `label` (int64), `id` (bytes), `fps` (float) and each feature of `pictures` (bytes).

    Field numbers: tensorflow/core/example/example.proto and feature.proto.

    Returns:
      The record, and where it holds the pictures.
    """
    features = {
        'fps': _field(2, _field(1, struct.pack('<f', fps))),
        'id': _field(1, _field(1, id.encode())),
        'label': _field(3, _field(1, _varint(label))),
    }
    features |= {
        name: _field(1, [piece for jpeg in jpegs for piece in _field(1, jpeg)]) for name, jpegs in pictures.items()
    }
    entries, last = [], {}
    for name, feature in features.items():
        entries += _field(1, _field(1, name.encode()) + _field(2, feature))
        last[name] = len(entries)
    pieces = _field(1, entries)  # one piece before the entries
    ends = np.cumsum([len(piece) for piece in pieces], dtype=np.int64)
    places = {}
    for name, jpegs in pictures.items():
        # A feature's last pieces are its JPEGs, each after a piece that states its length.
        lengths = np.array([len(jpeg) for jpeg in jpegs], np.int32)
        places[name] = Places(ends[last[name] - 2 * len(jpegs) + 2 : last[name] + 1 : 2] - lengths, lengths)
    return b''.join(pieces), places


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
