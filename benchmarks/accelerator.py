"""Train step and forward pass of each model family on the first accelerator of this machine, beside PyTorch eager.

    XLA_PYTHON_CLIENT_PREALLOCATE=false python -m benchmarks.accelerator [MODEL ...]

The clips are random, uint8, with 224 x 224 pixels, and lie on the device. The train step is that of
`vidcls.training.step`, including `transform`, with SGD, momentum 0.9, L2 1e-4, and no dropout. Times are medians over
rounds of ten steps; no step waits for the step before it.

MFU (model FLOPs utilisation) is a fraction of the device's peak in `_PEAKS`. It counts a train step as three forward
passes, and takes XLA's count of a forward pass's operations. The peer runs under autocast on normalised clips, and
TSN's peer in channels-last. Without torch there is no peer. The environment variable leaves memory to the peer;
otherwise jax would take most of it at once.
"""

import gc
import importlib.util
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
import optax
from absl import app

from vidcls import models
from vidcls.config import AugmentConfig, Config, ModelConfig, OptimConfig, SamplingConfig
from vidcls.data.pipeline import Batch
from vidcls.data.transform import Views
from vidcls.distributed.devices import place, pmap, replicate, shard
from vidcls.models.configured import build_model, make_predict_step
from vidcls.run import model_summary
from vidcls.training.optimizer import make_optimizer
from vidcls.training.step import init_state, make_train_step


class Case(NamedTuple):
    """A network and the batch of clips [b t 224 224 3] that it is given."""

    model: str
    clips: int
    frames: int
    classes: int
    attention: str | None = None  # the setting `attention_implementation`
    peer: str = ''  # the peer's name in `torch_models`; '' if there is no peer


CASES = (
    Case('tsn_resnet50', 64, 3, 51, peer='PyTorch channels-last'),
    Case('eco_lite', 32, 16, 101, peer='PyTorch'),
    Case('timesformer_base', 16, 8, 400, peer='PyTorch'),
    Case('timesformer_base', 16, 8, 400, attention='cudnn'),
)
_SIZE, _CANVAS = 224, 240  # pixels; UCF101's short side
_ROUNDS, _STEPS = 3, 10
_LEARNING_RATE, _MOMENTUM, _L2 = 0.01, 0.9, 1e-4
_DTYPE = 'bfloat16'
# FLOP/s in bfloat16 without sparsity, from the data sheets
_PEAKS = {'NVIDIA H100 80GB HBM3': 989e12, 'NVIDIA H200': 989e12}


class Measured(NamedTuple):
    train: float  # seconds a step
    infer: float
    flops: float  # operations of a clip's forward pass
    memory: float  # bytes of the train step's temporary memory


def measure(case: Case) -> Measured:
    """Measures our train step and forward pass on one device."""
    config = _config(case)
    model = build_model(config, case.classes)
    device = jax.local_devices()[:1]
    rate = optax.constant_schedule(_LEARNING_RATE)
    optimizer = make_optimizer(config.optim, rate)
    first = init_state(model, optimizer, config)
    state = replicate(first, device)
    batch = place(shard(_batch(case), 1), device)
    step = pmap(make_train_step(model, optimizer, rate, config), device, donate=(0,))
    step = step.lower(state, batch).compile()
    forward = pmap(make_predict_step(model, config), device)
    held = [state]

    def train():
        held[0], measured = step(held[0], batch)
        return measured

    trained = seconds(train, jax.block_until_ready)
    variables = held[0].variables
    inferred = seconds(lambda: forward(variables, batch.views), jax.block_until_ready)
    flops = model_summary.forward_flops(model, first.variables, config) or float('nan')
    return Measured(trained, inferred, flops, step.memory_analysis().temp_size_in_bytes)


def measure_peer(case: Case) -> tuple[float, float] | None:
    """The seconds that the peer's train step and forward pass take, or None if there is no torch that sees the GPU."""
    if importlib.util.find_spec('torch') is None:
        return None
    import torch

    from benchmarks import torch_models

    if not torch.cuda.is_available():
        return None
    sgd = {'lr': _LEARNING_RATE, 'momentum': _MOMENTUM, 'weight_decay': _L2}
    made = torch_models.tasks(case.peer, case, _SIZE, torch.get_num_threads(), sgd, 'cuda', _DTYPE)
    wait = lambda _: torch.cuda.synchronize()
    return seconds(made['train'], wait), seconds(made['infer'], wait)


def seconds(call: Callable, wait: Callable) -> float:
    """A call's time in seconds: the mean over the calls of a round, and then the median over the rounds.

    A first round, which compiles and allocates, does not count.

    Args:
      wait: a function that waits for the result of `call`.
    """
    times = []
    for _ in range(_ROUNDS + 1):
        start = time.perf_counter()
        for _ in range(_STEPS):
            result = call()
        wait(result)
        times.append((time.perf_counter() - start) / _STEPS)
    return statistics.median(times[1:])


def _config(case: Case) -> Config:
    still = {'dropout', 'frame_dropout', 'drop_path'} & models.settings(case.model)
    return Config(
        model=ModelConfig(
            case.model, dtype=_DTYPE, attention_implementation=case.attention, **dict.fromkeys(still, 0.0)
        ),
        sampling=SamplingConfig(num_segments=case.frames),
        augment=AugmentConfig(crop_size=_SIZE),
        optim=OptimConfig(learning_rate=_LEARNING_RATE, momentum=_MOMENTUM, weight_decay=_L2),
    )


def _batch(case: Case) -> Batch:
    rng = np.random.default_rng(0)
    clips = Views(
        rng.integers(0, 256, (case.clips, case.frames, _CANVAS, _CANVAS, 3), np.uint8),
        np.array([[(0, 0, _CANVAS - 30, _CANVAS - 30, clip % 2)] for clip in range(case.clips)], np.int32),
    )
    numbers = np.arange(case.clips)
    return Batch(clips, (numbers % case.classes).astype(np.int32), numbers, np.ones(case.clips, bool))


def _cells(case: Case, ours: Measured, peer: tuple[float, float] | None, peak: float) -> list[str]:
    trained, inferred = case.clips / ours.train, case.clips / ours.infer
    theirs = [f'{case.clips / time:,.0f}' for time in peer] if peer else ['', '']
    return [
        f'{case.model} {case.frames}x{_SIZE}' + (f', {case.attention}' if case.attention else ''),
        str(case.clips),
        f'{1e3 * ours.train:.1f}',
        f'{ours.memory / 1e9:.1f}',
        f'{trained:,.0f}',
        f'{100 * 3 * ours.flops * trained / peak:.0f} %',
        theirs[0],
        f'{inferred:,.0f}',
        f'{100 * ours.flops * inferred / peak:.0f} %',
        theirs[1],
    ]


def main(argv):
    device = jax.local_devices()[0]
    unknown = set(argv[1:]) - {case.model for case in CASES}
    if unknown:
        raise app.UsageError(f'no case of {", ".join(sorted(unknown))}')
    peak = _PEAKS.get(device.device_kind, float('nan'))
    print(f'{device.device_kind}, jax {jax.__version__}, {_DTYPE}; MFU of {peak / 1e12:.0f} TFLOP/s\n')
    print(
        '| network | clips | ms a step | temporary GB | train clips/s | MFU | PyTorch | infer clips/s | MFU | PyTorch |'
    )
    print('|---|' + '---:|' * 9)
    for case in CASES:
        if not argv[1:] or case.model in argv[1:]:
            peer = measure_peer(case) if case.peer else None
            print('| ' + ' | '.join(_cells(case, measure(case), peer, peak)) + ' |', flush=True)
            gc.collect()


if __name__ == '__main__':
    app.run(main)
