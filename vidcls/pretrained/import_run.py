"""Makes a work directory of published weights, so that evaluation and prediction work without training.

Frames are normalised as the authors of the weights did. The views are also the authors': 25 segments in ten crops for
TSN, 16 segments in one crop for ECO, one view in time and three in space for TimeSformer. docs/protocols.md says what
agrees exactly with the authors' tests and what does not.
"""

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from vidcls import models
from vidcls.config import AugmentConfig, Config, EvalConfig, ModelConfig, SamplingConfig, validate
from vidcls.data.flow import FlowSettings
from vidcls.data.frame_storage import FrameStorage
from vidcls.errors import UserError
from vidcls.models.configured import build_model
from vidcls.pretrained import reading
from vidcls.pretrained.conversion import SHOWN, Converted, convert, origin, recognise, unwrapped
from vidcls.pretrained.fitting import NEW, RESIZED
from vidcls.pretrained.layout import Arrays, Layout
from vidcls.run import checkpoint, workdir
from vidcls.run.checkpoint import Checkpoints
from vidcls.run.workdir import Run
from vidcls.text.bounded_file import read_labels

SHORT_SIDE = 256  # a video's short side is scaled to so many pixels by every library of these layouts
# Bertasius et al. 2021 (arXiv:2102.05095), section 4: frames are sampled 32 apart if there are 8, 16 apart if there are
# 16, and 4 apart if there are 96.
DISTANCES = {8: 32, 16: 16, 96: 4}
# Channels of the first convolution -> modality and `seg_len`. Five frames are stacked (Wang et al. 2016, arXiv:1608.00859).
STACKS = {3: ('rgb', 1), 10: ('flow', 5), 15: ('rgbdiff', 5)}
FRAMES, PIXELS = 512, 1024  # a file's embeddings may be for so many frames of such a side; published are 96 and 448
INIT_INSTEAD = 'start training from such weights with --config.init.weights'


def import_run(
    weights: str | Path, model: str, labels: str | Path, folder: str | Path, flow: FlowSettings | None = None
) -> Run:
    """Makes a work directory with published weights as its only checkpoint, at step 0.

    Args:
      weights: the path or address of a file of weights (see `vidcls.pretrained.reading`).
      model: the name of the network (see `vidcls.models`).
      labels: the path of a file of class names, one a line, in the order of the classes of the weights.
      folder: the work directory to make.
      flow: how the flow was computed that a network of optical flow was trained on. None means `FlowSettings()`, although
        most published networks saw the flow of TV-L1.

    Raises:
      UserError: the work directory has a run already, the labels are not class names, or the weights are not a whole
        network with as many classes as there are labels.
      OSError: the labels can't be read.
    """
    folder = Path(folder).expanduser()
    if folder.is_file() or checkpoint.steps(folder / 'checkpoints'):
        raise UserError(f'{folder} holds a run already; name another --workdir')
    workdir.check_not_exported(folder)
    names = read_labels(Path(labels).expanduser(), own=False)
    arrays = unwrapped(reading.read(weights))
    layout = recognise(arrays)
    config = configuration(model, arrays, layout)
    if not layout.inputs_of(config.sampling.modality).mean:
        logging.warning(
            '%s: does not say how its pixels were normalised; the usual mean and deviation are taken', weights
        )
    validate(config)
    net = build_model(config, len(names))
    shapes = jax.eval_shape(lambda: {**net.init(jax.random.key(0), jnp.zeros((1, *config.video_shape())))})
    converted = convert(arrays, net, shapes)
    _check_whole(weights, converted, len(names))
    source = origin(weights, converted)
    logging.info('%s (sha256 %s): %s', weights, source['sha256'], converted.summary())
    flow = (flow or FlowSettings()) if config.sampling.modality == 'flow' else None
    run = workdir.Run(folder, config, names, FrameStorage(SHORT_SIDE, None, flow))
    workdir.create(run)
    workdir.save_origin(run, source)
    checkpoints = Checkpoints(run.checkpoints, keep_best=False)
    saved = {'batch_stats': {}} | converted.for_rgb()
    checkpoints.save(0, saved, {'none': np.zeros(1)})
    checkpoints.close()
    return run


def configuration(name: str, arrays: Arrays, layout: Layout) -> Config:
    """Returns the run's configuration. The arrays show the network's settings; frames and views are the authors'."""
    # A video's logits are the mean of the logits of its views. tsn-pytorch and ECO-pytorch average the classifier's outputs;
    # the heads of mmaction2 and PaddleVideo average the features of all frames in all crops, which gives the same logits.
    sampling, test = SamplingConfig(num_segments=3, test_segments=25), EvalConfig(crops=10, average='logits')
    sampling.modality, sampling.seg_len = _looks_at(arrays, layout)
    settings: dict[str, Any] = {}
    crop, test_short_side = 224, 0
    if name.startswith('eco'):
        sampling, test = SamplingConfig(num_segments=16), EvalConfig(average='logits')
    if name.startswith('timesformer'):
        frames, crop, settings = _timesformer(name, arrays, layout)
        distance = DISTANCES.get(frames, max(256 // frames, 1))
        sampling = SamplingConfig(num_segments=frames, sampling_rate=distance)
        if layout.keys[0].startswith('mmaction2'):
            sampling.scheme, sampling.view_offset, average = 'dense', 'centre', 'probabilities'
        else:
            sampling.scheme, sampling.view_offset, average = 'linspace', 'start', 'logits'
        test, test_short_side = EvalConfig(crops=3, average=average), crop
    inputs = layout.inputs_of(sampling.modality)
    augment = AugmentConfig(
        short_side=max(SHORT_SIDE, crop), crop_size=crop, test_short_side=test_short_side,
        mean=inputs.mean, std=inputs.std,
    )  # fmt: skip
    return Config(model=ModelConfig(name=name, **settings), sampling=sampling, augment=augment, test=test)


def _find(arrays: Arrays, layout: Layout, path: str) -> np.ndarray | None:
    """Their array for our parameter at `path`; None if they have no such array."""
    names = [group[0] for group in layout.theirs(path)]
    return next((arrays[name] for name in names if name in arrays), None)


def _looks_at(arrays: Arrays, layout: Layout) -> tuple[str, int]:
    """The modality and `seg_len` of the network, which the number of channels of its first convolution shows.

    Raises:
      UserError: there is no modality with this number of channels.
    """
    found = (_find(arrays, layout, f'backbone/{name}/kernel') for name in ('conv1', 'conv1_7x7_s2'))
    kernel = next((array for array in found if array is not None and array.ndim == 4), None)
    count = 3 if kernel is None else layout.to_ours([kernel], 'kernel', ()).shape[2]
    if count not in STACKS:
        raise UserError(f'the first convolution takes {count} channels; known: {", ".join(map(str, STACKS))}')
    return STACKS[count]


def _timesformer(name: str, arrays: Arrays, layout: Layout) -> tuple[int, int, dict[str, Any]]:
    """The number of frames, a frame's side in pixels, and other settings of the network, as the arrays show them."""
    find = functools.partial(_find, arrays, layout)
    default = models.build(name, 1)
    time, place = find('time_embed'), find('pos_embed')
    # Only `temporal_fc` shows divided attention: layouts of image networks also list their attention as attention over
    # time.
    divided = find('blocks_0/temporal_fc/kernel') is not None
    attention = 'divided' if divided else 'joint' if time is not None else 'space'
    for embedding in (time, place):
        if embedding is not None and (embedding.ndim != 3 or embedding.shape[1] < 1):
            raise UserError(f'an embedding of shape {embedding.shape}: must be (1, places or times, width)')
    frames = default.num_frames if time is None else time.shape[1]
    side = default.grid[0] if place is None else round((place.shape[1] - 1) ** 0.5)
    if frames > FRAMES or side * default.patch_size > PIXELS:
        raise UserError(
            f'embeddings for {frames:,} frames of {side * default.patch_size:,} pixels a side: at most {FRAMES} and '
            f'{PIXELS} are taken from a file'
        )
    return frames, side * default.patch_size, {'attention': attention}


def _check_whole(weights: str | Path, converted: Converted, classes: int) -> None:
    """Raises UserError if weights leave a parameter new, or if more than the embeddings had to be changed."""
    new = {path: reason for path, reason in converted.started.items() if reason.startswith(NEW)}
    if 'head/kernel' in new:
        raise UserError(f'{weights}: no classifier of {classes} classes, as the labels are ({new["head/kernel"]})')
    changed = [f'{path} ({why})' for path, why in converted.started.items() if not why.startswith((NEW, RESIZED))]
    if changed:
        raise UserError(f'{weights}: of another network: {", ".join(changed)}; {INIT_INSTEAD}')
    if new:
        shown = ', '.join(list(new)[:SHOWN])
        raise UserError(f'{weights}: {converted.layout.title} lacks {shown}, ... of this network; {INIT_INSTEAD}')
