"""The label of a video, from a work directory alone; TensorFlow is not needed.

A video is prepared, sampled, cropped and transformed by the code of evaluation (`vidcls.viewing`), so that both give the same
logits up to the JPEG's loss.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Union

import jax
import numpy as np

from vidcls import config as config_lib
from vidcls import metrics
from vidcls.data import transform, tree, video
from vidcls.data.sampling import largest_divisor, views_at_once
from vidcls.data.transform import Views
from vidcls.errors import UserError
from vidcls.exported import ExportedClassifier
from vidcls.models.configured import build_model, check_frames, make_predict_step
from vidcls.ranking import Ranking, Ranks
from vidcls.run import checkpoint, resource_errors, workdir
from vidcls.run.workdir import Run
from vidcls.runtimes import description
from vidcls.viewing import Choice, Source, View, Viewer, listed

__all__ = ['Classifier', 'ExportedClassifier', 'Ranking', 'Ranks', 'Source', 'View', 'find_videos', 'with_network']


class Classifier(Ranks):
    """A trained network that takes videos; make one with `Classifier.load`. Several threads may share it.

    Attributes:
      folder: the work directory.
      labels: class names, in the order of the logits.
      config: of the run, for one device.
      frames: how its dataset's frames were stored.
      model, variables: the Flax module, and its parameters on the device.
    """

    def __init__(
        self, run: Run, variables: Any, clips: int = 0, crops: int = 0, settings: Mapping[str, Any] | None = None
    ):
        self.folder, self.labels, self.frames = run.folder, run.labels, run.frames
        # One device, no axis to average over.
        views = {name: number for name, number in (('test.clips', clips), ('test.crops', crops)) if number}
        config = config_lib.for_testing(run.config, {**(settings or {}), **views})
        self.config = dataclasses.replace(config, model=dataclasses.replace(config.model, sync_batch_norm=False))
        self.model = build_model(self.config, len(run.labels))
        check_frames(self.config, self.model, variables)
        with resource_errors.explained_views(self.config):
            self.variables = jax.device_put(variables)
        self._viewer = Viewer(self.config, run.frames)
        self._step = jax.jit(make_predict_step(self.model, self.config))

    @classmethod
    def load(
        cls,
        folder: str | Path,
        checkpoint_name: str = 'best',
        clips: int = 0,
        crops: int = 0,
        settings: Mapping[str, Any] | None = None,
    ) -> Union['Classifier', ExportedClassifier]:
        """The classifier of a work directory, or of a folder that `experiments.export` wrote.

        Args:
          folder: the work directory; or the exported folder, in which checkpoint, views and settings are fixed.
          checkpoint_name: 'best', 'latest' or a step.
          clips, crops: the numbers of views in time and in space; 0 means the configured numbers.
          settings: values of `config.TEST_SETTINGS` in place of the run's own, such as {'sampling.test_segments': 25}.

        Raises:
          UserError: no run there, no such checkpoint, or a setting that can't work.
        """
        run = workdir.load(folder)
        if description.is_exported(run.folder):
            if (checkpoint_name, clips, crops) != ('best', 0, 0) or settings:
                raise UserError(
                    f'{folder}: checkpoint, views and settings were fixed when it was exported; export the run again'
                )
            return ExportedClassifier(run)
        return cls(run, checkpoint.restore_model(run.checkpoints, checkpoint_name)[1], clips, crops, settings)

    def probabilities(self, source: Source | list[Any], fps: float | None = None) -> np.ndarray:
        """The probabilities float32[k], or float32[b k] of a list: averaged over the views as in the run's evaluation.

        Arguments and errors are those of `classify`.
        """
        logits = self.logits(source, fps)
        if isinstance(source, list):
            return metrics.average_views(logits, self.config.test.average)
        return metrics.average_views(logits[None], self.config.test.average)[0]

    def logits(self, source: Source | list[Any], fps: float | None = None) -> np.ndarray:
        """The logits of each view, float32[v k], or float32[b v k] of a list.

        Arguments are those of `classify`.

        Raises:
          resource_errors.OutOfMemory: says what helps. Other errors are those of `classify`.
        """
        sources = listed(source, fps)
        logits = self._logits((self.views(one, fps) for one in sources), len(sources))
        return logits if isinstance(source, list) else logits[0]

    def logits_of(self, views: list[View]) -> np.ndarray:
        """The logits float32[v k] of the views of one video, which `views` or `views_and_more` gave."""
        return self._logits(iter([views]), 1)[0]

    def views(self, source: Source, fps: float | None = None) -> list[View]:
        """What the network looks at in a video, in the order of `logits` (`Viewer.views`)."""
        return self._viewer.views(source, fps)

    def views_and_more(
        self, source: Source, more: Choice, fps: float | None = None
    ) -> tuple[list[View], list[bytes], np.ndarray]:
        """The views of a video and other frames of it, decoded in one pass (`Viewer.views_and_more`)."""
        return self._viewer.views_and_more(source, more, fps)

    def _logits(self, videos: Iterator[list[View]], count: int) -> np.ndarray:
        """The logits float32[b v k] of the views of `count` videos."""
        with resource_errors.explained_views(self.config):
            logits = self._computed(self._batches(videos))
        views_each = self._viewer.views_each
        return logits[: count * views_each].reshape(count, views_each, len(self.labels))

    def _batches(self, videos: Iterator[list[View]]) -> Iterator[Views]:
        """The views of all videos, in order, in the batches that go to the device; the last batch may have too many.

        As many videos as fit into `views_at_once` are one batch; a video of more views is several equal batches. Fewer
        videos at the end are filled up, with the last view again, to a whole batch, a half, a quarter...: few shapes are
        compiled, whatever a list's length.
        """
        views_each, at_once = self._viewer.views_each, views_at_once(self.config)
        together = max(at_once // views_each, 1)
        while group := list(itertools.islice(videos, together)):
            views = list(itertools.chain.from_iterable(group))
            size = _size(len(group), together) * largest_divisor(views_each, at_once)
            views += views[-1:] * (-len(views) % size)
            for start in range(0, len(views), size):
                _, windows, _, pictures = zip(*views[start : start + size])
                # No window is larger than the stored short side, for crops are at most it. One canvas for all sizes of
                # frames is one compilation.
                yield transform.on_canvas(pictures, windows, self.frames.short_side)

    def _computed(self, batches: Iterable[Views]) -> np.ndarray:
        """The logits float32[v k] of all batches. The device computes one batch while the next one is decoded."""
        parts: list[Any] = [np.zeros((0, len(self.labels)), np.float32)]
        for views in batches:
            parts.append(self._step(self.variables, views))  # does not wait for the result
            parts[-2] = np.asarray(parts[-2])  # waits for the batch before: no more than two are on the device
        return np.concatenate(parts)


def _size(count: int, most: int) -> int:
    """The smallest of `most`, its half, its quarter... (rounded up) that is at least `count`."""
    while most > 1 and -(-most // 2) >= count:
        most = -(-most // 2)
    return most


def with_network(classifier: Ranks) -> Classifier:
    """The classifier, for what looks into its network, such as streams and explanations.

    Raises:
      UserError: it has no network to look into.
    """
    if isinstance(classifier, Classifier):
        return classifier
    where = f'{classifier.folder}: an exported file' if isinstance(classifier, ExportedClassifier) else 'a fusion'
    raise UserError(f'{where} gives the probabilities of whole videos alone; take the work directory of the run')


def find_videos(path: str | Path) -> list[Path]:
    """A file itself; of a folder, the videos in it and below that a conversion would find, sorted.

    Raises:
      UserError: nothing is there, a folder has no video, or can't be read.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise UserError(f'{path}: no such file or folder')
    if not path.is_dir():
        return [path]
    found = [clip for clip in tree.search(path).clips if clip.is_file()]
    if not found:
        raise UserError(f'{path}: no videos (*{", *".join(sorted(video.SUFFIXES))}) in this folder')
    return found
