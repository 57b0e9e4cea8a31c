"""The label of a video file, from a work directory alone; TensorFlow is not needed.

A video is prepared as the dataset's were (size, rate), sampled, cropped and transformed by the code of evaluation, so
that both give the same logits up to the JPEG's loss.
"""

import dataclasses
from pathlib import Path

import jax
import numpy as np
from absl import logging

from vidcls import checkpoint, metrics, workdir
from vidcls.data import pipeline, transform, video
from vidcls.data.sampling import Sampler
from vidcls.errors import UserError
from vidcls.evaluate import build_model, predict_step
from vidcls.workdir import Run


class Classifier:
    """A trained network that takes video files; make one with `Classifier.load`.

    Attributes:
      labels: class names, in the order of the logits.
      config: of the run, for one device.
      frames: how its dataset's frames were stored.
      model, variables: the Flax module, and its parameters on the device.
    """

    def __init__(self, run: Run, variables, clips: int = 0, crops: int = 0):
        self.labels = run.labels
        self.frames = run.frames
        # One device, no axis to average over.
        model = dataclasses.replace(run.config.model, sync_batch_norm=False)
        self.config = dataclasses.replace(run.config, model=model)
        self.model = build_model(self.config, len(run.labels))
        self.variables = jax.device_put(variables)
        self._clips, self._crops = clips or run.config.test.clips, crops or run.config.test.crops
        self._sampler = Sampler(run.config.sampling, training=False)
        self._step = jax.jit(predict_step(self.model, self.config))

    @classmethod
    def load(cls, folder: str | Path, checkpoint_name: str = 'best', clips: int = 0, crops: int = 0) -> 'Classifier':
        """The classifier of a work directory.

        Args:
          checkpoint_name: 'best', 'latest' or a step.
          clips, crops: views in time and in space, 0 for the configured numbers.

        Raises:
          UserError: no run there, or no such checkpoint.
        """
        run = workdir.load(folder)
        return cls(run, checkpoint.restore_model(run.checkpoints, checkpoint_name)[1], clips, crops)

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
        """float32[v k]: the logits of each view."""
        stored = {'short_side': self.frames.short_side, 'fps': self.frames.fps}
        info = video.probe(path, **stored)
        if info.damage:
            logging.warning('%s: damaged, used in part: %s', path, info.damage)
        views = pipeline.test_views(
            self._sampler, self.config, info.num_frames, info.fps, info.height, info.width,
            self._clips, self._crops,
        )  # fmt: skip
        wanted, place = np.unique([view.frames for view in views], return_inverse=True)
        frames = video.read_frames(path, wanted, **stored)
        frames = frames[place.reshape(len(views), -1)]  # v t h w c
        return np.asarray(self._step(self.variables, transform.on_canvas(frames, [v.window for v in views])))


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
