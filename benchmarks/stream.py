"""Measures an update of a live stream with ECO, beside classifying 16 frames from scratch.

    python -m benchmarks.stream

There is one stream of 224 x 224 pixels in float32. An update samples 8 of a queue of 16 frames. It computes the 2-D
network for these 8 frames, and the 3-D network and the head for the 16 frames in memory. The rows compare an update
with classifying a clip, in time and in multiply-adds, and each part of the network with the whole update, in time.
"""

from functools import partial

from absl import app

from benchmarks.models import time_alternately
from benchmarks.table import print_table, row

_FRAMES, _SIZE, _CLASSES, _ROUNDS = 16, 224, 101, 5


def run(rounds: int = _ROUNDS) -> list[dict]:
    """The rows of the table: name, unit, ours, peer and ratio (ours / peer)."""
    return [made for name in ('eco_lite', 'eco_full') for made in _run_model(name, rounds)]


def _run_model(name: str, rounds: int) -> list[dict]:
    import jax
    import jax.numpy as jnp

    from vidcls import models
    from vidcls.stream import stream_init, stream_update

    model = models.build(name, _CLASSES)
    video = jax.random.normal(jax.random.key(0), (1, _FRAMES, _SIZE, _SIZE, 3))
    variables = jax.jit(model.init, compiler_options={'xla_backend_optimization_level': 0})(jax.random.key(0), video)
    state, _ = stream_update(model, variables, stream_init(model, variables, 1, _SIZE, _SIZE, _FRAMES), video)
    features = jnp.zeros(variables['params']['head']['kernel'].shape[:1])[None]
    encode_frames = partial(model.apply, method='encode_frames')
    parts = {
        'scratch': (model.apply, video),
        '2-D part': (encode_frames, video[:, : _FRAMES // 2]),
        '3-D part and head': (partial(model.apply, method='classify'), state.features),
        'head': (partial(model.apply, method=lambda module, x: module.head(x)), features),
    }
    jitted = {part: (jax.jit(function), x) for part, (function, x) in parts.items()}
    calls = {part: partial(_wait, function, variables, x) for part, (function, x) in jitted.items()}
    calls['update'] = partial(_wait, stream_update, model, variables, state, video)
    times = {part: 1e3 / rates for part, rates in time_alternately(calls, rounds).items()}
    flops = {part: function.lower(variables, x).cost_analysis()['flops'] for part, (function, x) in jitted.items()}
    update = flops['2-D part'] + flops['3-D part and head']
    return [
        row(f'{name} stream: update / {_FRAMES} frames from scratch', 'ms', times['update'], times['scratch']),
        row(f'{name} stream: the same in multiply-adds', 'G', [update / 2e9], [flops['scratch'] / 2e9]),
        row(f'{name} stream / a camera of 30 a second', 'frames/s', 1e3 * _FRAMES / times['update'], [30] * rounds),
        *(
            row(f'{name} stream: {part} / the update', 'ms', times[part], times['update'])
            for part in ('2-D part', '3-D part and head', 'head')
        ),
    ]


def _wait(function, *args):
    import jax

    return jax.block_until_ready(function(*args))


def main(argv):
    del argv
    print_table(run())


if __name__ == '__main__':
    app.run(main)
