"""Turns a clip into a serialised tf.train.Example, in processes that never import TensorFlow.

The wire format is written by hand. Importing TensorFlow would take each worker seven seconds and half a gigabyte, and
its classes would copy the megabytes of a clip several times. The functions here copy them once.
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
    """A clip's pictures as JPEGs, their rate, and what is wrong with the file.

    Attributes:
      pictures: 'video' -> the frames. If flow is stored, also 'flow' -> x and y of the first frame, x and y of the
        second frame, and so on.
      fps: frames per second.
      damage: what is wrong with the file; '' if nothing is.
    """

    pictures: dict[str, list[bytes]]
    fps: float
    damage: str


class Places(NamedTuple):
    """Where pictures lie in a record: the offsets int64[n] and the lengths int32[n] of their JPEGs, in bytes."""

    offsets: np.ndarray
    lengths: np.ndarray


@dataclasses.dataclass(frozen=True)
class Layout:
    """The rate, the size and the places of a record's pictures, which go into the indices.

    Attributes:
      fps: frames per second.
      height, width: the size of the pictures, pixels.
      places: feature -> where its pictures lie in the record.
    """

    fps: float
    height: int
    width: int
    places: dict[str, Places]


@dataclasses.dataclass(frozen=True)
class Record:
    """A serialised clip: the file that has it, and where its pictures lie in that file."""

    file: Path
    layout: Layout


@dataclasses.dataclass(frozen=True)
class Result:
    """What a worker returns for a clip.

    Attributes:
      clip: the clip.
      record: the serialised clip; None if the clip cannot be used.
      problem: why the clip cannot be used or, if there is a record, why it is used only in part; '' if nothing is
        wrong.
    """

    clip: Clip
    record: Record | None
    problem: str


def read_clip(clip: Clip, storage: FrameStorage) -> EncodedClip:
    """Decodes and encodes a clip. If flow is to be stored, computes it or reads its published pictures.

    Raises:
      video.VideoError: nothing of the clip can be used.
    """
    if clip.is_images:
        _, _, jpegs = video.encode_images(clip.files, short_side=storage.short_side)
        # Images state no times. Their rate is taken to be the rate of the stored frames.
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
    """Reads a clip as `read_clip` does, but returns an error as text.

    Whatever goes wrong is the fault of this clip, and must not stop the conversion of thousands of others.

    Returns:
      The encoded clip, and what is wrong with the file ('' if nothing is). If nothing of the clip can be used, None and
        the reason.
    """
    try:
        encoded = read_clip(clip, storage)
    except video.VideoError as error:
        # For a folder of frames, the message must name the image.
        return None, error.reason if len(clip.files) == 1 else str(error)
    except Exception as error:  # noqa: BLE001, see above
        return None, internal_error(error)
    return encoded, encoded.damage


def convert_clip(clip: Clip, storage: FrameStorage, spool: Path) -> Result:
    """Decodes, encodes and serialises a clip into a file in the folder `spool`. The caller removes the file.

    The result goes through a file, not through the worker's pipe. The pipe has 64 KiB: for megabytes, worker and parent
    would wait for each other dozens of times a clip.
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
    """Serialises a tf.train.Example with `label` (int64), `id` (bytes), `fps` (float) and the `pictures` (bytes).

    The numbers of fields are in tensorflow/core/example/example.proto and feature.proto.

    Args:
      pictures: feature -> JPEGs.
      label, id, fps: the values of the other features.

    Returns:
      The record, and feature -> where its pictures lie in the record.
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
    pieces = _field(1, entries)  # the entries, with one piece before them
    ends = np.cumsum([len(piece) for piece in pieces], dtype=np.int64)
    places = {}
    for name, jpegs in pictures.items():
        # A feature's last pieces are its JPEGs, each after a piece that states its length.
        lengths = np.array([len(jpeg) for jpeg in jpegs], np.int32)
        places[name] = Places(ends[last[name] - 2 * len(jpegs) + 2 : last[name] + 1 : 2] - lengths, lengths)
    return b''.join(pieces), places


def _field(number: int, value: bytes | list[bytes]) -> list[bytes]:
    """A length-delimited field. It is a list of pieces, so that nothing is copied before the end."""
    pieces = [value] if isinstance(value, bytes) else value
    return [bytes([number << 3 | 2]) + _varint(sum(map(len, pieces))), *pieces]


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(encoded) + bytes([value])
