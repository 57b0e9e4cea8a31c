"""The networks by name. Every model maps a video [b t h w c] to logits [b k].

TSN and ECO are given their image network, and ECO its 3-D part too. These inner networks share four settings:

    width        the channels of the first stage; all other widths are in a fixed proportion to it
    dtype        the type that the network computes in; parameters, features and logits are float32
    axis_name    the pmap axis over which BatchNorm is synchronised; with None, each device has its own statistics
    remat        whether a block's activations are computed again in the backward pass instead of being kept

`MODELS` is the table of networks. To add a network of your own, add a row:

    models.MODELS['mine'] = (MyNetwork, {'backbone': ResNet}, {'stage_sizes': (2, 2, 2, 2)})

A row is (module class, {field: class of the inner network that this field gets}, {setting: value}). The settings of a
row are those that differ from the defaults of these classes. A setting goes to every class that has a field of this
name. The module must have a field `num_classes`, and is called as `module(video, train)`. A module that also has the
methods `encode_frames` and `classify` can be streamed.

Flax's `capture_intermediates` gives the intermediate features and the attention of every network. Its filter gets a
module and the name of a method; where the filter returns True, the method's result is kept:

    def chosen(module, method):
        return module.name in ('norm', 'qkv') and method == '__call__'

    logits, captured = model.apply(
        variables, video, capture_intermediates=chosen, mutable=['intermediates'])
    found = captured['intermediates']
    features = found['norm']['__call__'][0]                        # TimeSformer: [b d], before the classifier
    qkv = found['blocks_2']['attn']['qkv']['__call__'][0]          # [b t 1+n 3*d], divided attention over space
    q, k, _ = (einops.rearrange(x, 'b t n (m d) -> b t m n d', m=model.num_heads) for x in jnp.split(qkv, 3, -1))
    weights = jax.nn.softmax(q @ k.swapaxes(-1, -2) / q.shape[-1] ** 0.5)     # [b t m 1+n 1+n], of m heads

A module has the same path in `captured` as in the parameters. The last features of each branch, for n segments, come
from these modules and methods:

    TSN             backbone, `__call__`            [(b n) d]
    ECO, 2-D        backbone, `tap`                 maps [(b n) h/8 w/8 c], which the 3-D part reads
    ECO Full, 2-D   backbone, `tap_and_features`    the same maps, and features [(b n) d]
    ECO, 3-D        tail, `__call__`                [b d]
    TimeSformer     norm, `__call__`                [b d]

A TimeSformer that was built with `remat` captures nothing from its blocks. Its parameters also fit a TimeSformer
without `remat`, which captures everything.
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
      overrides: values of the model's settings, by the name of the setting.

    Raises:
      UserError: the name or an override is unknown; the message lists the known names.
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
    """The names of a model's settings: the fields of the model and of its inner networks, except `num_classes`.

    Raises:
      UserError: the model's name is unknown; the message lists the known names.
    """
    if name not in MODELS:
        raise UserError(f'unknown model {name!r}{spelling.hint(name, MODELS)}; known: {", ".join(sorted(MODELS))}')
    module, parts, _ = MODELS[name]
    return set[str]().union(*map(_fields, (module, *parts.values()))) - set(parts) - {'num_classes'}


def _fields(module: type[nn.Module]) -> set[str]:
    return {field.name for field in dataclasses.fields(module)} - {'parent', 'name'}
