"""A TimeSformer small enough for tests, and what they do with it."""

import functools

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax

from vidcls.models import build

# Two rows and three columns of patches, four frames, two blocks of two heads.
SMALL = {'num_frames': 4, 'image_size': (8, 12), 'patch_size': 4, 'width': 16, 'depth': 2, 'num_heads': 2}
ATTENTION = ('divided', 'joint', 'space')
# The networks are so small that compiling is all that takes time.
jit = functools.partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})
key = functools.partial(jax.random.key, impl='rbg')


def small(attention='divided', **settings):
    return build('timesformer_tiny', 5, **{**SMALL, 'attention': attention, **settings})


@functools.cache
def compiled(model):
    return jit(lambda params, video: model.apply({'params': params}, video))


def zeros(model):
    h, w = model.frame_size
    return jnp.zeros((1, model.num_frames, h, w, 3))


def start(model):
    return jit(model.init)(key(1), zeros(model))['params']


def parameters(model):
    """Parameters of which none is zero: what starts at zero would hide what it multiplies."""
    random = np.random.default_rng(1)

    def drawn(path, leaf):
        return jnp.float32(0.3 * random.normal(size=leaf.shape) + (path[-1] == 'scale'))

    shapes = jax.eval_shape(model.init, jax.random.key(0), zeros(model))['params']
    return flax.traverse_util.path_aware_map(drawn, shapes)


def two_clips():
    return jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 8, 12, 3)), jnp.float32)


def gradients(model, params, video):
    @jit
    def grad(params):
        def loss(params):
            logits = model.apply({'params': params}, video, True, rngs={'dropout': key(2)})
            return optax.softmax_cross_entropy_with_integer_labels(logits, jnp.array([1, 3])).mean()

        return jax.grad(loss)(params)

    return grad(params)
