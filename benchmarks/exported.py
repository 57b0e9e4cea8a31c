"""Measures exported networks of full size, run by the libraries of their formats, beside jax and PyTorch.

    python -m benchmarks.exported [NAME ...]

TSN-ResNet-50, ECO Full and TimeSformer-B with random parameters are exported as `experiments.export` exports them. For
each format the script prints the largest difference from a probability of jax, for 1, 2 and 3 clips; the clips a
second, one clip at a time; and the seconds that `python label.py VIDEO` takes from the command to the first label. The
rows of the table compare with PyTorch, eager and with torch.compile, or with jax if torch is not installed. Exported
networks take uint8 and give probabilities; PyTorch takes normalised floats and gives logits.
"""

import functools
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from absl import app, logging

from benchmarks.models import Case, time_alternately
from benchmarks.table import print_table, row

CASES = (
    Case('tsn_resnet50', 1, 8, 51, ('PyTorch', 'PyTorch compiled')),
    Case('eco_full', 1, 16, 101, ('PyTorch', 'PyTorch compiled')),
    Case('timesformer_base', 1, 8, 400, ('PyTorch', 'PyTorch compiled')),
)
_CLIPS = (1, 2, 3)  # the numbers of clips with which the difference from jax is measured
_SIZE, _THREADS, _ROUNDS = 224, 2, 5


def run(rounds: int = _ROUNDS, names: tuple[str, ...] = ()) -> list[dict]:
    """The rows of the table: name, unit, ours, peer and ratio."""
    if hasattr(os, 'sched_setaffinity'):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:_THREADS])
    return [made for case in CASES if not names or case.model in names for made in _run_case(case, rounds)]


def _run_case(case: Case, rounds: int) -> list[dict]:
    from vidcls.export import folder
    from vidcls.export.formats import FORMATS
    from vidcls.runtimes.opening import open_exported

    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        made, network = _make(case, place / 'run')
        video = _write_video(place / 'video.mp4')
        calls: dict[str, Callable[[], object]] = {'jax': _in_jax(network)}
        right = {clips: folder.expected(network, _frames(network, clips), whole_frames=True) for clips in _CLIPS}
        first: dict[str, float] = {}
        for format in FORMATS:
            started = time.perf_counter()
            folder.export(made, format, place / format)
            logging.info('%s as %s: %.0f s', case.model, format, time.perf_counter() - started)
            first[format] = _seconds_to_first_label(place / format, video)
            exported = open_exported(place / format)
            for clips, probabilities in right.items():
                difference = np.abs(exported(_frames(network, clips)) - probabilities).max()
                logging.info(
                    '%s as %s, %d clips: %.1e from jax, whose largest is %.2f',
                    case.model, format, clips, difference, probabilities.max(),
                )  # fmt: skip
                assert difference <= FORMATS[format].tolerance
            calls[format] = functools.partial(exported, _frames(network, 1))
        calls |= _peers(case)
        rates = time_alternately(calls, rounds)
    peers = [peer for peer in case.peers if peer in calls] or ['jax']
    ours = [name for name in calls if name not in case.peers]
    return [
        row(f'{case.model} {name} / {peer}', 'clips/s', rates[name], rates[peer])
        for peer in peers
        for name in ours
        if name != peer
    ] + [
        row(f'{case.model} {name}: command to first label / stablehlo', 's', [first[name]], [first['stablehlo']])
        for name in first
    ]


def _make(case: Case, folder: Path):
    """Makes a run with random parameters. Returns the run and its network."""
    import jax

    from vidcls.config import AugmentConfig, Config, ModelConfig, SamplingConfig
    from vidcls.data.frame_storage import FrameStorage
    from vidcls.export.network import Network
    from vidcls.models.configured import build_model
    from vidcls.run import checkpoint, workdir

    config = Config(
        model=ModelConfig(name=case.model),
        sampling=SamplingConfig(num_segments=case.frames),
        augment=AugmentConfig(short_side=_SIZE, crop_size=_SIZE),
    )
    run = workdir.Run(folder, config, tuple(f'class {k}' for k in range(case.classes)), FrameStorage())
    workdir.create(run)
    model = build_model(config, case.classes)
    video = np.zeros((1, case.frames, _SIZE, _SIZE, 3), np.float32)
    shapes = jax.eval_shape(lambda: {**model.init(jax.random.key(0), video)})
    rng = np.random.default_rng(0)

    def draw(path, leaf) -> np.ndarray:
        """Draws a parameter that is not zero. A zero would hide a part of the network from the comparison."""
        if path[-1].key in ('scale', 'var'):
            return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        deviation = np.prod(leaf.shape[:-1]) ** -0.5 if path[-1].key == 'kernel' else 0.1
        return (deviation * rng.standard_normal(leaf.shape, np.float32)).astype(np.float32)

    variables = dict(jax.tree_util.tree_map_with_path(draw, shapes))
    saved = checkpoint.Checkpoints(run.checkpoints, keep_best=False)
    saved.save(0, {'batch_stats': {}} | variables, {'none': np.zeros(1)})
    saved.close()
    return run, Network(config, variables, case.classes)


def _frames(network, clips: int) -> np.ndarray:
    rng = np.random.default_rng(clips)
    coarse = rng.integers(0, 256, (clips, network.frames, 14, 14, 3), np.uint8)
    return coarse.repeat(_SIZE // 14, axis=2).repeat(_SIZE // 14, axis=3)


def _in_jax(network) -> Callable[[], object]:
    """Returns a function that classifies one clip with the step of `Classifier`."""
    import jax

    from vidcls.data.transform import on_canvas
    from vidcls.data.windows import Window
    from vidcls.models.configured import build_model, make_predict_step

    step = jax.jit(make_predict_step(build_model(network.config, network.classes), network.config))
    views = on_canvas([_frames(network, 1)[0]], [Window(0, 0, _SIZE, _SIZE)], _SIZE)
    variables = jax.device_put(network.variables)
    return lambda: np.asarray(step(variables, views))


def _write_video(path: Path) -> Path:
    import av

    rng = np.random.default_rng(0)
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('mpeg4', rate=25)
        stream.width = stream.height = _SIZE
        for _ in range(50):
            coarse = rng.integers(0, 256, (14, 14, 3), np.uint8)
            frame = av.VideoFrame.from_ndarray(coarse.repeat(16, axis=0).repeat(16, axis=1), format='rgb24')
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def _seconds_to_first_label(folder: Path, video: Path) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, 'label.py', str(video)], cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - started


def _peers(case: Case) -> dict[str, Callable[[], object]]:
    if importlib.util.find_spec('torch') is None:
        logging.warning('torch is not installed: the files have no peer but jax')
        return {}
    from benchmarks import torch_models

    return {peer: torch_models.tasks(peer, case, _SIZE, _THREADS, {'lr': 0.01})['infer'] for peer in case.peers}


def main(argv):
    logging.set_verbosity(logging.INFO)
    print_table(run(names=tuple(argv[1:])))


if __name__ == '__main__':
    app.run(main)
