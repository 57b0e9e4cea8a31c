"""ECO: video [b t h w c] -> logits [b k].

Zolfaghari et al. 2018 (arXiv:1804.09066), figure 2. ECO Lite: a 2-D network looks at one frame of each segment, and a
3-D network relates the 2-D network's intermediate maps in time. ECO Full: a second branch averages the 2-D network's
final features over the frames. One method sees single frames and another the whole clip, so that a stream computes each
frame once:

    features = model.apply(variables, video, method='encode_frames')    # of each frame, to be kept
    logits = model.apply(variables, features, method='classify')        # of the kept frames
"""

import einops
import flax.linen as nn
import jax.numpy as jnp

from vidcls.errors import UserError
from vidcls.models import segments
from vidcls.models.resnet3d import SHORTENS

# Caffe's "xavier" has variance 1 / inputs, whatever the number of outputs.
xavier = nn.initializers.variance_scaling(1.0, 'fan_in', 'uniform')


class ECOLite(nn.Module):
    """ECO with the 3-D branch alone.

    `backbone.tap` makes maps of frames, and `tail` makes features [b d] of a clip's maps. `num_segments` is the number
    of segments in training; the network takes any multiple of 4. `seg_len` consecutive frames of a segment are stacked
    on the channel axis (published: 1). The dropout rate is that of the published training on UCF101 and HMDB51.
    """

    num_classes: int
    backbone: nn.Module
    tail: nn.Module
    num_segments: int = 16
    seg_len: int = 1
    dropout: float = 0.6

    def setup(self):
        self.drop = nn.Dropout(self.dropout)
        self.head = nn.Dense(self.num_classes, kernel_init=xavier)

    def __call__(self, video, train: bool = False):
        """The logits float32 [b k] of a normalised float32 video [b t h w c] with t = segments * seg_len.

        Raises:
          UserError: t is no multiple of `seg_len`, or the number of segments is no multiple of 4.
          ValueError: the video has not five axes.
        """
        return self.classify(self.encode_frames(video, train), train)

    def encode_frames(self, video, train: bool = False):
        """The maps [b n h/8 w/8 c'] of a video's n segments."""
        x = segments.stack(video, self.seg_len)
        tap = self.backbone.tap(einops.rearrange(x, 'b n h w c -> (b n) h w c'), train)
        return einops.rearrange(tap, '(b n) h w c -> b n h w c', n=x.shape[1])

    def classify(self, features, train: bool = False):
        """The logits [b k] of the maps from `encode_frames`, of all segments or of any 4, 8, 12, ... of them."""
        return self.head(self.clip_features(features, train))

    def clip_features(self, maps, train: bool):
        """The features [b d] that the 3-D part makes of maps [b n h w c], after dropout.

        Raises:
          UserError: n is zero or no multiple of 4.
        """
        number = maps.shape[1]
        if number % SHORTENS or number == 0:
            nearest = max(SHORTENS, (number + SHORTENS // 2) // SHORTENS * SHORTENS)
            raise UserError(
                f'{number} segments: ECO halves their number twice and needs a multiple of {SHORTENS}, such as {nearest}'
            )
        return self.drop(self.tail(maps, train), deterministic=not train)


class ECOFull(ECOLite):
    """ECO with both branches.

    The classifier sees the mean of the frames' features [1024] and after it the 3-D part's features [512].
    `backbone.tap_and_features` makes the maps and the features of frames. `frame_dropout` acts on the features of each
    frame before the mean is taken, `dropout` on the 3-D part's features. Except for the head, this network has all
    parameters of `ECOLite`.
    """

    dropout: float = 0.5
    frame_dropout: float = 0.6

    def setup(self):
        super().setup()
        self.drop_frame = nn.Dropout(self.frame_dropout)

    def encode_frames(self, video, train: bool = False):
        """The maps [b n h/8 w/8 c'] and the features [b n d] of a video's n segments."""
        x = segments.stack(video, self.seg_len)
        tap, features = self.backbone.tap_and_features(einops.rearrange(x, 'b n h w c -> (b n) h w c'), train)
        return (
            einops.rearrange(tap, '(b n) h w c -> b n h w c', n=x.shape[1]),
            einops.rearrange(features, '(b n) d -> b n d', n=x.shape[1]),
        )

    def classify(self, features, train: bool = False):
        """The logits [b k] of what `encode_frames` returned, of all segments or of any 4, 8, 12, ... of them."""
        maps, of_frames = features
        mean = self.drop_frame(of_frames, deterministic=not train).mean(1)
        return self.head(jnp.concatenate([mean, self.clip_features(maps, train)], axis=-1))
