"""The frames of a live source or a file, one by one as they come."""

import math
from collections.abc import Iterator

import numpy as np
import simplejpeg

from vidcls.data.container import VideoError, naming
from vidcls.data.decoding import DecodedFrames
from vidcls.data.frame_jpeg import FrameEncoder
from vidcls.data.frame_storage import SHORT_SIDE
from vidcls.data.frame_times import IMAGE_FPS, ROUNDING


def watch(source: str, *, short_side: int = SHORT_SIDE, fps: float | None = None) -> Iterator[tuple[float, np.ndarray]]:
    """Yields (seconds since the first frame, RGB uint8[h w c]) for each frame as it comes.

    The pixels are those that would be stored. Packets that can't be decoded are passed over, so that a lost packet does
    not end a live stream.

    Args:
      source: a file, an address that FFmpeg opens (rtsp://, http://...), or the number of a camera.
      short_side: the limit on the frames' short side, pixels.
      fps: the highest rate; frames that come faster are left out. None keeps every frame.

    Raises:
      VideoError: the source can't be opened, or it breaks off after the frames that were yielded.
    """
    stream = DecodedFrames(source, live=True)
    encoder, start, due, last = None, None, 0.0, 0.0
    with naming(source):
        for number, frame in enumerate(stream):
            encoder = encoder or FrameEncoder(frame, short_side)
            time = number / (stream.nominal_fps or IMAGE_FPS) if frame.time is None else frame.time
            start = time if start is None else start
            moment = time - start
            last = max(last, moment)
            if fps is not None:
                if moment < due - ROUNDING:
                    continue
                due = (math.floor((moment + ROUNDING) * fps) + 1) / fps  # frames missing in a gap are not made up for
            yield moment, simplejpeg.decode_jpeg(encoder(frame))
        stream.check_any()
        if damage := stream.damage or stream.missing(last, stream.nominal_fps or IMAGE_FPS):
            raise VideoError(source, damage)
