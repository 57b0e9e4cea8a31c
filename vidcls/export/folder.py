"""Exports a trained network as a folder that runs without this library. The folder is written whole or not at all.

    model.stablehlo, model/, model.tflite or model.onnx    the network, as a file of the format
    export.json                                            what the network takes and gives, and where it comes from
    label.py, README.md                                    code that runs the network, and how to use the folder
    labels.txt, config.json, frames.json                   as in a work directory

Before the folder gets its name, the file is run with the format's own library, and the results are compared with jax.
"""

import contextlib
import dataclasses
import importlib.metadata
import shutil
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

import vidcls
from vidcls import metrics
from vidcls.config import Config, DataConfig, InitConfig
from vidcls.data.transform import on_canvas
from vidcls.data.windows import Window, view_windows
from vidcls.errors import UserError
from vidcls.export.formats import FORMATS, Format
from vidcls.export.network import Network, portable
from vidcls.export.script import label_script, readme
from vidcls.models.configured import build_model, make_predict_step
from vidcls.run import checkpoint, workdir
from vidcls.run.workdir import Run
from vidcls.runtimes import description
from vidcls.runtimes.description import FILES, Description
from vidcls.runtimes.opening import Program, check_installed, open_program

_CHECKED = (2, 75, 50)  # the check with whole frames has so many clips, and frames of this height and width, pixels
_RARE = 1e-4  # probabilities above this are compared by their logarithms too


def export(run: Run, format: str, out: str | Path, checkpoint_name: str = 'best', batch: int = 1) -> Description:
    """Exports a checkpoint of a run in a format, and returns the description of the exported file.

    Args:
      run: the run, with the configuration for testing (`config.for_testing`).
      format: a key of `FORMATS`.
      out: the folder that is made.
      checkpoint_name: 'best', 'latest' or a step.
      batch: the number of clips at once, for formats that fix this number.

    Raises:
      UserError: the folder exists, a library is missing, the format can't express the network, or the results of the
        written file differ from those of jax. Nothing is left then.
    """
    chosen, out = FORMATS[format], Path(out).expanduser()
    check_installed(format, *chosen.needs)
    if run.config.sampling.modality != 'rgb':
        raise UserError(
            f'{run.folder}: was trained on {run.config.sampling.modality}; only runs of colours (rgb) can be exported: what '
            'runs the file has frames, and neither their flow nor the frames after them'
        )
    config = for_others(run.config)
    if not chosen.whole_frames and config.test.crops != 1:
        raise UserError(
            f'{format} takes frames of the size of the crop, so that it can not cut {config.test.crops} crops: --crops=1'
        )
    step, variables = checkpoint.restore_model(run.checkpoints, checkpoint_name)
    network = Network(config, jax.tree.map(np.asarray, variables), len(run.labels))
    size = None if chosen.whole_frames else config.augment.crop_size
    with making(out) as folder:
        path = folder / FILES[format]
        path.parent.mkdir(exist_ok=True)
        chosen.write(network, batch, path)
        described = Description(
            format=format,
            input=(None if chosen.whole_frames else batch, network.frames, size, size, 3),
            classes=network.classes,
            platforms=chosen.platforms,
            files=description.digests(folder, format),
            checkpoint={'step': step, 'sha256': checkpoint.digest(run.checkpoints, step)},
            difference=check(network, open_program(folder, format), chosen, batch),
            versions=_versions(chosen),
        )
        description.write(described, folder)
        (folder / 'label.py').write_text(label_script(config, run.frames, described), encoding='utf-8')
        (folder / 'README.md').write_text(readme(config.model.name, config, described), encoding='utf-8')
        workdir.create(dataclasses.replace(run, folder=folder, config=config))
    return described


def for_others(config: Config) -> Config:
    """The configuration for a folder that is given to others: float32, and without paths of this machine."""
    return dataclasses.replace(portable(config), data=DataConfig(), init=InitConfig())


@contextlib.contextmanager
def making(out: Path) -> Iterator[Path]:
    """A context with a new folder. The folder becomes `out` when the block ends, and is deleted if the block fails.

    Raises:
      UserError: `out` exists already.
    """
    if out.exists() or out.is_symlink():
        raise UserError(f'--out={out}: is there already; name another folder, or remove it')
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f'.partial-{out.name}')
    shutil.rmtree(partial, ignore_errors=True)  # left behind by a process that was killed
    partial.mkdir()
    try:
        yield partial
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check(network: Network, program: Program, chosen: Format, batch: int) -> float:
    """Compares an exported program with jax on generated frames.

    Returns:
      The largest difference between a probability of the program and the same probability of jax.

    Raises:
      UserError: a difference is more than the format's tolerance.
    """
    size = network.config.augment.crop_size
    clips, height, width = _CHECKED if chosen.whole_frames else (batch, size, size)
    frames = _made(clips, network.frames, height, width)
    given, right = program(frames), expected(network, frames, chosen.whole_frames)
    difference = rare = np.inf
    if given.shape == right.shape:
        difference = float(np.abs(given - right).max())
        # A network that is sure of a class gives nearly 0 and 1 even if its arithmetic is wrong. Logarithms show this.
        rare = float(np.abs(np.log(given / right))[right > _RARE].max())
    if not (difference <= chosen.tolerance and rare <= 100 * chosen.tolerance):
        raise UserError(
            f'the file that was written gives {given.ravel()[:3]}..., and jax {right.ravel()[:3]}...: {difference:.1e} apart, '
            f'where {chosen.tolerance:.0e} is accepted. Nothing was kept; take another format'
        )
    return difference


def expected(network: Network, frames: np.ndarray, whole_frames: bool) -> np.ndarray:
    """The probabilities float32[b k] that evaluation and `Classifier` compute for frames uint8[b t h w 3]."""
    config = portable(network.config)
    step = jax.jit(make_predict_step(build_model(config, network.classes), config))
    height, width = frames.shape[2:4]
    windows = [Window(0, 0, height, width)]
    if whole_frames:
        windows = view_windows(height, width, config.augment, config.test.crops)
    moments = frames.reshape(len(frames) * config.test.clips, -1, *frames.shape[2:])
    seen, through = zip(*[(moment, window) for moment in moments for window in windows])
    logits = np.asarray(step(network.variables, on_canvas(seen, through, max(height, width))))
    return metrics.average_views(logits.reshape(len(frames), -1, network.classes), config.test.average)


def _made(clips: int, frames: int, height: int, width: int) -> np.ndarray:
    """Frames uint8[b t h w 3] of moving blobs and noise."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (clips, frames, 8, 8, 3))
    smooth = coarse.repeat(-(-height // 8), axis=2).repeat(-(-width // 8), axis=3)[:, :, :height, :width]
    return np.clip(smooth + rng.integers(-20, 21, smooth.shape), 0, 255).astype(np.uint8)


def _versions(chosen: Format) -> dict[str, str]:
    distributions = importlib.metadata.packages_distributions()
    of = lambda module: importlib.metadata.version(distributions[module][0])
    return {'vidcls': vidcls.__version__} | {module: of(module) for module in ('jax', *chosen.needs)}
