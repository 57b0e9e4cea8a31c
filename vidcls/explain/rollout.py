"""Attention rollout for TimeSformer: how much of each patch of each frame reaches CLS, the token that is classified.

Abnar & Zuidema 2020 (arXiv:2005.00928), section 4: a block mixes its input tokens by (mean over heads of the attention
+ identity) / 2. The product over the blocks says how much of every input token is in every output token. With divided
attention a block mixes over time and then over space:

    W[p t, k q] = S[t p k] T[k t q]      patch p of frame t, from patch k of frame q

S and T are the mixings over space and over time. CLS has no attention over time, and its row is the mean over its
copies in the frames. Only the row of CLS is needed, so this row is carried back from the last block to the first, and
no matrix of all tokens is made.

Rollout shows what the network attends to, not for which class: it is the same for every class. The gradient-weighted
variant explains one class, by the rule of Chefer et al. 2021 (arXiv:2103.15679, section 3) for self-attention. Its
mixing is identity + mean over heads of ReLU(dy/dA * A), where y is the class's logit and A the attention of one head.
Rows are not normalised. (The authors' earlier method, arXiv:2012.09838, has layer-wise relevance in place of the second
A.) Since y depends on the mean of CLS's rows over the frames, the relevances of these rows are added.

The network may never compute A as an array, so dy/dA is computed here. The output of attention is A V, so dy/dA =
dy/d(A V) V'. To get dy/d(A V), `nn.intercept_methods` adds a zero to the input of the projection, and y is
differentiated with respect to this zero.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp

from vidcls.config import Config
from vidcls.data.transform import Views, transform
from vidcls.errors import UserError
from vidcls.models.timesformer import TimeSformer

TIME, SPACE = 'temporal_attn', 'attn'  # the names of a block's attention modules, over time and over space
Key = tuple[str, str]  # the name of the block, and TIME or SPACE


class Attended(NamedTuple):
    """What an attention module with m heads computed, and the gradient of its output.

    Attributes:
      qkv: [1 ... n 3*m*d], queries, keys and values of each sequence of n tokens, as `Attention` makes them.
      gradient: [1 ... n m*d], the gradient of the logit with respect to the attention's output before the projection.
    """

    qkv: jax.Array
    gradient: jax.Array


def make(model: nn.Module, config: Config, by_gradient: bool) -> Callable[[Any, Views, int], dict[str, jax.Array]]:
    """Returns a function (variables, views [1 1], label) -> cells {'patches': float32[t h w]}.

    There is a cell for each of the h x w patches of each of the t frames.

    Args:
      by_gradient: whether the gradient-weighted variant is computed. Without it, the label has no effect.

    Raises:
      UserError: the network is no TimeSformer.
    """
    if not isinstance(model, TimeSformer):
        raise UserError(f'rollout needs attention, and {config.model.name} has none; use gradcam or occlusion')
    h, w = model.grid

    @jax.jit
    def cells(variables: Any, views: Views, label: int) -> dict[str, jax.Array]:
        video = transform(views, config)
        found = attended(model, variables, video, label)
        mix = partial(relevance if by_gradient else mixing, heads=model.num_heads)
        mixed = {key: mix(one) for key, one in found.items()}
        names = [f'blocks_{number}' for number in range(model.depth)]
        over_space = [mixed[name, SPACE] for name in names]
        if model.attention == 'divided':
            patches = divided([mixed[name, TIME][0] for name in names], [one[0] for one in over_space], by_gradient)
        elif model.attention == 'joint':
            patches = joint([one[0] for one in over_space], model.num_frames)
        else:
            patches = per_frame([one[0] for one in over_space])
        return {'patches': einops.rearrange(patches, 't (h w) -> t h w', h=h, w=w)}

    return cells


def divided(over_time: Sequence[jax.Array], over_space: Sequence[jax.Array], add_frames: bool) -> jax.Array:
    """float32[t n]: how much of each of n patches of each frame reaches CLS, for divided attention.

    Args:
      over_time: for each block, the mixing [n t t] of the frames of each patch.
      over_space: for each block, the mixing [t 1+n 1+n] of CLS and the patches in each frame.
      add_frames: whether CLS gets the sum of what its copies in the frames attended to. Otherwise it gets the mean.
    """
    frames = over_space[0].shape[0]
    cls: Any = 1.0
    row = jnp.zeros((over_space[0].shape[1] - 1, frames))
    for space, time in zip(reversed(over_space), reversed(over_time)):
        if add_frames:  # only what was attended to becomes a sum; the identity stays a mean
            own = jnp.eye(space.shape[1])[0]
            space = space.at[:, 0].set(own + frames * (space[:, 0] - own))
        y = jnp.concatenate([jnp.full((1, frames), cls / frames), row])
        z = jnp.einsum('pt,tpk->kt', y, space, precision='highest')
        cls = z[0].sum()
        row = jnp.einsum('kt,ktq->kq', z[1:], time, precision='highest')
    return row.T


def joint(over_all: Sequence[jax.Array], frames: int) -> jax.Array:
    """float32[t n]: how much of each of n patches of each frame reaches CLS, for joint attention.

    Args:
      over_all: for each block, the mixing [1+n*t 1+n*t] of CLS and the patches; all frames of a patch stand together.
    """
    row = jnp.eye(over_all[0].shape[-1])[0]
    for mixed in reversed(over_all):
        row = jnp.einsum('p,pk->k', row, mixed, precision='highest')
    return einops.rearrange(row[1:], '(n t) -> t n', t=frames)


def per_frame(over_space: Sequence[jax.Array]) -> jax.Array:
    """float32[t n]: how much of each of n patches of each frame reaches CLS, if each frame is a sequence of its own.

    The row of CLS in each frame is divided by the number of frames.

    Args:
      over_space: for each block, the mixing [t 1+n 1+n] of CLS and the patches in each frame.
    """
    frames, tokens = over_space[0].shape[:2]
    row = jnp.tile(jnp.eye(tokens)[0] / frames, (frames, 1))
    for space in reversed(over_space):
        row = jnp.einsum('tp,tpk->tk', row, space, precision='highest')
    return row[:, 1:]


def mixing(one: Attended, heads: int) -> jax.Array:
    """float32[1 ... n n]: the mixing of rollout, (mean over heads of the attention + identity) / 2."""
    weights = attention(one, heads)[0].mean(-3)
    return (weights + jnp.eye(weights.shape[-1])) / 2


def relevance(one: Attended, heads: int) -> jax.Array:
    """float32[1 ... n n]: the mixing of the gradient-weighted variant.

    It is identity + mean over heads of ReLU(dy/dA * A).
    """
    weights, values = attention(one, heads)
    gradient = einops.rearrange(one.gradient.astype(jnp.float32), '... n (m d) -> ... m n d', m=heads)
    by_weight = jnp.einsum('...nd,...kd->...nk', gradient, values, precision='highest')
    return jnp.eye(weights.shape[-1]) + jax.nn.relu(by_weight * weights).mean(-3)


def attention(one: Attended, heads: int) -> tuple[jax.Array, jax.Array]:
    """The attention of each head, float32[1 ... m n n], and its values [1 ... m n d]."""
    parts = jnp.split(one.qkv.astype(jnp.float32), 3, axis=-1)
    q, k, v = (einops.rearrange(part, '... n (m d) -> ... m n d', m=heads) for part in parts)
    scores = jnp.einsum('...nd,...kd->...nk', q, k, precision='highest') / q.shape[-1] ** 0.5
    return jax.nn.softmax(scores), v


def attended(model: TimeSformer, variables: Any, video: jax.Array, label: int) -> dict[Key, Attended]:
    """For every attention module, what it computes for video[1 t h w c], and the gradient of the label's logit."""

    def key(context: nn.module.InterceptorContext, layer: str) -> Key | None:
        path = context.module.path
        inside = len(path) == 3 and path[1] in (TIME, SPACE) and path[2] == layer and context.method_name == '__call__'
        return (path[0], path[1]) if inside else None

    def logit(zeros: dict[Key, Any]) -> tuple[jax.Array, dict[Key, jax.Array]]:
        found: dict[Key, jax.Array] = {}

        def intercept(call, args, kwargs, context):
            if (place := key(context, 'proj')) in zeros:
                args = (args[0] + zeros[place], *args[1:])
            output = call(*args, **kwargs)
            if place := key(context, 'qkv'):
                found[place] = output
            return output

        with nn.intercept_methods(intercept):
            logits: Any = model.apply(variables, video, train=False)
        return logits[0, label], found

    of_qkv = jax.eval_shape(lambda: logit({}))[1]
    zeros = {place: jnp.zeros((*x.shape[:-1], x.shape[-1] // 3), x.dtype) for place, x in of_qkv.items()}
    gradients, found = jax.grad(logit, has_aux=True)(zeros)
    return {place: Attended(found[place], gradients[place]) for place in found}
