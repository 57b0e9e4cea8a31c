"""The size of a network by module and the cost of its forward pass, as a few lines for the log.

The table has one line for all blocks of one kind, and needs only the shapes of the parameters. `flax.linen.tabulate`
would write several lines for each block (66 lines for TimeSformer), and would have to apply the network, which takes
0.5 to 1 s.
"""

import re
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import numpy as np

from vidcls.config import Config

# Finds the number of a block, as in blocks_0, layer3_5 or inception_4c. Blocks of one kind share a row of the table.
_NUMBERED = re.compile(r'(?<=_)\d+$|(?<=\d)[a-z]$')


def table(params: Any) -> str:
    """Returns a table with a line for each module: name, numbers of arrays and of parameters, per cent of all."""
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
    """Returns the name of the row that a parameter is counted in, such as 'head', 'blocks_*' or 'backbone/layer1_*'."""
    names = [_NUMBERED.sub('*', name) for name in (path[:-1] or path)[:2]]
    return names[0] if '*' in names[0] else '/'.join(names)


def forward_cost(model: nn.Module, variables: Any, config: Config) -> str:
    """Returns the cost of a clip's forward pass in words, such as '41.2 GFLOP a clip'."""
    flops = forward_flops(model, variables, config)
    return f'{flops / 1e9:.3g} GFLOP a clip' if flops else 'FLOP unknown'


def forward_flops(model: nn.Module, variables: Any, config: Config) -> float | None:
    """Returns the number of floating-point operations in a clip's forward pass as XLA counts them, or None.

    A multiplication and an addition are two operations. The network has the forms that suit the default
    backend, but the CPU backend counts, since only this backend counts without compiling. The count takes about a
    second of one core for the large networks. The result is None if JAX_PLATFORMS leaves the CPU out.
    """
    if getattr(model, 'attention_implementation', None):
        model = model.clone(attention_implementation='xla')  # XLA can't count inside a fused kernel
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
