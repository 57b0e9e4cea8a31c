"""The label of a video file, from a work directory alone; TensorFlow is not needed.

A video is prepared as the dataset's were (size, rate), sampled, cropped and transformed by the code of evaluation, so
that both give the same logits up to the JPEG's loss.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging

from vidcls import config as config_lib
from vidcls import metrics
from vidcls.data import transform, video
from vidcls.data.sampling import Sampler, largest_divisor, views_at_once
from vidcls.data.windows import Window, test_windows
from vidcls.errors import UserError
from vidcls.models.configured import build_model, check_frames, make_predict_step
from vidcls.run import checkpoint, resource_errors, workdir
from vidcls.run.workdir import Run


class Classifier:
    """A trained network that takes video files; make one with `Classifier.load`.

    Attributes:
      labels: class names, in the order of the logits.
      config: of the run, for one device.
      frames: how its dataset's frames were stored.
      model, variables: the Flax module, and its parameters on the device.
    """

    def __init__(self, run: Run, variables, clips: int = 0, crops: int = 0, settings: Mapping[str, Any] | None = None):
        self.labels = run.labels
        self.frames = run.frames
        # One device, no axis to average over.
        config = config_lib.for_testing(run.config, settings or {})
        self.config = dataclasses.replace(config, model=dataclasses.replace(config.model, sync_batch_norm=False))
        self.model = build_model(self.config, len(run.labels))
        check_frames(self.config, self.model, variables)
        with resource_errors.explained_views(self.config):
            self.variables = jax.device_put(variables)
        self._clips, self._crops = clips or config.test.clips, crops or config.test.crops
        self._sampler = Sampler(config.sampling, training=False)
        self._step = jax.jit(make_predict_step(self.model, self.config))

    @classmethod
    def load(
        cls,
        folder: str | Path,
        checkpoint_name: str = 'best',
        clips: int = 0,
        crops: int = 0,
        settings: Mapping[str, Any] | None = None,
    ) -> 'Classifier':
        """The classifier of a work directory.

        Args:
          checkpoint_name: 'best', 'latest' or a step.
          clips, crops: views in time and in space, 0 for the configured numbers.
          settings: over the run's own, those of `config.TEST_SETTINGS`, such as {'sampling.test_segments': 25}.

        Raises:
          UserError: no run there, no such checkpoint, or a setting that can't work.
        """
        run = workdir.load(folder)
        return cls(run, checkpoint.restore_model(run.checkpoints, checkpoint_name)[1], clips, crops, settings)

    def classify(self, path: str | Path, top_k: int = 5) -> list[tuple[str, float]]:
        """The `top_k` most probable labels of a video file, with their probabilities, best first.

        Raises:
          vidcls.data.video.VideoError: it can't be read; names the file and the reason.
        """
        return self.best(self.probabilities(path), top_k)

    def best(self, probabilities: np.ndarray, top_k: int) -> list[tuple[str, float]]:
        """The `top_k` labels of float32[k], best first."""
        order = np.argsort(-probabilities, kind='stable')[:top_k]
        return [(self.labels[label], float(probabilities[label])) for label in order]

    def probabilities(self, path: str | Path) -> np.ndarray:
        """float32[k]: averaged over the views, as the evaluation of the run does it."""
        return metrics.average_views(self.logits(path)[None], self.config.test.average)[0]

    def logits(self, path: str | Path) -> np.ndarray:
        """float32[v k]: the logits of each view.

        Raises:
          vidcls.data.video.VideoError: it can't be read.
          resource_errors.OutOfMemory: says what helps.
        """

        def choose(num_frames: int, fps: float) -> np.ndarray:
            views = [self._sampler.view(num_frames, fps, clip, self._clips) for clip in range(self._clips)]
            return np.concatenate(views)

        with resource_errors.explained_views(self.config):
            info, frames = video.read_chosen(path, choose, short_side=self.frames.short_side, fps=self.frames.fps)
            if info.damage:
                logging.warning('%s: damaged, used in part: %s', path, info.damage)
            frames = frames.reshape(self._clips, -1, *frames.shape[1:])  # of each moment, t h w c
            windows = test_windows(info.height, info.width, self.config.augment, self._crops)
            views = [(moment, window) for moment in frames for window in windows]
            count = largest_divisor(len(views), views_at_once(self.config))
            parts = [views[first : first + count] for first in range(0, len(views), count)]
            return np.concatenate([self._views_logits(part) for part in parts])

    def _views_logits(self, views: list[tuple[np.ndarray, Window]]) -> np.ndarray:
        """float32[v k] of v pairs of frames uint8[t h w c] and a window; compiles once, whatever the pictures' size."""
        frames, windows = zip(*views)
        # No window is larger than the short side, for crops are at most it; in stored pixels that is limited.
        return np.asarray(self._step(self.variables, transform.on_canvas(frames, windows, self.frames.short_side)))


def find_videos(path: str | Path) -> list[Path]:
    """Anything but a folder as it is; of a folder, every file in it and below whose ending is that of a video, sorted.

    Raises:
      UserError: nothing there.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise UserError(f'{path}: no such file or folder')
    if not path.is_dir():
        return [path]
    found = sorted(
        file
        for file in path.rglob('*')
        if file.suffix.lower() in video.SUFFIXES and file.is_file() and not file.name.startswith('.')
    )
    if not found:
        raise UserError(f'{path}: no videos (*{", *".join(sorted(video.SUFFIXES))}) in this folder')
    return found
