"""The label of a video file, from a work directory alone; TensorFlow is not needed.

A video is prepared as the dataset's were (size, rate), sampled, cropped and transformed by the code of evaluation, so
that both give the same logits up to the JPEG's loss.
"""

import dataclasses
from pathlib import Path

import jax
import numpy as np

from vidcls import checkpoint, workdir
from vidcls.data import pipeline, transform, video
from vidcls.data.sampling import Sampler
from vidcls.evaluate import build_model, predict_step
from vidcls.workdir import Run


class Classifier:
    """A trained network that takes video files; make one with `Classifier.load`."""

    def __init__(self, run: Run, variables, clips: int = 0, crops: int = 0):
        self.labels = run.labels
        self._frames = run.frames
        # One device, no axis to average over.
        model = dataclasses.replace(run.config.model, sync_batch_norm=False)
        self._config = dataclasses.replace(run.config, model=model)
        self._clips, self._crops = clips or run.config.test.clips, crops or run.config.test.crops
        self._sampler = Sampler(run.config.sampling, training=False)
        self._variables = jax.device_put(variables)
        self._step = jax.jit(predict_step(build_model(self._config, len(run.labels)), self._config))

    @classmethod
    def load(
        cls, folder: str | Path, checkpoint_name: str = 'best', clips: int = 0, crops: int = 0
    ) -> 'Classifier':
        """The classifier of a work directory.

        Args:
          checkpoint_name: 'best', 'latest' or a step.
          clips, crops: views in time and in space, 0 for the configured numbers.

        Raises:
          FileNotFoundError: no run there, or no such checkpoint.
        """
        run = workdir.load(folder)
        return cls(run, checkpoint.restore_model(run.checkpoints, checkpoint_name)[1], clips, crops)

    def classify(self, path: str | Path, top_k: int = 5) -> list[tuple[str, float]]:
        """The `top_k` most probable labels of a video file, with their probabilities, best first.

        Raises:
          vidcls.data.video.VideoError: it can't be read; names the file and the reason.
        """
        probabilities = self.probabilities(path)
        best = np.argsort(-probabilities, kind='stable')[:top_k]
        return [(self.labels[label], float(probabilities[label])) for label in best]

    def probabilities(self, path: str | Path) -> np.ndarray:
        """float32[k]: the mean over the views of the softmax."""
        return np.asarray(jax.nn.softmax(self.logits(path), axis=-1)).mean(axis=0)

    def logits(self, path: str | Path) -> np.ndarray:
        """float32[v k]: the logits of each view."""
        stored = {'short_side': self._frames.short_side, 'fps': self._frames.fps}
        info = video.probe(path, **stored)
        views = pipeline.test_views(
            self._sampler, self._config, info.num_frames, info.fps, info.height, info.width,
            self._clips, self._crops,
        )  # fmt: skip
        wanted, place = np.unique([view.frames for view in views], return_inverse=True)
        frames = video.read_frames(path, wanted, **stored)
        frames = frames[place.reshape(len(views), -1)]  # v t h w c
        return np.asarray(self._step(self._variables, transform.on_canvas(frames, [v.window for v in views])))


def find_videos(path: str | Path) -> list[Path]:
    """A file as it is; of a folder, every file in it and below whose ending is that of a video, sorted.

    Raises:
      FileNotFoundError: nothing there.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(f'{path}: no such file or folder')
    if path.is_file():
        return [path]
    found = sorted(
        file
        for file in path.rglob('*')
        if file.suffix.lower() in video.SUFFIXES and file.is_file() and not file.name.startswith('.')
    )
    if not found:
        raise FileNotFoundError(f'{path}: no videos (*{", *".join(sorted(video.SUFFIXES))}) in this folder')
    return found
