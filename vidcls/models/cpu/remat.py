"""A replacement of `nn.remat` for XLA's CPU compiler, which defeats `nn.remat`.

`nn.remat` asks the compiler by an optimisation barrier to compute a block's activations again, late in the backward
pass. XLA's CPU compiler drops the barrier and moves that computation to the front: TimeSformer then took more memory
than without `nn.remat`. Here the input of the second computation depends on the gradient that arrives, so that no
compiler can move the computation before the gradient.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp


def recomputed(block: nn.Module, x: jax.Array, train: bool) -> jax.Array:
    """The result of `block(x, train)`; only x is kept for the backward pass.

    Call this function in a compact method and not during `init`. The block may have parameters, but no other variables.
    The block's dropout draws from a key of its own. Only reverse-mode gradients work.
    """
    pure, train = block.clone(parent=None, name=None), bool(train)
    key = block.make_rng('dropout') if train and block.has_rng('dropout') else None

    def apply(params, x, key):
        return pure.apply({'params': params}, x, train, rngs=None if key is None else {'dropout': key})

    def forward(params, x, key):
        return apply(params, x, key), (params, x, key)

    def backward(kept, gradient):
        params, x, key = kept
        _, pull = jax.vjp(lambda params, x: apply(params, x, key), params, _after(gradient, x))
        return *pull(gradient), None

    call = jax.custom_vjp(apply)
    call.defvjp(forward, backward)
    return call(block.variables['params'], x, key)


def _after(gradient: jax.Array, x: jax.Array) -> jax.Array:
    """x, made to depend on the gradient.

    The result is x unless the gradient's first number is NaN. In that case the result is NaN, as all gradients would be
    anyway.
    """
    return jnp.where(jnp.isnan(gradient.ravel()[0]), jnp.nan, x)
