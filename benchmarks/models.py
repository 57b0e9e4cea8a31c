"""TSN-ResNet-50 beside PyTorch eager on the same CPU: one train step and one forward pass.

    python -m benchmarks.models

4 clips of 3 frames, 224 x 224, float32, 2 threads each, SGD with momentum 0.9 and L2 1e-4. PyTorch
runs in its default layout and in channels-last. Rounds alternate; ours and peer are medians, in
clips/s, and the ratio is the median of the rounds' ratios. Without torch there is no peer to run:
`make bench` installs one.
"""

import collections
import functools
import importlib.util
import os
import time
from collections.abc import Callable

import numpy as np
from absl import app, logging

from benchmarks.table import print_table, row

_CLIPS, _FRAMES, _SIZE, _CLASSES = 4, 3, 224, 51
_CANVAS = 240  # pixels: UCF101's short side
_THREADS, _ROUNDS = 2, 3
_LEARNING_RATE, _MOMENTUM, _L2 = 0.01, 0.9, 1e-4


def run(rounds: int = _ROUNDS) -> list[dict]:
    """Rows of name, unit, ours, peer, ratio (ours / peer); none if torch is not installed."""
    if importlib.util.find_spec('torch') is None:
        logging.warning('torch is not installed: the models have no peer and are not timed')
        return []
    if hasattr(os, 'sched_setaffinity'):  # XLA takes its number of threads from the cores it may use
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:_THREADS])
    ours = _ours()
    peers = {'PyTorch': _torch(False), 'PyTorch channels-last': _torch(True)}
    rates = collections.defaultdict(list)
    for i in range(rounds + 1):
        for name, tasks in {'ours': ours, **peers}.items():
            for task, call in tasks.items():
                rate = _CLIPS / _seconds(call)
                if i:  # the first round compiles and allocates
                    rates[name, task].append(rate)
    return [
        row(f'tsn_resnet50 {task} / {name}', 'clips/s', rates['ours', task], rates[name, task])
        for task in ('train', 'infer')
        for name in peers
    ] + [
        # A rate of 50 to 1 is a share of 2 %.
        row(
            'resize, flip and normalise / tsn_resnet50 infer',
            'clips/s',
            rates['ours', 'transform'],
            rates['ours', 'infer'],
        )
    ]


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _ours() -> dict[str, Callable]:
    import jax
    import jax.numpy as jnp
    import optax

    from vidcls.config import AugmentConfig
    from vidcls.data.transform import Clips, transform
    from vidcls.models import build

    model = build('tsn_resnet50', _CLASSES, dropout=0.0)
    video = jax.random.normal(jax.random.key(0), (_CLIPS, _FRAMES, _SIZE, _SIZE, 3))
    labels = jnp.arange(_CLIPS)
    optimizer = optax.chain(optax.add_decayed_weights(_L2), optax.sgd(_LEARNING_RATE, _MOMENTUM))

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state):
        params, batch_stats, opt_state = state

        def loss(params):
            variables = {'params': params, 'batch_stats': batch_stats}
            logits, updated = model.apply(variables, video, True, mutable=['batch_stats'])
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return losses.mean(), updated['batch_stats']

        grads, batch_stats = jax.grad(loss, has_aux=True)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), batch_stats, opt_state

    variables = jax.jit(model.init)(jax.random.key(0), video)
    params = jax.tree.map(jnp.copy, variables['params'])
    state = [(params, jax.tree.map(jnp.copy, variables['batch_stats']), optimizer.init(params))]
    forward = jax.jit(lambda variables, video: model.apply(variables, video))

    def train():
        state[0] = jax.block_until_ready(step(state[0]))

    pixels = np.random.default_rng(0).integers(0, 256, (_CLIPS, _FRAMES, _CANVAS, _CANVAS, 3), np.uint8)
    windows = np.full((_CLIPS, 2), _CANVAS - 30, np.int32)
    clips = jax.device_put(Clips(pixels, windows, np.arange(_CLIPS) % 2 == 0))
    prepare = jax.jit(functools.partial(transform, crop_size=_SIZE, mean=AugmentConfig.mean, std=AugmentConfig.std))
    return {
        'train': train,
        'infer': lambda: jax.block_until_ready(forward(variables, video)),
        'transform': lambda: jax.block_until_ready(prepare(clips)),
    }


def _torch(channels_last: bool) -> dict[str, Callable]:
    import torch

    from benchmarks.torch_resnet import ResNet

    torch.set_num_threads(_THREADS)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    net = ResNet((3, 4, 6, 3), 64, _CLASSES).to(memory_format=layout)
    frames = torch.randn(_CLIPS * _FRAMES, 3, _SIZE, _SIZE).to(memory_format=layout)
    labels = torch.arange(_CLIPS)
    optimizer = torch.optim.SGD(net.parameters(), lr=_LEARNING_RATE, momentum=_MOMENTUM, weight_decay=_L2)

    def logits():
        return net(frames).view(_CLIPS, _FRAMES, -1).mean(1)

    def train():
        net.train()
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits(), labels).backward()
        optimizer.step()

    def infer():
        net.eval()
        with torch.inference_mode():
            return logits()

    return {'train': train, 'infer': infer}


def main(argv):
    del argv
    print_table(run())


if __name__ == '__main__':
    app.run(main)
