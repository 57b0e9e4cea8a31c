"""Networks whose weights are set by hand, so that what they look at is known: class 0 is red, class 1 is green.

A clip is black but for a red square in one frame and a green one in another. A red square is all the evidence for red.
"""

from pathlib import Path
from typing import Any

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vidcls.config import AugmentConfig, Config, ModelConfig, SamplingConfig
from vidcls.data.frame_storage import FrameStorage
from vidcls.predict import Classifier
from vidcls.run.workdir import Run

LABELS = ('red', 'green')
SIDE = 64  # pixels of a frame
SCALE = {'mean': (0.0, 0.0, 0.0), 'std': (1.0, 1.0, 1.0)}  # a covered pixel is black


class Colours(nn.Module):
    """How red and how green each cell is: images [n h w c] -> maps [n h/p w/p 2], p pixels a cell."""

    pixels: int

    @nn.compact
    def __call__(self, x):
        cells = einops.reduce(x, 'n (h p) (w q) c -> n h w c', 'mean', p=self.pixels, q=self.pixels)
        return jax.nn.relu(nn.Dense(2, use_bias=False, name='mix')(cells))


class Trunk(nn.Module):
    """A 2-D network of two stages, for TSN and ECO, whose 3-D part reads the maps of the first one."""

    pixels: int = 8

    def setup(self):
        self.first, self.last = Colours(self.pixels), Colours(1)

    def __call__(self, x, train: bool = False):
        return self.tap_and_features(x)[1]

    def tap(self, x, train: bool = False):
        return self.first(x)

    def tap_and_features(self, x, train: bool = False):
        maps = self.first(x)
        return maps, self.last(maps).mean((1, 2))


TRUNK = {
    'first': {'mix': {'kernel': np.float32([[1, 0], [0, 1], [0, 0]])}},
    'last': {'mix': {'kernel': np.eye(2, dtype=np.float32)}},
}
HEAD = {'kernel': 4 * np.eye(2, dtype=np.float32), 'bias': np.zeros(2, np.float32)}
TSN = {'params': {'backbone': TRUNK, 'head': HEAD}}


def classifier(name: str, variables: Any, frames: int, crops: int = 1, side: int = SIDE, **model: Any) -> Classifier:
    """A classifier of clips of `frames` frames of `SIDE` pixels, each of which the network sees, in `side` pixels."""
    config = Config(
        model=ModelConfig(name=name, **model),
        sampling=SamplingConfig(num_segments=frames),
        augment=AugmentConfig(crop='random', short_side=SIDE, crop_size=side, **SCALE),
    )
    return Classifier(Run(Path(), config, LABELS, FrameStorage(SIDE)), variables, crops=crops)


def clip(frames: int, red: tuple[slice, slice, slice], green: tuple[slice, slice, slice] | None = None) -> np.ndarray:
    """uint8[t h w c], black but for a box of each colour."""
    video = np.zeros((frames, SIDE, SIDE, 3), np.uint8)
    video[(*red, 0)] = 255
    if green is not None:
        video[(*green, 1)] = 255
    return video


def share(values: np.ndarray, box: tuple[slice, slice, slice]) -> float:
    """The share of a map's mass within a box."""
    return float(values[box].sum() / values.sum())


def centre_taps(params: Any) -> Any:
    """ECO's 3-D part as a picker: each cell is what stands at its first frame and its top left corner.

    Shortcuts and the opening convolution pass each channel on; the other convolutions are zero.
    """

    def one(path, x):
        names = [part.key for part in path]
        if names[-1] == 'kernel' and (names[0] == 'res3a' or 'down' in names):
            picked = np.zeros(x.shape, np.float32)
            picked[1, 1, 1, :2, :2] = np.eye(2)
            return picked
        return jnp.ones_like(x) if names[-1] == 'scale' else jnp.zeros_like(x)

    return jax.tree_util.tree_map_with_path(one, params)


def timesformer(params: Any) -> Any:
    """A TimeSformer of width 8 in which CLS attends to red and green patches of each frame, and the head reads both.

    Channels of a token: 0 red, 1 green, 3 it is CLS, 5 it is a patch; 6 is always zero, so that channel 0 minus channel 6
    is zero after LayerNorm where it was zero before. Attention over time does nothing.
    """
    zero = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), params)
    for path, leaf in jax.tree_util.tree_leaves_with_path(zero):
        if path[-1].key == 'scale':
            leaf[:] = 1
    patch = zero['patch_embed']['proj']['kernel']  # [p p c d]
    patch[:, :, 0, 0] = patch[:, :, 1, 1] = 1 / (patch.shape[0] * patch.shape[1])
    zero['cls_token'][..., 3] = 1
    zero['pos_embed'][:, 1:, 5] = 1
    attention = zero['blocks_0']['attn']
    qkv = attention['qkv']['kernel']  # [d 3*d]
    qkv[3, 0] = qkv[3, 1] = 3  # queries: CLS asks for both colours
    for colour in (0, 1):
        qkv[colour, 8 + colour] = 2  # keys
        qkv[6, 8 + colour] = -2
        qkv[colour, 16 + colour] = 1  # values
        qkv[6, 16 + colour] = -1
        attention['proj']['kernel'][colour, colour] = 1
    zero['head']['kernel'][:2] = np.eye(2)
    return zero
