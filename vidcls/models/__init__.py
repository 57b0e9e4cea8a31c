"""The networks by name. Every model is video[b t h w c] -> logits[b k]."""

import dataclasses

import flax.linen as nn

from vidcls.models.timesformer import TimeSformer
from vidcls.models.tsn import TSN

# Name -> (module class, the fields that differ from the class's defaults).
# Stage sizes: He et al. 2015 (arXiv:1512.03385), table 1. The tiny ones are ours, for tests and demos.
# TimeSformer, -HR and -L: Bertasius et al. 2021 (arXiv:2102.05095), section 4.
MODELS = {
    'tsn_resnet50': (TSN, {'stage_sizes': (3, 4, 6, 3)}),
    'tsn_resnet101': (TSN, {'stage_sizes': (3, 4, 23, 3)}),
    'tsn_resnet152': (TSN, {'stage_sizes': (3, 8, 36, 3)}),
    'tsn_tiny': (TSN, {'stage_sizes': (1, 1, 1, 1), 'width': 16}),
    'timesformer_base': (TimeSformer, {}),
    'timesformer_hr': (TimeSformer, {'num_frames': 16, 'image_size': 448}),
    'timesformer_large': (TimeSformer, {'num_frames': 96}),
    'timesformer_tiny': (TimeSformer, {'width': 64, 'depth': 3, 'num_heads': 4, 'patch_size': 8}),
}


def build(name: str, num_classes: int, **overrides) -> nn.Module:
    """The model called `name`, with any of its module's fields overridden.

    Raises:
      ValueError: the name or an override is unknown; the message lists the known ones.
    """
    known = settings(name)
    unknown = sorted(set(overrides) - known)
    if unknown:
        raise ValueError(f'{name} has no setting {", ".join(unknown)}; known: {", ".join(sorted(known))}')
    module, defaults = MODELS[name]
    return module(num_classes=num_classes, **{**defaults, **overrides})


def settings(name: str) -> set[str]:
    """The fields of a model's module that can be overridden.

    Raises:
      ValueError: the name is unknown; the message lists the known ones.
    """
    if name not in MODELS:
        raise ValueError(f'unknown model {name!r}; known: {", ".join(sorted(MODELS))}')
    return {field.name for field in dataclasses.fields(MODELS[name][0])} - {'parent', 'name', 'num_classes'}
