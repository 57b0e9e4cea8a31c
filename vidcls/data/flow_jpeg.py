"""Flow as it is stored: for each frame two grey JPEGs of the frame's size, x and then y, of the same quality as frames.

Windows of two pictures decode in 205 us of CPU for a frame of 320 x 240, of one picture with x beside y in 236, with x over y in
269; published flow comes as two pictures too.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import simplejpeg

from vidcls.data import flow as flow_lib
from vidcls.data.flow import FlowSettings
from vidcls.data.frame_jpeg import JPEG_QUALITY


def encode(flow: np.ndarray) -> tuple[bytes, bytes]:
    """JPEGs of x and of y of a frame's flow, uint8[h w 2]."""
    x, y = (_encode(np.ascontiguousarray(flow[..., channel : channel + 1])) for channel in range(2))
    return x, y


def decode(pictures: Sequence[bytes]) -> np.ndarray:
    """The flow uint8[t h w 2] of the JPEGs x1 y1 x2 y2..., which have one size."""
    planes = [simplejpeg.decode_jpeg(picture, colorspace='GRAY')[..., 0] for picture in pictures]
    return np.stack([np.stack(planes[number : number + 2], axis=-1) for number in range(0, len(planes), 2)])


def of_frames(jpegs: Iterable[bytes], settings: FlowSettings) -> Iterator[tuple[bytes, bytes]]:
    """Yields the JPEGs of x and of y for each stored frame of a clip, as `flow.compute` has them.

    The flow is that of the stored frames, not of the video's: so it is the same at conversion, at prediction, and where it is
    added to a dataset.

    Args:
      jpegs: the stored frames.

    Raises:
      UserError: as of `flow.compute`.
    """
    for flow in flow_lib.flows(map(simplejpeg.decode_jpeg, jpegs), settings):
        yield encode(flow)


def _encode(plane: np.ndarray) -> bytes:
    return simplejpeg.encode_jpeg(plane, quality=JPEG_QUALITY, colorspace='GRAY', colorsubsampling='Gray')
