"""The optical flow of chosen frames of a video, as the pictures that a dataset would store.

Prediction and streams compute flow when they need it, and only for the frames that are looked at.
"""

from collections.abc import Mapping

import einops
import numpy as np

from vidcls.data import flow, flow_jpeg
from vidcls.data.flow import FlowSettings


def pairs(chosen: np.ndarray, num_frames: int) -> np.ndarray:
    """The pairs of frames, int64[t 2], between which the flow of the `chosen` frames int64[t] is computed.

    A pair is the chosen frame and the next one. As in a dataset, the last frame of a clip has the same pair as the
    frame before it. The only frame of a clip is paired with itself.
    """
    first = np.minimum(chosen, max(num_frames - 2, 0))
    return np.stack([first, np.minimum(first + 1, num_frames - 1)], axis=1)


def pictures(wanted: np.ndarray, frames: Mapping[int, np.ndarray], settings: FlowSettings) -> np.ndarray:
    """The flow of pairs of frames as it would be stored: the pictures x1 y1 x2 y2..., uint8[(t 2) h w 1].

    Args:
      wanted: the pairs int64[t 2], from the function `pairs`.
      frames: frame number -> RGB frame uint8[h w 3], for the frames of all pairs.
      settings: how the flow is computed.

    Raises:
      UserError: the library that computes flow is not installed.
    """
    starts, second = np.unique(wanted[:, 0]), dict(wanted.tolist())
    found: dict[int, np.ndarray] = {}
    for run in np.split(starts, np.flatnonzero(np.diff(starts) > 1) + 1):
        numbers = [*run.tolist(), second[int(run[-1])]]
        flows = flow.compute(np.stack([frames[number] for number in numbers]), settings)
        found.update(zip(run.tolist(), map(_stored, flows)))  # `zip` leaves out the last flow, which is a copy
    return np.concatenate([found[number] for number in wanted[:, 0].tolist()])


def _stored(planes: np.ndarray) -> np.ndarray:
    """Passes the planes x and y, uint8[h w 2], through JPEGs, as if they were stored and read: uint8[2 h w 1]."""
    return einops.rearrange(flow_jpeg.decode(flow_jpeg.encode(planes)), '1 h w c -> c h w 1')
