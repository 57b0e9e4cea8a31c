"""What a network consists of and costs, in a few lines for the log."""

import re
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import numpy as np

from vidcls.config import Config

# Blocks of one kind are one row, so that a deep network is as short as a shallow one: blocks_0, layer3_5, inception_4c.
_NUMBERED = re.compile(r'(?<=_)\d+$|(?<=\d)[a-z]$')


def table(params: Any) -> str:
    """The parameters by module, one line each: its name, how many arrays, how many numbers, their share."""
    found: dict[str, list[int]] = {}
    for path, leaf in flax.traverse_util.flatten_dict(params).items():
        row = found.setdefault(_module(path), [0, 0])
        row[0] += 1
        row[1] += leaf.size
    total = sum(count for _, count in found.values())
    width = max(map(len, found))
    return '\n'.join(
        f'  {name:{width}} {arrays:5d} arrays {count:13,d} parameters {100 * count / total:5.1f} %'
        for name, (arrays, count) in found.items()
    )


def _module(path: tuple[str, ...]) -> str:
    """Where a parameter is counted: 'head', 'blocks_*', 'backbone/layer1_*'."""
    names = [_NUMBERED.sub('*', name) for name in (path[:-1] or path)[:2]]
    return names[0] if '*' in names[0] else '/'.join(names)


def forward_cost(model: nn.Module, variables: Any, config: Config) -> str:
    """'41.2 GFLOP a clip': the forward pass of one."""
    flops = forward_flops(model, variables, config)
    return f'{flops / 1e9:.3g} GFLOP a clip' if flops else 'FLOP unknown'


def forward_flops(model: nn.Module, variables: Any, config: Config) -> float | None:
    """Operations of a clip's forward pass, in the forms that suit this backend, by XLA's count.

    A multiplication and an addition are two. None where JAX_PLATFORMS leaves out the CPU: no other backend counts before
    it compiles. Nothing is compiled here: about a second of one core for the large networks.
    """
    if getattr(model, 'attention_implementation', None):
        model = model.clone(attention_implementation='xla')  # what a fused kernel does is not counted
    size = config.augment.crop_size
    video = jax.ShapeDtypeStruct((1, config.sampling.num_frames, size, size, 3), np.float32)
    try:
        cpu = jax.local_devices(backend='cpu')[0]
    except RuntimeError:
        return None
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), variables)  # not where they lie
    with jax.default_device(cpu):
        return jax.jit(model.apply).lower(shapes, video).cost_analysis()['flops']
