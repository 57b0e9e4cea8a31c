"""The layout of arrays with our own names, which `vidcls.export.hub` writes.

Such names are 'params/backbone/conv1/kernel' and 'batch_stats/backbone/bn1/mean'.
"""

from collections.abc import Mapping
from typing import Any

import flax.traverse_util
import numpy as np

from vidcls.pretrained.layout import UNSAID, Layout


class _Own(Layout):
    def theirs(self, path: str) -> list[tuple[str, ...]]:
        return [(f'params/{path}',), (f'batch_stats/{path}',)]


LAYOUTS = (
    _Own(
        ('vidcls',), 'vidcls', {}, (r'^params/(.*/)?kernel$',), axes={}, inputs=UNSAID, flow=UNSAID, difference=UNSAID
    ),
)


def named(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The variables of a network, as path -> array."""
    flat = flax.traverse_util.flatten_dict(dict(variables), sep='/')
    return {name: np.asarray(value) for name, value in flat.items()}
