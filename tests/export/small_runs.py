"""Work directories of small networks of each family, whose parameters are random numbers and whose answers differ."""

from pathlib import Path

import jax
import numpy as np

from vidcls.config import AugmentConfig, Config, EvalConfig, ModelConfig, SamplingConfig
from vidcls.data.frame_storage import FrameStorage
from vidcls.models.configured import build_model
from vidcls.run import checkpoint, workdir
from vidcls.run.workdir import Run

LABELS = ('golf', 'juggling', 'kayak', 'swing = rope', 'übung')
SIZE = 32  # pixels of the crop

CONFIGS = {
    'tsn': Config(
        model=ModelConfig(name='tsn_micro', width=8),
        sampling=SamplingConfig(num_segments=2, seg_len=2),
        augment=AugmentConfig(short_side=36, crop_size=SIZE),
        test=EvalConfig(clips=2, crops=3, average='logits'),
    ),
    'eco': Config(
        model=ModelConfig(name='eco_full', width=16),
        sampling=SamplingConfig(num_segments=4),
        augment=AugmentConfig(short_side=36, crop_size=SIZE),
        test=EvalConfig(crops=10),
    ),
    'timesformer': Config(
        model=ModelConfig(name='timesformer_tiny', depth=2, width=32, patch_size=16),
        sampling=SamplingConfig(scheme='linspace', num_segments=4, sampling_rate=3),
        augment=AugmentConfig(short_side=40, crop_size=SIZE, mean=(0.45,) * 3, std=(0.225,) * 3),
    ),
}


def make(folder: Path, family: str, stored: int = 64, **test) -> Run:
    """A work directory with a checkpoint of step 7.

    Args:
      stored: the limit on the short side of the dataset's frames, pixels.
      test: settings of `EvalConfig` in place of those of `CONFIGS`.
    """
    config = CONFIGS[family]
    if test:
        config = Config(model=config.model, sampling=config.sampling, augment=config.augment, test=EvalConfig(**test))
    run = Run(folder, config, LABELS, FrameStorage(stored))
    workdir.create(run)
    saved = checkpoint.Checkpoints(run.checkpoints, keep_best=False)
    saved.save(7, {'batch_stats': {}} | variables(config), {'none': np.zeros(1)})
    saved.close()
    return run


def variables(config: Config) -> dict:
    """Parameters and statistics around which nothing is zero: each array is drawn, and the answers differ by clip."""
    model = build_model(config, len(LABELS))
    video = jax.ShapeDtypeStruct((1, config.sampling.num_frames, SIZE, SIZE, 3), np.float32)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), np.zeros(video.shape, video.dtype)))
    rng = np.random.default_rng(0)

    def draw(path, leaf) -> np.ndarray:
        name = path[-1].key
        if name in ('scale', 'var'):
            return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        deviation = 1 / np.sqrt(np.prod(leaf.shape[:-1])) if name == 'kernel' else 0.1
        return (deviation * rng.standard_normal(leaf.shape)).astype(np.float32)

    return dict(jax.tree_util.tree_map_with_path(draw, shapes))
