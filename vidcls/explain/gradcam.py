"""Grad-CAM for TSN and ECO: where the last stage of each branch has evidence for a class.

Selvaraju et al. 2017 (arXiv:1610.02391), equations 1 and 2: L = ReLU(sum over c of a[c] A[c]). The A[c] are the
branch's last maps. The weight a[c] of a channel is the gradient of the class's logit with respect to A[c], averaged
over the cells.

A 2-D branch has maps A[t h w c] of single frames. The segment consensus passes each frame its part of the gradient, so
each frame has its own weights a[t c], which are means over h w. ECO's 3-D branch has maps [t/4 h w c] of the whole
clip, and its weights a[c] are means over t h w.

The cells that this module returns are L times the number of cells. Their mean over a branch is therefore in logits, and
branches with different grids can be added. Where a linear layer follows the global mean of A, the mean over the cells
before the ReLU is exactly what the branch adds to the logit, up to the layer's bias. Grad-CAM is then CAM (Zhou et al.
2016, arXiv:1512.04150).

To get the gradient, `nn.intercept_methods` adds a zero to the stage's output, and the logit is differentiated with
respect to this zero.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vidcls.config import Config
from vidcls.data.transform import Views, transform
from vidcls.errors import UserError
from vidcls.models import TSN, ECOFull, ECOLite

# For each network, its branches: inner networks that end in the mean over a map. For a network of your own, add a row.
BRANCHES: dict[type[nn.Module], Sequence[str]] = {
    TSN: ('backbone',),
    ECOLite: ('tail',),
    ECOFull: ('backbone', 'tail'),
}
Path = tuple[str, ...]
Interceptor = Callable[[Callable, tuple, dict, nn.module.InterceptorContext], Any]


def make(model: nn.Module, config: Config) -> Callable[[Any, Views, int], dict[str, jax.Array]]:
    """Returns a function (variables, views [1 1], label) -> the signed cells float32[t h w] of each branch.

    Raises:
      UserError: the network has no row in `BRANCHES`.
    """
    branches = BRANCHES.get(type(model))
    if branches is None:
        raise UserError(f'gradcam needs maps, and {config.model.name} has none; use rollout or occlusion')

    @jax.jit
    def cells(variables: Any, views: Views, label: int) -> dict[str, jax.Array]:
        video = transform(views, config)
        maps, gradients = maps_and_gradients(model, variables, video, label, branches)
        return {branch: weigh(maps[branch], gradients[branch]) for branch in branches}

    return cells


def weigh(maps: jax.Array, gradients: jax.Array) -> jax.Array:
    """The cells float32[t h w] of a branch, before the ReLU.

    Args:
      maps: [t h w c] of single frames, or [1 t h w c] of a clip.
      gradients: the gradients of the logit with respect to the maps, in the same shape.
    """
    maps, gradients = maps.astype(jnp.float32), gradients.astype(jnp.float32)
    per_clip = maps.ndim == 5
    weights = gradients.mean(tuple(range(1, maps.ndim - 1)), keepdims=True)  # one for each frame, or one for the clip
    cells = (weights * maps).sum(-1)
    return (cells[0] if per_clip else cells) * cells.size


def maps_and_gradients(
    model: nn.Module, variables: Any, video: jax.Array, label: int, branches: Sequence[str]
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """The last maps of each branch for video[1 t h w c], and the gradients of the label's logit by these maps."""
    stages = last_stages(model, variables, video, branches)

    def logit(zeros: dict[str, jax.Array]) -> tuple[jax.Array, dict[str, jax.Array]]:
        maps: dict[str, jax.Array] = {}

        def add_zero(call, args, kwargs, context):
            output = call(*args, **kwargs)
            for branch, (path, _) in stages.items():
                if context.module.path == path and context.method_name == '__call__':
                    maps[branch] = _map_of(output)
                    changed = maps[branch] + zeros[branch]
                    output = (*output[:-1], changed) if isinstance(output, tuple) else changed
            return output

        with nn.intercept_methods(add_zero):
            logits: Any = model.apply(variables, video, train=False)
        return logits[0, label], maps

    zeros = {branch: jnp.zeros(shape.shape, shape.dtype) for branch, (_, shape) in stages.items()}
    gradients, maps = jax.grad(logit, has_aux=True)(zeros)
    return maps, gradients


def last_stages(
    model: nn.Module, variables: Any, video: jax.Array, branches: Sequence[str]
) -> dict[str, tuple[Path, jax.ShapeDtypeStruct]]:
    """The last stage of each branch: the path of the module that is called last, and the shape of the maps it returns.

    ResNet ends in a block of its last stage, BN-Inception in 5b, and ECO's 3-D branch in res5b. A block of the 3-D
    branch returns two arrays: its sum, and this sum after norm and ReLU. The second array is the map, for the network
    goes on with it.
    """
    stages: dict[str, tuple[Path, jax.ShapeDtypeStruct]] = {}

    def note(call, args, kwargs, context):
        output = call(*args, **kwargs)
        path = context.module.path
        if len(path) == 2 and path[0] in branches and context.method_name == '__call__':
            maps = _map_of(output)
            stages[path[0]] = path, jax.ShapeDtypeStruct(maps.shape, maps.dtype)
        return output

    with nn.intercept_methods(note):
        jax.eval_shape(lambda variables, video: model.apply(variables, video, train=False), variables, video)
    return stages


def _map_of(output: Any) -> Any:
    return output[-1] if isinstance(output, tuple) else output
