"""Temporal Segment Network: video [b t h w c] -> logits [b k].

Wang et al. 2016 (arXiv:1608.00859), section 3.1: one picture network looks at a snippet of each
segment, and the segments' evidence is averaged ("segmental consensus"), so their order is unseen.
"""

import einops
import flax.linen as nn

from vidcls.models import segments


class TSN(nn.Module):
    """Features of every segment, their average, dropout, one linear classifier.

    `backbone` is the picture network, pictures [n h w c] -> float32 features [n d]. The paper averages
    the segments' logits; averaging features first, as mmaction2's TSNHead does, is the same function at
    evaluation and one dropout mask per clip in training. Dropout 0.4 and the classifier's initial
    deviation 0.01 are that head's too.

    `num_segments` is what training samples; the network takes any number of segments. `seg_len`
    consecutive frames of a segment are stacked on the channel axis.
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
        """Logits float32 [b k] of a normalised float32 video [b t h w c], t = segments * seg_len.

        Raises:
          ValueError: the video has not five axes, or t is no multiple of `seg_len`.
        """
        return self.classify(self.encode_frames(video, train), train)

    def encode_frames(self, video, train: bool = False):
        """Features [b n d] of the n segments of a video; a stream keeps them."""
        x = segments.stack(video, self.seg_len)
        features = self.backbone(einops.rearrange(x, 'b n h w c -> (b n) h w c'), train)
        return einops.rearrange(features, '(b n) d -> b n d', b=len(x))

    def classify(self, features, train: bool = False):
        """Logits of what `encode_frames` returned, or of any of its segments."""
        return self.head(self.drop(features.mean(1), deterministic=not train))
