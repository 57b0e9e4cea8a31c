"""What a network sees of a frame: its colours, the optical flow to the next frame, or the difference to the next frame.

    modality   a frame is stored as        the network is given, c        frames that are read of a segment
    rgb        1 picture, red green blue   3, the colours                 seg_len
    flow       2 pictures, grey: x, y      2, motion right and down       seg_len
    rgbdiff    1 picture, red green blue   3, the next frame's less its   seg_len + 1

Flow and difference are stacked over the `seg_len` frames of a segment, published 5, as x1 y1 ... x5 y5 and as five times red
green blue (Wang et al. 2016, arXiv:1608.00859, section 3.2; Simonyan and Zisserman 2014, arXiv:1406.2199, section 3.1).
`vidcls.data.transform` makes of the pictures what the network is given; `vidcls.config.CHANNELS` has mean and deviation.
"""

from typing import NamedTuple

import numpy as np

from vidcls.data.frame_index import FLOW


class Modality(NamedTuple):
    """How a modality is read.

    Attributes:
      pictures: the number of stored pictures of a frame.
      depth: the number of channels of a picture.
      ahead: how many frames later is the last one that decides what is seen of a frame.
    """

    pictures: int = 1
    depth: int = 3
    ahead: int = 0

    @property
    def beyond(self) -> int:
        """The number of a dataset's frames that are read of a segment beyond those that the network is given."""
        return self.ahead if self.pictures == 1 else 0  # two pictures hold the motion already

    def rows(self, frames: np.ndarray) -> np.ndarray:
        """The numbers within the clip, int64[t * pictures], of the stored pictures of `frames`, int64[t]."""
        return (self.pictures * frames[:, None] + np.arange(self.pictures)).ravel()


MODALITIES = {
    'rgb': Modality(),
    'flow': Modality(pictures=FLOW.per_frame, depth=1, ahead=1),
    'rgbdiff': Modality(ahead=1),
}
