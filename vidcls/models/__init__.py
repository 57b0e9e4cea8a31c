"""The networks by name. Every model is video [b t h w c] -> logits [b k].

The image networks and ECO's 3-D part, which the models are given, share these settings: `width`, the channels of the first
stage, to which all other widths stand in a fixed proportion; `dtype`, the compute type (parameters, features and logits are
float32); `axis_name`, the pmap axis over which BatchNorm is synchronised (None: each device has its own statistics);
`remat`, which computes a block's activations again in the backward pass instead of keeping them.

`MODELS` is the table of networks, and a network of one's own is a row more:

    models.MODELS['mine'] = (MyNetwork, {'backbone': ResNet}, {'stage_sizes': (2, 2, 2, 2)})

The row is (module class, {field: class of a network that the module is given}, {setting: value}). The settings are those that
differ from the defaults of these classes, and go to each class that has a field of the name. The module has a field
`num_classes` and is called as `module(video, train)`; with methods `encode_frames` and `classify` it can be streamed.

Intermediate features and attention of every network come from Flax's `capture_intermediates`. Its filter takes a module and
the name of the method that was called, and keeps what the method returned:

    def chosen(module, method):
        return module.name in ('norm', 'qkv') and method == '__call__'

    logits, captured = model.apply(
        variables, video, capture_intermediates=chosen, mutable=['intermediates'])
    found = captured['intermediates']
    features = found['norm']['__call__'][0]                        # TimeSformer: [b d], before the classifier
    qkv = found['blocks_2']['attn']['qkv']['__call__'][0]          # [b t 1+n 3*d], divided attention over space
    q, k, _ = (einops.rearrange(x, 'b t n (m d) -> b t m n d', m=model.num_heads) for x in jnp.split(qkv, 3, -1))
    weights = jax.nn.softmax(q @ k.swapaxes(-1, -2) / q.shape[-1] ** 0.5)     # [b t m 1+n 1+n], of m heads

The path in `captured` is that of the parameters. The last features of each branch, with segments n:

    TSN             backbone, `__call__`            [(b n) d]
    ECO, 2-D        backbone, `tap`                 maps [(b n) h/8 w/8 c], which the 3-D part reads
    ECO Full, 2-D   backbone, `tap_and_features`    these maps, and features [(b n) d]
    ECO, 3-D        tail, `__call__`                [b d]
    TimeSformer     norm, `__call__`                [b d]

TimeSformer's blocks give nothing when it is built with `remat`; its parameters fit the network without.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from vidcls.errors import UserError
from vidcls.models.bn_inception import BNInception
from vidcls.models.eco import ECOFull, ECOLite
from vidcls.models.resnet import ResNet
from vidcls.models.resnet3d import ResNet3D
from vidcls.models.timesformer import TimeSformer
from vidcls.models.tsn import TSN
from vidcls.text import spelling

Row = tuple[type[nn.Module], Mapping[str, type[nn.Module]], Mapping[str, Any]]

# Stage sizes: He et al. 2015 (arXiv:1512.03385), table 1. TimeSformer, -HR and -L: Bertasius et al. 2021
# (arXiv:2102.05095), section 4. The tiny and micro networks are ours, for demos and tests.
ECO_PARTS = {'backbone': BNInception, 'tail': ResNet3D}
MODELS: dict[str, Row] = {
    'tsn_resnet50': (TSN, {'backbone': ResNet}, {'stage_sizes': (3, 4, 6, 3)}),
    'tsn_resnet101': (TSN, {'backbone': ResNet}, {'stage_sizes': (3, 4, 23, 3)}),
    'tsn_resnet152': (TSN, {'backbone': ResNet}, {'stage_sizes': (3, 8, 36, 3)}),
    'tsn_bninception': (TSN, {'backbone': BNInception}, {}),
    'tsn_tiny': (TSN, {'backbone': ResNet}, {'stage_sizes': (1, 1, 1, 1), 'width': 16}),
    'tsn_micro': (TSN, {'backbone': ResNet}, {'stage_sizes': (1,), 'width': 4}),
    'eco_full': (ECOFull, ECO_PARTS, {}),
    'eco_lite': (ECOLite, ECO_PARTS, {}),
    'eco_tiny': (ECOLite, ECO_PARTS, {'width': 16}),
    'timesformer_base': (TimeSformer, {}, {}),
    'timesformer_hr': (TimeSformer, {}, {'num_frames': 16, 'image_size': 448}),
    'timesformer_large': (TimeSformer, {}, {'num_frames': 96}),
    'timesformer_tiny': (TimeSformer, {}, {'width': 96, 'depth': 3, 'num_heads': 4}),
}


def build(name: str, num_classes: int, **overrides) -> nn.Module:
    """The model called `name`.

    Args:
      overrides: setting of the model -> value.

    Raises:
      UserError: the name or an override is unknown; the message lists the known ones.
    """
    known = settings(name)
    unknown = sorted(set(overrides) - known)
    if unknown:
        near = spelling.hint(unknown[0], known)
        raise UserError(f'{name} has no setting {", ".join(unknown)}{near}; known: {", ".join(sorted(known))}')
    module, parts, defaults = MODELS[name]
    given = {**defaults, **overrides}

    def create(cls: type[nn.Module], **more: Any) -> nn.Module:
        return cls(**{field: value for field, value in given.items() if field in _fields(cls)}, **more)

    return create(module, num_classes=num_classes, **{part: create(cls) for part, cls in parts.items()})


def settings(name: str) -> set[str]:
    """The settings of a model: its fields and those of the networks that it is given, without `num_classes`.

    Raises:
      UserError: the name is unknown; the message lists the known ones.
    """
    if name not in MODELS:
        raise UserError(f'unknown model {name!r}{spelling.hint(name, MODELS)}; known: {", ".join(sorted(MODELS))}')
    module, parts, _ = MODELS[name]
    return set[str]().union(*map(_fields, (module, *parts.values()))) - set(parts) - {'num_classes'}


def _fields(module: type[nn.Module]) -> set[str]:
    return {field.name for field in dataclasses.fields(module)} - {'parent', 'name'}
