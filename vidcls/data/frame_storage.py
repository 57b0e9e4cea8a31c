"""How a dataset stores frames: their size, their rate and their flow, and the limits on size and rate.

A run keeps this description of its dataset, so that prediction prepares the frames of a new video in the same way.
"""

import dataclasses
from pathlib import Path
from typing import Any

from vidcls.data import flow as flow_lib
from vidcls.data.flow import FlowSettings
from vidcls.errors import UserError

SHORT_SIDE = 256  # pixels, by default
MIN_SHORT_SIDE, MAX_SHORT_SIDE = 16, 4320  # pixels; 4320 is the height of 8K video
MAX_SIDE = 65_500  # pixels of a JPEG's height or width, the limit of libjpeg
MAX_FPS = 1000.0
MAX_CLIP_BYTES = 1 << 30  # the limit on the JPEGs of a clip; a TFRecord is a protocol buffer, whose limit is 2 GiB


@dataclasses.dataclass(frozen=True)
class FrameStorage:
    """How frames are stored.

    Attributes:
      short_side: the limit on the frames' short side, pixels; smaller frames are not enlarged.
      fps: the rate that frames are resampled to, frames per second; None keeps every frame.
      flow: how the stored flow is computed; None without flow.
    """

    short_side: int = SHORT_SIDE
    fps: float | None = None
    flow: FlowSettings | None = None


def described(storage: FrameStorage) -> dict[str, Any]:
    """The storage, in the form in which metadata.json and frames.json have it. `checked` reads this form."""
    flow = {'flow': flow_lib.described(storage.flow)} if storage.flow else {}
    return {'short_side': storage.short_side, 'fps': storage.fps} | flow


def checked(path: Path, short_side: Any, fps: Any, flow: Any = None) -> FrameStorage:
    """Makes a `FrameStorage` of the values in a file, which have the form that `described` returns.

    Args:
      path: the path of the file, for the message.
      short_side, fps, flow: the values.

    Raises:
      UserError: data_prep could not store frames like this; the message names the file, the value and the limits.
    """
    if type(short_side) is not int or not MIN_SHORT_SIDE <= short_side <= MAX_SHORT_SIDE:
        raise UserError(
            f'{path}: short_side={short_side!r:.80}: must be from {MIN_SHORT_SIDE} to {MAX_SHORT_SIDE} pixels'
        )
    if fps is not None and (type(fps) not in (int, float) or not 0 < fps <= MAX_FPS):
        raise UserError(
            f'{path}: fps={fps!r:.80}: must be more than 0 and at most {MAX_FPS:g}, or null for every frame'
        )
    return FrameStorage(short_side, fps, None if flow is None else flow_lib.checked(path, flow))
