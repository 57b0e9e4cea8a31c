"""ECO: video [b t h w c] -> logits [b k].

Zolfaghari et al. 2018 (arXiv:1804.09066), figure 2: a 2-D network looks at one picture of each segment, a
3-D network over the maps that it makes on the way relates the pictures in time (Lite); beside it the 2-D
network's own features are averaged (Full). The work on single pictures and the rest are methods of their
own, so that a stream computes each picture once:

    features = model.apply(variables, video, method='encode_frames')    of each frame, kept
    logits = model.apply(variables, features, method='classify')        of the frames at hand
"""

import einops
import flax.linen as nn
import jax.numpy as jnp

from vidcls.errors import UserError
from vidcls.models import segments
from vidcls.models.resnet3d import SHORTENS

# Caffe's "xavier", which counts the inputs alone: variance 1 / inputs.
xavier = nn.initializers.variance_scaling(1.0, 'fan_in', 'uniform')


class ECOLite(nn.Module):
    """The 3-D branch alone. `backbone` makes the maps (`tap`), `tail` a feature vector of a clip of them.

    `num_segments` is what training samples; the network takes any multiple of 4. `seg_len` consecutive
    frames of a segment are stacked on the channel axis (published: 1). Dropout as the published training
    on UCF101 and HMDB51 has it.
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
        """Logits float32 [b k] of a normalised float32 video [b t h w c], t = segments * seg_len.

        Raises:
          UserError: the video has not five axes, or its segments are not a multiple of 4.
        """
        return self.classify(self.encode_frames(video, train), train)

    def encode_frames(self, video, train: bool = False):
        """Maps [b n h/8 w/8 c'] of the n segments of a video."""
        x = segments.stack(video, self.seg_len)
        tap = self.backbone.tap(einops.rearrange(x, 'b n h w c -> (b n) h w c'), train)
        return einops.rearrange(tap, '(b n) h w c -> b n h w c', b=len(x))

    def classify(self, features, train: bool = False):
        """Logits of what `encode_frames` returned, or of any 4, 8, 12, ... of its segments."""
        return self.head(self.clip_features(features, train))

    def clip_features(self, maps, train: bool):
        """The 3-D part's vectors [b d] of maps [b n h w c], after dropout.

        Raises:
          UserError: n is not a multiple of 4.
        """
        number = maps.shape[1]
        if number % SHORTENS or number == 0:
            nearest = max(SHORTENS, (number + SHORTENS // 2) // SHORTENS * SHORTENS)
            raise UserError(
                f'{number} segments: ECO halves their number twice and needs a multiple of {SHORTENS}, such as {nearest}'
            )
        return self.drop(self.tail(maps, train), deterministic=not train)


class ECOFull(ECOLite):
    """Both branches: the mean of the frames' feature vectors [1024] and the 3-D part's [512], in this order.

    `backbone` makes maps and vectors (`tap_and_features`). `frame_dropout` acts on each frame's vector
    before their mean, `dropout` on the 3-D part's. The parameters of `ECOLite` are a part of these but for
    the head.
    """

    dropout: float = 0.5
    frame_dropout: float = 0.6

    def setup(self):
        super().setup()
        self.drop_frame = nn.Dropout(self.frame_dropout)

    def encode_frames(self, video, train: bool = False):
        """Maps [b n h/8 w/8 c'] and vectors [b n d] of the n segments of a video."""
        x = segments.stack(video, self.seg_len)
        tap, vectors = self.backbone.tap_and_features(einops.rearrange(x, 'b n h w c -> (b n) h w c'), train)
        return (
            einops.rearrange(tap, '(b n) h w c -> b n h w c', b=len(x)),
            einops.rearrange(vectors, '(b n) d -> b n d', b=len(x)),
        )

    def classify(self, features, train: bool = False):
        """As `ECOLite.classify`."""
        maps, vectors = features
        mean = self.drop_frame(vectors, deterministic=not train).mean(1)
        return self.head(jnp.concatenate([mean, self.clip_features(maps, train)], axis=-1))
