"""Classifies videos with the network of a work directory. Neither the dataset nor TensorFlow is needed.

A video is prepared, sampled, cropped and transformed by the code of evaluation (`vidcls.viewing`). So prediction and
evaluation give the same logits, up to the loss of the JPEG.
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
from vidcls.ranking import Ranks
from vidcls.run import checkpoint, resource_errors, workdir
from vidcls.run.workdir import Run
from vidcls.runtimes import description
from vidcls.viewing import Choice, Source, View, Viewer, listed


class Classifier(Ranks):
    """A trained network that classifies videos. `Classifier.load` makes one. Several threads may share it.

    Attributes:
      folder: the work directory.
      labels: class names, in the order of the logits.
      config: the configuration of the run, for one device.
      frames: how the frames of the run's dataset were stored.
      model: the Flax module.
      variables: the parameters and statistics of the module, on the device.
    """

    def __init__(
        self, run: Run, variables: Any, clips: int = 0, crops: int = 0, settings: Mapping[str, Any] | None = None
    ):
        self.folder, self.labels, self.frames = run.folder, run.labels, run.frames
        # There is one device, and so no axis of devices to average over.
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
          folder: the work directory, or the exported folder. In an exported folder the checkpoint, the views and the
            settings are fixed, so the other arguments must be left out.
          checkpoint_name: 'best', 'latest' or a step.
          clips, crops: the numbers of views in time and in space; 0 means the configured numbers.
          settings: values that replace the run's own, such as {'sampling.test_segments': 25}. `config.TEST_SETTINGS`
            lists the settings that may be given.

        Raises:
          UserError: the folder has no run or no such checkpoint, or a setting can't work.
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
        """The probabilities float32[k] of a video, or float32[b k] of a list of videos.

        They are averaged over the views as in the run's evaluation. The arguments and errors are the same as in
        `classify`.
        """
        logits = self.logits(source, fps)
        if isinstance(source, list):
            return metrics.average_views(logits, self.config.test.average)
        return metrics.average_views(logits[None], self.config.test.average)[0]

    def logits(self, source: Source | list[Any], fps: float | None = None) -> np.ndarray:
        """The logits float32[v k] of the views of a video, or float32[b v k] of a list of videos.

        The arguments are the same as in `classify`. The errors of `classify` are raised too.

        Raises:
          resource_errors.OutOfMemory: the memory does not suffice; the message says what helps.
        """
        sources = listed(source, fps)
        logits = self._logits((self.views(one, fps) for one in sources), len(sources))
        return logits if isinstance(source, list) else logits[0]

    def logits_of(self, views: list[View]) -> np.ndarray:
        """The logits float32[v k] of one video, from its views: a result of `views` or `views_and_more`."""
        return self._logits(iter([views]), 1)[0]

    def views(self, source: Source, fps: float | None = None) -> list[View]:
        """The views of a video (see `Viewer.views`), in the order of `logits`."""
        return self._viewer.views(source, fps)

    def views_and_more(
        self, source: Source, more: Choice, fps: float | None = None
    ) -> tuple[list[View], list[bytes], np.ndarray]:
        """The views of a video and other frames of the video, decoded in one pass (see `Viewer.views_and_more`)."""
        return self._viewer.views_and_more(source, more, fps)

    def _logits(self, videos: Iterator[list[View]], count: int) -> np.ndarray:
        """The logits float32[b v k] of the views of `count` videos."""
        with resource_errors.explained_views(self.config):
            logits = self._computed(self._batches(videos))
        views_each = self._viewer.views_each
        return logits[: count * views_each].reshape(count, views_each, len(self.labels))

    def _batches(self, videos: Iterator[list[View]]) -> Iterator[Views]:
        """Yields the views of all videos, in order, in batches for the device. The last batch may have too many views.

        A batch has the views of as many videos as fit into `views_at_once`. A video with more views is divided into
        several equal batches. If fewer videos are left at the end, the last view is repeated until the views fill a
        whole batch, half a batch, a quarter... So few shapes are compiled, whatever the length of a list.
        """
        views_each, at_once = self._viewer.views_each, views_at_once(self.config)
        together = max(at_once // views_each, 1)
        while group := list(itertools.islice(videos, together)):
            views = list(itertools.chain.from_iterable(group))
            size = _size(len(group), together) * largest_divisor(views_each, at_once)
            views += views[-1:] * (-len(views) % size)
            for start in range(0, len(views), size):
                _, windows, _, pictures = zip(*views[start : start + size])
                # No window is larger than the short side of a stored frame. Frames of all sizes get the same canvas, so
                # that the step is compiled once.
                yield transform.on_canvas(pictures, windows, self.frames.short_side)

    def _computed(self, batches: Iterable[Views]) -> np.ndarray:
        """The logits float32[v k] of all batches. The device computes one batch while the next one is decoded."""
        parts: list[Any] = [np.zeros((0, len(self.labels)), np.float32)]
        for views in batches:
            parts.append(self._step(self.variables, views))  # does not wait for the result
            parts[-2] = np.asarray(parts[-2])  # waits for the batch before: no more than two are on the device
        return np.concatenate(parts)


def _size(count: int, most: int) -> int:
    """The smallest size that is at least `count`. The sizes are `most`, its half, its quarter..., rounded up."""
    while most > 1 and -(-most // 2) >= count:
        most = -(-most // 2)
    return most


def with_network(classifier: Ranks) -> Classifier:
    """Returns the classifier, if streams and explanations can look into its network.

    Raises:
      UserError: the classifier has no network to look into.
    """
    if isinstance(classifier, Classifier):
        return classifier
    if isinstance(classifier, ExportedClassifier):
        raise UserError(
            f'{classifier.folder}: an exported file gives the probabilities of whole videos alone; take the work directory of '
            'the run'
        )
    raise UserError('several runs that answer together have several networks; take the work directory of one run')


def find_videos(path: str | Path) -> list[Path]:
    """The videos at `path`: the file itself, or the videos that a conversion would find in and below a folder, sorted.

    Raises:
      UserError: nothing is at `path`, the folder has no video, or the folder can't be read.
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
