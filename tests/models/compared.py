"""Two forms of an operation beside each other: outputs and gradients."""

import jax
import jax.numpy as jnp
import numpy as np

RELATIVE = {jnp.float32: 2e-6, jnp.bfloat16: 0.02}  # of the largest value


def normal(seed, shape, dtype=jnp.float32):
    return jax.random.normal(jax.random.key(seed), shape, dtype)


def assert_same(ours, theirs, inputs, dtype):
    """Outputs, and the gradients of every input of one weighted sum of them."""
    weights = normal(9, jax.eval_shape(ours, *inputs).shape)

    def run(form):
        total = lambda inputs: (form(*inputs).astype(jnp.float32) * weights).sum()
        return jax.jit(lambda inputs: (form(*inputs), *jax.grad(total)(inputs)))(inputs)

    found, expected = run(ours), run(theirs)
    assert found[0].dtype == expected[0].dtype == dtype
    for one, other in zip(found, expected, strict=True):
        other = np.asarray(other, np.float32)
        np.testing.assert_allclose(np.asarray(one, np.float32), other, atol=RELATIVE[dtype] * np.abs(other).max())
