"""The size of a network by module, and the cost of its forward pass: a few lines for the log.

`flax.linen.tabulate` has a row of several lines for each block (66 lines for TimeSformer) and must apply the network, which
takes 0.5 to 1 s; this table has a line for all blocks of a kind, from the shapes of the parameters alone.
"""

import re
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import numpy as np

from vidcls.config import Config

# The number of a block in blocks_0, layer3_5, inception_4c. Blocks of one kind share a row, however deep the network.
_NUMBERED = re.compile(r'(?<=_)\d+$|(?<=\d)[a-z]$')


def table(params: Any) -> str:
    """The parameters by module, one line each: name, number of arrays, number of parameters, percentage of all."""
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
    """The row of a parameter: 'head', 'blocks_*', 'backbone/layer1_*'."""
    names = [_NUMBERED.sub('*', name) for name in (path[:-1] or path)[:2]]
    return names[0] if '*' in names[0] else '/'.join(names)


def forward_cost(model: nn.Module, variables: Any, config: Config) -> str:
    """The cost of a clip's forward pass, in words: '41.2 GFLOP a clip'."""
    flops = forward_flops(model, variables, config)
    return f'{flops / 1e9:.3g} GFLOP a clip' if flops else 'FLOP unknown'


def forward_flops(model: nn.Module, variables: Any, config: Config) -> float | None:
    """Floating-point operations of a clip's forward pass, by XLA's count; None if it can't be counted.

    A multiplication and an addition are two operations. XLA counts the forms of the operations that suit the default
    backend, but on the CPU, which alone counts without compiling: about a second of one core for the large networks.
    JAX_PLATFORMS may leave the CPU out; then nothing is counted.
    """
    if getattr(model, 'attention_implementation', None):
        model = model.clone(attention_implementation='xla')  # XLA does not look into a fused kernel
    video = jax.ShapeDtypeStruct((1, *config.video_shape()), np.float32)
    try:
        cpu = jax.local_devices(backend='cpu')[0]
    except RuntimeError:
        return None
    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), variables
    )  # without the devices they lie on
    with jax.default_device(cpu):
        cost = jax.jit(model.apply).lower(shapes, video).cost_analysis()
    return cost['flops'] if cost else None
