"""What a network sees of a frame: its colours, the optical flow to the next frame, or the difference to the next frame.

    modality   a frame is stored as        the network is given, c        frames that are read of a segment
    rgb        1 picture, red green blue   3, the colours                 seg_len
    flow       2 pictures, grey: x, y      2, motion right and down       seg_len
    rgbdiff    1 picture, red green blue   3, next frame minus this one   seg_len + 1

Flow and difference are stacked over the `seg_len` frames of a segment. The published networks stack 5 frames: flow as
x1 y1 ... x5 y5, and differences as five times red green blue (Wang et al. 2016, arXiv:1608.00859, section 3.2; Simonyan
and Zisserman 2014, arXiv:1406.2199, section 3.1). `vidcls.data.transform` turns the pictures into what the network is
given. `vidcls.config.CHANNELS` has the mean and the deviation of each channel.
"""

from typing import NamedTuple

import numpy as np

from vidcls.data.frame_index import FLOW


class Modality(NamedTuple):
    """How the pictures of a modality are read.

    Attributes:
      pictures: the number of stored pictures of a frame.
      depth: the number of channels of a picture.
      ahead: the number of later frames that also decide what the network sees of a frame.
    """

    pictures: int = 1
    depth: int = 3
    ahead: int = 0

    @property
    def beyond(self) -> int:
        """The number of frames that are read of a segment in addition to its `seg_len` frames."""
        return self.ahead if self.pictures == 1 else 0  # the two pictures of flow show the motion already

    def rows(self, frames: np.ndarray) -> np.ndarray:
        """The numbers int64[t * pictures], within the clip, of the stored pictures of the frames int64[t]."""
        return (self.pictures * frames[:, None] + np.arange(self.pictures)).ravel()


MODALITIES = {
    'rgb': Modality(),
    'flow': Modality(pictures=FLOW.per_frame, depth=1, ahead=1),
    'rgbdiff': Modality(ahead=1),
}
