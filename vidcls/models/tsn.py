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

    @nn.compact
    def __call__(self, video, train: bool = False):
        """Logits float32 [b k] of a normalised float32 video [b t h w c], t = segments * seg_len.

        Raises:
          ValueError: the video has not five axes, or t is no multiple of `seg_len`.
        """
        x = segments.stack(video, self.seg_len)
        features = self.backbone(einops.rearrange(x, 'b n h w c -> (b n) h w c'), train)
        features = einops.reduce(features, '(b n) d -> b d', 'mean', b=len(x))
        features = nn.Dropout(self.dropout, deterministic=not train)(features)
        head_init = nn.initializers.normal(0.01)
        return nn.Dense(self.num_classes, kernel_init=head_init, name='head')(features)
