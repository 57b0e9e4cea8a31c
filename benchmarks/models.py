"""Measures the train step and the forward pass of each model family beside PyTorch eager on the same CPU.

    python -m benchmarks.models [NAME ...]

Clips have 224 x 224 pixels. All networks compute in float32 on 2 threads, with SGD, momentum 0.9, L2 1e-4, and no
dropout. The peers are torchvision's ResNet in PyTorch's default layout and in channels-last, ECO as published
(torch_eco), and the TimeSformer of transformers. Ours and the peers take turns. Ours and peer are medians in clips/s,
and the ratio is the median of the rounds' ratios.

A further row has the operations of the forward pass. Ours are counted by XLA. The peer's are counted by PyTorch's
counter, which adds up matrix products and convolutions. Without torch nothing is measured; `make bench` installs torch.
"""

import collections
import functools
import gc
import importlib.util
import os
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from absl import app, logging

from benchmarks.table import print_table, row


class Case(NamedTuple):
    """A network, the batch of clips [b t 224 224 3] that it is given, and the names of its peers in `torch_models`."""

    model: str
    clips: int
    frames: int
    classes: int
    peers: tuple[str, ...]


CASES = (
    Case('tsn_resnet50', 4, 3, 51, ('PyTorch', 'PyTorch channels-last')),
    Case('eco_lite', 1, 16, 101, ('PyTorch',)),
    Case('eco_full', 1, 16, 101, ('PyTorch',)),
    Case('timesformer_base', 1, 8, 400, ('PyTorch',)),
    Case('timesformer_base', 2, 8, 400, ('PyTorch',)),
)
_SIZE, _CANVAS = 224, 240  # pixels; UCF101's short side
_THREADS, _ROUNDS = 2, 3
_LEARNING_RATE, _MOMENTUM, _L2 = 0.01, 0.9, 1e-4

Tasks = dict[str, Callable[[], object]]


def run(rounds: int = _ROUNDS, names: tuple[str, ...] = ()) -> list[dict]:
    """The rows of the table: name, unit, ours, peer and ratio (ours / peer). Without torch there are no rows."""
    if importlib.util.find_spec('torch') is None:
        logging.warning('torch is not installed: the models have no peer and are not timed')
        return []
    if hasattr(os, 'sched_setaffinity'):  # XLA starts a thread for each core that the process may use
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:_THREADS])
    rows = [made for case in CASES if not names or case.model in names for made in _run_case(case, rounds)]
    return rows + ([_transform_row(rounds)] if not names else [])


def _run_case(case: Case, rounds: int) -> list[dict]:
    from benchmarks import torch_models

    sgd = {'lr': _LEARNING_RATE, 'momentum': _MOMENTUM, 'weight_decay': _L2}
    nets = {'ours': our_tasks(case)}
    nets |= {peer: torch_models.tasks(peer, case, _SIZE, _THREADS, sgd) for peer in case.peers}
    calls = {(name, task): nets[name][task] for name in nets for task in ('train', 'infer')}
    rates = time_alternately(calls, rounds)
    rows = [
        row(
            f'{case.model} {task}, batch {case.clips} / {peer}', 'clips/s',
            case.clips * rates['ours', task], case.clips * rates[peer, task],
        )
        for task in ('train', 'infer')
        for peer in case.peers
    ]  # fmt: skip
    counts = ([nets[name]['count']() / 1e9] for name in ('ours', case.peers[0]))
    rows.append(row(f'{case.model} infer, batch {case.clips}: XLA / PyTorch count', 'GFLOP', *counts))
    del nets, calls
    gc.collect()  # frees the memory of this network before the next one is built
    return rows


def time_alternately(calls: dict, rounds: int) -> dict:
    """Measures functions in rounds; in each round, every function is called in turn.

    A first round, which compiles and allocates, does not count.

    Args:
      calls: a name for each function, and the function.

    Returns:
      For each name, the calls a second in each round [rounds].
    """
    rates = collections.defaultdict(list)
    for i in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if i:
                rates[name].append(1 / (time.perf_counter() - start))
    return {name: np.array(found) for name, found in rates.items()}


def our_tasks(case: Case, size: int = _SIZE) -> Tasks:
    """Our train step and forward pass on clips [b t size size 3], and XLA's count of the forward pass's operations."""
    import jax
    import jax.numpy as jnp
    import optax

    from vidcls import models

    still = {'dropout', 'frame_dropout', 'drop_path'} & models.settings(case.model)
    sizes = {'image_size': size} if 'image_size' in models.settings(case.model) else {}
    model = models.build(case.model, case.classes, **dict.fromkeys(still, 0.0), **sizes)
    video = jax.random.normal(jax.random.key(0), (case.clips, case.frames, size, size, 3))
    labels = jnp.arange(case.clips)
    optimizer = optax.chain(optax.add_decayed_weights(_L2), optax.sgd(_LEARNING_RATE, _MOMENTUM))

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state, video):
        params, batch_stats, opt_state = state

        def loss(params):
            variables = {'params': params, 'batch_stats': batch_stats}
            logits, updated = model.apply(variables, video, True, mutable=['batch_stats'])
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return losses.mean(), updated.get('batch_stats', {})

        grads, batch_stats = jax.grad(loss, has_aux=True)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), batch_stats, opt_state

    init = jax.jit(model.init, compiler_options={'xla_backend_optimization_level': 0})
    variables = init(jax.random.key(0), video)
    params, batch_stats = jax.tree.map(jnp.copy, (variables['params'], variables.get('batch_stats', {})))
    state = [(params, batch_stats, optimizer.init(params))]
    forward = jax.jit(lambda variables, video: model.apply(variables, video))

    def train():
        state[0] = jax.block_until_ready(step(state[0], video))

    return {
        'train': train,
        'infer': lambda: jax.block_until_ready(forward(variables, video)),
        'count': lambda: forward.lower(variables, video).cost_analysis()['flops'],
    }


def _transform_row(rounds: int) -> dict:
    """A row with the rate of `transform` beside the rate of a forward pass.

    A ratio of 50 means that `transform` takes 2 % of the forward pass's time.
    """
    import jax

    from vidcls.config import AugmentConfig, Config
    from vidcls.data.transform import Views, transform

    case = CASES[0]
    pixels = np.random.default_rng(0).integers(0, 256, (case.clips, case.frames, _CANVAS, _CANVAS, 3), np.uint8)
    windows = [[(0, 0, _CANVAS - 30, _CANVAS - 30, clip % 2)] for clip in range(case.clips)]
    clips = jax.device_put(Views(pixels, np.array(windows, np.int32)))
    transformed = jax.jit(functools.partial(transform, config=Config(augment=AugmentConfig(crop_size=_SIZE))))
    calls = {'transform': lambda: jax.block_until_ready(transformed(clips)), 'infer': our_tasks(case)['infer']}
    rates = time_alternately(calls, rounds)
    name = f'resize, flip and normalise / {case.model} infer'
    return row(name, 'clips/s', case.clips * rates['transform'], case.clips * rates['infer'])


def main(argv):
    print_table(run(names=tuple(argv[1:])))


if __name__ == '__main__':
    app.run(main)
