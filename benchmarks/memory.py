"""Prints the temporary memory of TimeSformer's train step, from XLA's analysis of the compiled program; nothing is run.

    python -m benchmarks.memory [MODEL ...]

The step takes one clip and computes in float32, with and without `remat`. The memory of parameters and momentum
("kept") is not a part of the temporary memory, and is printed beside it.
"""

import functools

import jax
import jax.numpy as jnp
import optax
from absl import app

from vidcls import models

NAMES = ('timesformer_base', 'timesformer_hr', 'timesformer_large')
CLASSES = 400


def measure(name: str, remat: bool) -> tuple[float, float]:
    """The GB of temporary memory, and the GB of parameters and momentum."""
    model = models.build(name, CLASSES, remat=remat)
    video = jax.ShapeDtypeStruct((1, model.num_frames, *model.frame_size, 3), jnp.float32)
    optimizer = optax.sgd(0.01, 0.9)
    params = jax.eval_shape(model.init, jax.random.key(0), video)['params']
    state = params, jax.eval_shape(optimizer.init, params)

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state, video):
        params, opt_state = state

        def loss(params):
            logits = model.apply({'params': params}, video, True, rngs={'dropout': jax.random.key(0)})
            return -jax.nn.log_softmax(logits)[:, 0].mean()

        updates, opt_state = optimizer.update(jax.grad(loss)(params), opt_state)
        return optax.apply_updates(params, updates), opt_state

    memory = step.lower(state, video).compile().memory_analysis()
    kept = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    return memory.temp_size_in_bytes / 1e9, kept / 1e9


def main(argv):
    print(f'{"":20} {"kept":>10} {"temporary":>10} {"with remat":>10}   GB')
    for name in argv[1:] or NAMES:
        (temporary, kept), (again, _) = measure(name, False), measure(name, True)
        print(f'{name:20} {kept:10.2f} {temporary:10.2f} {again:10.2f}', flush=True)


if __name__ == '__main__':
    app.run(main)
