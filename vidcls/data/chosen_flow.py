"""The optical flow of chosen frames of a video, in the pictures that a dataset would hold of it.

Prediction and streams compute flow as they go, and of those pairs of frames alone that are looked at.
"""

from collections.abc import Mapping

import numpy as np
import simplejpeg

from vidcls.data import flow, flow_jpeg
from vidcls.data.flow import FlowSettings
from vidcls.errors import UserError


def pairs(chosen: np.ndarray, num_frames: int) -> np.ndarray:
    """int64[t 2]: the two frames whose flow stands for each of `chosen`, int64[t]: it and the next one.

    As in a dataset, the last pair stands for the last frame too. The only frame of a clip is paired with itself.
    """
    first = np.minimum(chosen, max(num_frames - 2, 0))
    return np.stack([first, np.minimum(first + 1, num_frames - 1)], axis=1)


def pictures(wanted: np.ndarray, frames: Mapping[int, np.ndarray], settings: FlowSettings | None) -> np.ndarray:
    """The flow of pairs of frames as it would be stored, uint8[(t 2) h w 1]: x1 y1 x2 y2 ...

    Args:
      wanted: int64[t 2], what `pairs` gives.
      frames: the frames of all pairs by their numbers, RGB uint8[h w 3].
      settings: of the run.

    Raises:
      UserError: the run has none, or the library that computes flow is not installed.
    """
    if settings is None:
        raise UserError('the run looks at optical flow, and its frames.json does not say how that is computed')
    starts, second = np.unique(wanted[:, 0]), dict(wanted.tolist())
    found: dict[int, np.ndarray] = {}
    for run in np.split(starts, np.flatnonzero(np.diff(starts) > 1) + 1):
        numbers = [*run.tolist(), second[int(run[-1])]]
        flows = flow.compute(np.stack([frames[number] for number in numbers]), settings)
        found.update(zip(run.tolist(), map(_stored, flows)))  # the last flow, a copy, is left over
    return np.concatenate([found[number] for number in wanted[:, 0].tolist()])


def _stored(planes: np.ndarray) -> np.ndarray:
    """Planes uint8[h w 2] -> uint8[2 h w 1], through the JPEG of each."""
    return np.stack([simplejpeg.decode_jpeg(jpeg, colorspace='GRAY') for jpeg in flow_jpeg.encode(planes)])
