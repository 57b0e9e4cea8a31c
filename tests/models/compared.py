"""Two forms of an operation beside each other: outputs and gradients."""

import jax
import jax.numpy as jnp
import numpy as np

RELATIVE = {jnp.float32: 2e-6, jnp.bfloat16: 0.02}  # of the largest value


def normal(seed, shape, dtype=jnp.float32):
    return jax.random.normal(jax.random.key(seed), shape, dtype)


def assert_same(ours, theirs, inputs, dtype):
    """Outputs, and the gradients of every input of one weighted sum of them."""
    theirs_y, ours_y = theirs(*inputs), ours(*inputs)
    weights = normal(9, ours_y.shape)
    found = [
        jax.grad(lambda inputs, f=f: (f(*inputs).astype(jnp.float32) * weights).sum())(inputs) for f in (ours, theirs)
    ]
    assert ours_y.dtype == theirs_y.dtype == dtype
    for one, other in zip((ours_y, *found[0]), (theirs_y, *found[1]), strict=True):
        other = np.asarray(other, np.float32)
        np.testing.assert_allclose(np.asarray(one, np.float32), other, atol=RELATIVE[dtype] * np.abs(other).max())
