"""Temporal Segment Network: video [b t h w c] -> logits [b k].

Wang et al. 2016 (arXiv:1608.00859), section 3.1: one image network looks at a snippet of each
segment, and the evidence of the segments is averaged ("segmental consensus"), so that their order is lost.
"""

import einops
import flax.linen as nn

from vidcls.models import segments


class TSN(nn.Module):
    """Features of every segment, their average, dropout, one linear classifier.

    `backbone` is the image network, images [n h w c] -> float32 features [n d]. The paper averages the logits of the
    segments. Here, as in mmaction2's TSNHead, the features are averaged first: at evaluation this is the same function, and
    in training it means one dropout mask for each clip. Dropout 0.4 and the classifier's initial deviation 0.01 are also
    those of TSNHead.

    `num_segments` is the number that training samples; the network takes any number of segments. `seg_len` consecutive
    frames of a segment are stacked on the channel axis.
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
          UserError: t is no multiple of `seg_len`.
          ValueError: the video has not five axes.
        """
        return self.classify(self.encode_frames(video, train), train)

    def encode_frames(self, video, train: bool = False):
        """Features [b n d] of the n segments of a video, which are what a stream keeps."""
        x = segments.stack(video, self.seg_len)
        features = self.backbone(einops.rearrange(x, 'b n h w c -> (b n) h w c'), train)
        return einops.rearrange(features, '(b n) d -> b n d', n=x.shape[1])

    def classify(self, features, train: bool = False):
        """Logits [b k] of features [b n d] from `encode_frames`, of all segments or of any of them."""
        return self.head(self.drop(features.mean(1), deterministic=not train))
