"""One clip -> a serialised tf.train.Example, by processes that never import TensorFlow.

The wire format is written by hand: importing TensorFlow takes each worker seven seconds and half a
gigabyte, and its classes copy the megabytes of a clip several times where this copies them once.
"""

import dataclasses
import struct
from collections.abc import Sequence

from data_prep.clips import Clip
from vidcls.data import video


@dataclasses.dataclass(frozen=True)
class Storage:
    """How frames are stored: the limit on the short side in pixels; the rate, or None for all."""

    short_side: int = video.SHORT_SIDE
    fps: float | None = None


@dataclasses.dataclass(frozen=True)
class Frames:
    """A clip's frames as JPEGs, their rate, and what is wrong with the file ('' if nothing)."""

    jpegs: list[bytes]
    fps: float
    damage: str


@dataclasses.dataclass(frozen=True)
class Result:
    """What a worker returns of a clip: a record; or none, and the reason."""

    clip: Clip
    record: bytes | None
    num_frames: int
    problem: str


def read_clip(clip: Clip, storage: Storage) -> Frames:
    """Decodes and encodes a clip.

    Raises:
      video.VideoError: nothing of it can be used.
    """
    if clip.is_images:
        _, _, jpegs = video.encode_images(clip.files, short_side=storage.short_side)
        # Images carry no clock: they are taken to be at the rate that was asked for.
        return Frames(jpegs, storage.fps or video.IMAGE_FPS, '')
    info, jpegs = video.encode(clip.files[0], short_side=storage.short_side, fps=storage.fps)
    return Frames(jpegs, info.fps, info.damage)


def convert_clip(clip: Clip, storage: Storage) -> Result:
    """`read_clip`, serialised; a video that cannot be used gives a result without a record."""
    try:
        frames = read_clip(clip, storage)
    except video.VideoError as error:
        return Result(clip, None, 0, error.reason)
    record = serialize(frames.jpegs, clip.label, clip.id, frames.fps)
    return Result(clip, record, len(frames.jpegs), frames.damage)


def serialize(jpegs: Sequence[bytes], label: int, id: str, fps: float) -> bytes:
    """tf.train.Example with `video` (bytes), `label` (int64), `id` (bytes) and `fps` (float).

    Field numbers: tensorflow/core/example/example.proto and feature.proto.
    """
    features = {
        'fps': _field(2, _field(1, struct.pack('<f', fps))),
        'id': _field(1, _field(1, id.encode())),
        'label': _field(3, _field(1, _varint(label))),
        'video': _field(1, [piece for jpeg in jpegs for piece in _field(1, jpeg)]),
    }
    entries = []
    for name, feature in features.items():
        entries += _field(1, _field(1, name.encode()) + _field(2, feature))
    return b''.join(_field(1, entries))


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
