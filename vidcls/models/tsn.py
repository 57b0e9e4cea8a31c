"""Temporal Segment Network: video [b t h w c] -> logits [b k].

Wang et al. 2016 (arXiv:1608.00859), section 3.1: one image network looks at a snippet of each segment, and the evidence
of the segments is averaged ("segmental consensus"), so that the order of the segments is lost.
"""

import einops
import flax.linen as nn

from vidcls.models import segments


class TSN(nn.Module):
    """The features of every segment, their average, dropout and one linear classifier.

    `backbone` is the image network, images [n h w c] -> float32 features [n d]. The paper averages the logits of the
    segments. Here, as in mmaction2's TSNHead, the features are averaged first. At evaluation this is the same function;
    in training it means one dropout mask for each clip. The dropout rate 0.4 and the initial deviation 0.01 of the
    classifier are TSNHead's too.

    `num_segments` is the number of segments in training; the network takes any number. `seg_len` consecutive frames of
    a segment are stacked on the channel axis.
    """

    num_classes: int
    backbone: nn.Module
    num_segments: int = 3
    seg_len: int = 1
    dropout: float = 0.4

    def setup(self):
        self.drop = nn.Dropout(self.dropout)
        self.head = nn.Dense(self.num_classes, kernel_init=nn.initializers.normal(0.01))

    def __call__(self, video, train: bool = False):
        """The logits float32 [b k] of a normalised float32 video [b t h w c] with t = segments * seg_len.

        Raises:
          UserError: t is zero or no multiple of `seg_len`.
          ValueError: the video has not five axes.
        """
        return self.classify(self.encode_frames(video, train), train)

    def encode_frames(self, video, train: bool = False):
        """The features [b n d] of a video's n segments. A stream keeps these features."""
        x = segments.stack(video, self.seg_len)
        features = self.backbone(einops.rearrange(x, 'b n h w c -> (b n) h w c'), train)
        return einops.rearrange(features, '(b n) d -> b n d', n=x.shape[1])

    def classify(self, features, train: bool = False):
        """The logits [b k] of features [b n d] from `encode_frames`, of all segments or of some."""
        return self.head(self.drop(features.mean(1), deterministic=not train))
