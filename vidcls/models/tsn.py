"""Temporal Segment Network: video [b t h w c] -> logits [b k].

Wang et al. 2016 (arXiv:1608.00859), section 3.1: one picture network looks at a snippet of each
segment, and the segments' evidence is averaged ("segmental consensus"), so their order is unseen.
"""

from collections.abc import Sequence
from typing import Any

import einops
import flax.linen as nn
import jax.numpy as jnp

from vidcls.models.resnet import ResNet


class TSN(nn.Module):
    """ResNet features of every segment, their average, dropout, one linear classifier.

    The paper averages the segments' logits; averaging features first, as mmaction2's TSNHead does,
    is the same function at evaluation and one dropout mask per clip in training. Dropout 0.4 and
    the classifier's initial deviation 0.01 are that head's too.

    `num_segments` is what training samples; the network takes any number of segments. `seg_len`
    consecutive frames of a segment are stacked on the channel axis. `axis_name` is the pmap axis
    over which BatchNorm is synchronised (None: each device its own). `dtype` is the compute type;
    parameters, features and logits are float32.
    """

    num_classes: int
    num_segments: int = 3
    seg_len: int = 1
    dropout: float = 0.4
    stage_sizes: Sequence[int] = (3, 4, 6, 3)
    width: int = 64
    dtype: Any = jnp.float32
    axis_name: str | None = None
    remat: bool = False

    @nn.compact
    def __call__(self, video, train: bool = False):
        """Logits float32 [b k] of a normalised float32 video [b t h w c], t = segments * seg_len.

        Raises:
          ValueError: the video has not five axes, or t is no multiple of `seg_len`.
        """
        if video.ndim != 5:
            raise ValueError(f'TSN takes video[b t h w c], five axes; got shape {video.shape}')
        if video.shape[1] == 0 or video.shape[1] % self.seg_len:
            raise ValueError(
                f'{video.shape[1]} frames are not a multiple of seg_len={self.seg_len}: '
                'give num_segments * seg_len frames'
            )
        segments = video.shape[1] // self.seg_len
        x = einops.rearrange(video, 'b (n s) h w c -> (b n) h w (s c)', s=self.seg_len)
        backbone = ResNet(
            self.stage_sizes, self.width, self.dtype, self.axis_name, self.remat, name='backbone'
        )
        features = einops.reduce(backbone(x, train), '(b n) d -> b d', 'mean', n=segments)
        features = nn.Dropout(self.dropout, deterministic=not train)(features)
        head_init = nn.initializers.normal(0.01)
        return nn.Dense(self.num_classes, kernel_init=head_init, name='head')(features)
