"""TimeSformer: video [b t h w c] -> logits [b k].

Bertasius et al. 2021 (arXiv:2102.05095), section 3: a Vision Transformer whose tokens are the patches of all frames.
Divided attention (T+S) looks first at the same patch of every frame, then at every patch of the same frame. Joint
attention looks at every patch of every frame. Space-only attention stays within a frame. What the paper leaves open is
as in the authors' code, so that their weights fit: `blocks.0.temporal_attn.qkv.weight` is
`blocks_0/temporal_attn/qkv/kernel`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import einops
import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from vidcls.errors import UserError
from vidcls.models.layers import Implementation, LayerNorm, recomputed
from vidcls.models.vit import MLP, Attention, Block, PatchEmbed, dense_init, drop_path
from vidcls.text import spelling


class DividedBlock(nn.Module):
    """Attention over time, then over space, then the MLP: tokens [b 1+n*t d] -> [b 1+n*t d].

    After CLS the tokens stand patch by patch, and for each patch frame by frame. CLS takes no part in the attention
    over time. For the attention over space each frame gets a copy of CLS, and the outputs of the copies are averaged.
    The layer `temporal_fc` ends the attention over time; `temporal_init` initialises its kernel.

    `drop_path` is the rate at which a path is left out in training. As published, the attention over time draws for
    each patch of a clip ([b n 1 1]), the attention over space for each frame ([b t 1 1]), and the MLP for each clip
    ([b 1 1]).
    """

    num_heads: int
    num_frames: int
    temporal_init: Callable
    drop_path: float = 0.0
    dtype: Any = jnp.float32
    kernel_init: Callable = dense_init
    attention_implementation: Implementation | None = None

    @nn.compact
    def __call__(self, x, train: bool):
        attention = partial(Attention, self.num_heads, self.dtype, self.kernel_init, self.attention_implementation)
        drop = partial(drop_path, rate=self.drop_path, train=train)
        t = self.num_frames
        cls, patches = x[:, :1], x[:, 1:]

        over_time = LayerNorm(name='temporal_norm1')(einops.rearrange(patches, 'b (n t) d -> b n t d', t=t))
        # As published, the path is dropped before the projection, so that the projection's bias always acts.
        seen = drop(attention(name='temporal_attn')(over_time))
        seen = nn.Dense(x.shape[-1], dtype=self.dtype, kernel_init=self.temporal_init, name='temporal_fc')(seen)
        patches = patches + einops.rearrange(seen, 'b n t d -> b (n t) d')

        frames = einops.rearrange(patches, 'b (n t) d -> b t n d', t=t)
        over_space = jnp.concatenate([einops.repeat(cls, 'b 1 d -> b t 1 d', t=t), frames], axis=2)
        seen = drop(attention(name='attn')(LayerNorm(name='norm1')(over_space)))
        cls = cls + einops.reduce(seen[:, :, :1], 'b t 1 d -> b 1 d', 'mean')
        patches = patches + einops.rearrange(seen[:, :, 1:], 'b t n d -> b (n t) d')

        x = jnp.concatenate([cls, patches], axis=1)
        return x + drop(MLP(self.dtype, self.kernel_init, name='mlp')(LayerNorm(name='norm2')(x)))


class Start(NamedTuple):
    """The initialisers of the parameters, which the docstring of `TimeSformer` describes."""

    position: Callable
    time: Callable
    temporal_fc: Callable
    kernel: Callable

    @classmethod
    def of(cls, embedding_std: float | None) -> 'Start':
        if embedding_std is None:
            zeros = nn.initializers.zeros
            return cls(position=dense_init, time=zeros, temporal_fc=zeros, kernel=dense_init)
        embedding, kernel = nn.initializers.normal(embedding_std), nn.initializers.lecun_normal()
        return cls(position=embedding, time=embedding, temporal_fc=kernel, kernel=kernel)


def divided_settings(model: 'TimeSformer') -> dict[str, Any]:
    """The values of the fields that `DividedBlock` has and `Block` has not."""
    return {'num_frames': model.num_frames, 'temporal_init': Start.of(model.embedding_std).temporal_fc}


class Scheme(NamedTuple):
    """A scheme of attention: the block, the fields that only this block has, and whether a sequence is a frame.

    With `per_frame` each frame is a sequence with a CLS of its own; without `per_frame` the whole video is one
    sequence.
    """

    block: type[nn.Module]
    settings: Callable[['TimeSformer'], dict[str, Any]] = lambda model: {}
    per_frame: bool = False


# Name in `--config.model.attention` -> the scheme.
SCHEMES = {
    'divided': Scheme(DividedBlock, divided_settings),
    'joint': Scheme(Block),
    'space': Scheme(Block, per_frame=True),
}


class TimeSformer(nn.Module):
    """Tokens of every frame's patches, then blocks of attention, then a linear classifier of CLS.

    `attention` is a key of `SCHEMES`. The parameters are made for `num_frames` frames of the size `image_size`: one
    number or (h, w), in pixels. For other sizes build another network; `vidcls.models.embeddings` resizes the
    parameters. `drop_path` is the rate of the last block; the rates of the earlier blocks rise linearly from 0.
    `dropout` acts on the features before the classifier; the published configurations name 0.5, but their code never
    uses it.

    With `embedding_std` None the network starts as published: the time embedding and `temporal_fc` are zero, so that
    frames meet in CLS alone, and positions have a deviation of 0.02. This suits the weights of an image network. From
    scratch, this start learns slowly: on clips that differ in motion alone, a small network learnt the kind of motion
    and never its direction.

    If `embedding_std` is a number, position and time embeddings start with this deviation (0.5 did well on those
    clips). Every layer, `temporal_fc` included, then starts so that it keeps the scale of its input. The published
    deviation of 0.02 keeps that scale at width 768 and not at width 64.

    `dtype` is the compute type; parameters, features and logits are float32. `remat` computes a block's activations
    again in the backward pass instead of keeping them. `attention_implementation` is passed to
    `jax.nn.dot_product_attention`; None takes the form that suits the backend.
    """

    num_classes: int
    num_frames: int = 8
    image_size: int | tuple[int, int] = 224
    patch_size: int = 16
    width: int = 768
    depth: int = 12
    num_heads: int = 12
    attention: str = 'divided'
    drop_path: float = 0.1
    dropout: float = 0.0
    embedding_std: float | None = None
    dtype: Any = jnp.float32
    remat: bool = False
    attention_implementation: Implementation | None = None

    @property
    def grid(self) -> tuple[int, int]:
        """The numbers of rows and columns of patches."""
        h, w = self.frame_size
        return h // self.patch_size, w // self.patch_size

    @property
    def frame_size(self) -> tuple[int, int]:
        """The height and width of a frame, in pixels."""
        h, w = (self.image_size, self.image_size) if isinstance(self.image_size, int) else self.image_size
        return h, w

    @nn.compact
    def __call__(self, video, train: bool = False):
        """The logits float32 [b k] of a normalised float32 video [b t h w c].

        Raises:
          UserError: the fields contradict each other, or the video has another size than the fields give.
          ValueError: the video has not five axes.
        """
        self.check(video)
        scheme = SCHEMES[self.attention]
        x = PatchEmbed(self.width, self.patch_size, self.dtype, name='patch_embed')(video)

        start = Start.of(self.embedding_std)
        cls = self.param('cls_token', dense_init, (1, 1, self.width))
        position = self.param('pos_embed', start.position, (1, 1 + x.shape[2], self.width))
        x = x + position[:, 1:]
        if not scheme.per_frame:
            time = self.param('time_embed', start.time, (1, self.num_frames, self.width))
            x = einops.rearrange(x + einops.rearrange(time, '1 t d -> 1 t 1 d'), 'b t n d -> b (n t) d')
        cls = jnp.broadcast_to(cls + position[:, :1], (*x.shape[:-2], 1, self.width))
        x = jnp.concatenate([cls, x], axis=-2).astype(self.dtype)

        for i, rate in enumerate(np.linspace(0, self.drop_path, self.depth)):
            block = scheme.block(
                num_heads=self.num_heads,
                drop_path=float(rate),
                dtype=self.dtype,
                kernel_init=start.kernel,
                attention_implementation=self.attention_implementation,
                name=f'blocks_{i}',
                **scheme.settings(self),
            )
            x = recomputed(block, x, train) if self.remat and not self.is_initializing() else block(x, train)

        # As published, the CLS tokens of all frames are averaged before the norm. If the whole video is one sequence,
        # its one CLS token is its own average.
        cls = einops.reduce(x[..., 0, :].astype(jnp.float32), 'b ... d -> b d', 'mean')
        features = LayerNorm(name='norm')(cls)
        features = nn.Dropout(self.dropout, deterministic=not train)(features)
        return nn.Dense(self.num_classes, kernel_init=dense_init, name='head')(features)

    def encode_frames(self, video, train: bool = False):
        """The frames themselves. A stream keeps frames, because the features of a frame depend on its place in time."""
        return video

    def classify(self, features, train: bool = False):
        """The logits float32 [b k] of the frames from `encode_frames`."""
        return self(features, train)

    def check(self, video) -> None:
        """Refuses fields that contradict each other, and a video of another size than the fields give."""
        if self.attention not in SCHEMES:
            near = spelling.hint(self.attention, SCHEMES)
            raise UserError(f'attention={self.attention!r}: must be one of {", ".join(SCHEMES)}{near}')
        if self.width % self.num_heads:
            raise UserError(
                f'width={self.width} is not divisible by num_heads={self.num_heads}: heads share the width equally'
            )
        if any(side % self.patch_size for side in self.frame_size):
            raise UserError(
                f'image_size={self.image_size} is not a multiple of patch_size={self.patch_size}: '
                'patches must cover the frame'
            )
        if video.ndim != 5:
            raise ValueError(f'TimeSformer takes video[b t h w c], five axes; got shape {video.shape}')
        expected = (self.num_frames, *self.frame_size)
        if video.shape[1:4] != expected:
            raise UserError(
                f'the network is made for t, h, w = {expected}; got {video.shape[1:4]}: build it with num_frames and '
                'image_size of the video, and give it parameters through vidcls.models.embeddings.resize_embeddings'
            )
