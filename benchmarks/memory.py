"""The temporary memory of a train step, by XLA's analysis of the compiled program; nothing is run.

    python -m benchmarks.memory [MODEL ...]

One clip a device, float32, on this backend, with and without `remat`. Parameters, gradients, momentum and the batch come
on top, and are named too.
"""

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import optax
from absl import app

from vidcls import models

# Network, frames and pixels of its published setting, classes.
CASES = {
    'tsn_resnet50': (3, 224, 51),
    'eco_full': (16, 224, 101),
    'timesformer_base': (8, 224, 400),
    'timesformer_hr': (16, 448, 400),
    'timesformer_large': (96, 224, 400),
}


def measure(name: str, remat: bool) -> tuple[float, float]:
    """GB of temporary memory, and of what stays: parameters, statistics and momentum."""
    frames, size, classes = CASES[name]
    model = models.build(name, classes, **({'remat': remat} if 'remat' in models.settings(name) else {}))
    video = jax.ShapeDtypeStruct((1, frames, size, size, 3), jnp.float32)
    optimizer = optax.sgd(0.01, 0.9)
    variables = jax.eval_shape(model.init, jax.random.key(0), video)
    state = variables, jax.eval_shape(optimizer.init, variables['params'])

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state, video):
        variables, opt_state = state

        def loss(params):
            rngs = {'dropout': jax.random.key(0)}
            logits, updated = model.apply(variables | {'params': params}, video, True, mutable=['batch_stats'], rngs=rngs)
            return -jax.nn.log_softmax(logits)[:, 0].mean(), updated

        grads, updated = jax.grad(loss, has_aux=True)(variables['params'])
        updates, opt_state = optimizer.update(grads, opt_state)
        return variables | updated | {'params': optax.apply_updates(variables['params'], updates)}, opt_state

    # How well the code is optimised changes the memory by little, and the minutes of compiling by much.
    memory = step.lower(state, video).compile().memory_analysis()
    kept = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    return memory.temp_size_in_bytes / 1e9, kept / 1e9


def table(names: tuple[str, ...]) -> Iterator[str]:
    yield f'{"":20} {"clip":>10} {"kept":>8} {"temporary":>10} {"with remat":>10}   GB'
    for name in names:
        frames, size, _ = CASES[name]
        temporary, kept = measure(name, False)
        again = f'{measure(name, True)[0]:10.2f}' if 'remat' in models.settings(name) else f'{"-":>10}'
        yield f'{name:20} {f"{frames} x {size}":>10} {kept:8.2f} {temporary:10.2f} {again}'


def main(argv):
    for line in table(tuple(argv[1:]) or tuple(CASES)):
        print(line, flush=True)


if __name__ == '__main__':
    app.run(main)
