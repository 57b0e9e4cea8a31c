"""The networks by name. Every model is video[b t h w c] -> logits[b k].

The picture networks and ECO's 3-D part, which the models are given, share these settings: `width`, the channels of the
first stage, to which all others stand in a fixed proportion; `dtype`, the compute type (parameters, features and logits
are float32); `axis_name`, the pmap axis over which BatchNorm is synchronised (None: each device its own); `remat`.
"""

import dataclasses

import flax.linen as nn

from vidcls.errors import UserError
from vidcls.models.bn_inception import BNInception
from vidcls.models.eco import ECOFull, ECOLite
from vidcls.models.resnet import ResNet
from vidcls.models.resnet3d import ResNet3D
from vidcls.models.timesformer import TimeSformer
from vidcls.models.tsn import TSN
from vidcls.text import spelling

# Name -> (module class, the classes of the networks that it is given, the settings that differ from the
# defaults of these classes). Stage sizes: He et al. 2015 (arXiv:1512.03385), table 1. TimeSformer, -HR and -L:
# Bertasius et al. 2021 (arXiv:2102.05095), section 4. The tiny ones are ours, for tests and demos.
ECO_PARTS = {'backbone': BNInception, 'tail': ResNet3D}
MODELS = {
    'tsn_resnet50': (TSN, {'backbone': ResNet}, {'stage_sizes': (3, 4, 6, 3)}),
    'tsn_resnet101': (TSN, {'backbone': ResNet}, {'stage_sizes': (3, 4, 23, 3)}),
    'tsn_resnet152': (TSN, {'backbone': ResNet}, {'stage_sizes': (3, 8, 36, 3)}),
    'tsn_bninception': (TSN, {'backbone': BNInception}, {}),
    'tsn_tiny': (TSN, {'backbone': ResNet}, {'stage_sizes': (1, 1, 1, 1), 'width': 16}),
    'eco_full': (ECOFull, ECO_PARTS, {}),
    'eco_lite': (ECOLite, ECO_PARTS, {}),
    'eco_tiny': (ECOLite, ECO_PARTS, {'width': 16}),
    'timesformer_base': (TimeSformer, {}, {}),
    'timesformer_hr': (TimeSformer, {}, {'num_frames': 16, 'image_size': 448}),
    'timesformer_large': (TimeSformer, {}, {'num_frames': 96}),
    'timesformer_tiny': (TimeSformer, {}, {'width': 96, 'depth': 3, 'num_heads': 4}),
}


def build(name: str, num_classes: int, **overrides) -> nn.Module:
    """The model called `name`, with any of its settings overridden.

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

    def create(cls, **more):
        return cls(**{field: value for field, value in given.items() if field in _fields(cls)}, **more)

    return create(module, num_classes=num_classes, **{part: create(cls) for part, cls in parts.items()})


def settings(name: str) -> set[str]:
    """The fields of a model and of the networks that it is given, by which it can be overridden.

    Raises:
      UserError: the name is unknown; the message lists the known ones.
    """
    if name not in MODELS:
        raise UserError(f'unknown model {name!r}{spelling.hint(name, MODELS)}; known: {", ".join(sorted(MODELS))}')
    module, parts, _ = MODELS[name]
    return set().union(*map(_fields, (module, *parts.values()))) - set(parts) - {'num_classes'}


def _fields(module: type[nn.Module]) -> set[str]:
    return {field.name for field in dataclasses.fields(module)} - {'parent', 'name'}
