"""The label of a video, from a work directory alone; TensorFlow is not needed.

A video is a file, or its frames uint8[t h w c] in memory. It is prepared as the dataset's clips were (size, rate), and
sampled, cropped and transformed by the code of evaluation, so that both give the same logits up to the JPEG's loss.
"""

import dataclasses
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, overload

import jax
import numpy as np
from absl import logging

from vidcls import config as config_lib
from vidcls import metrics
from vidcls.config import Config
from vidcls.data import transform, tree, video
from vidcls.data.frame_times import IMAGE_FPS
from vidcls.data.sampling import Sampler, largest_divisor, views_at_once
from vidcls.data.transform import Views
from vidcls.data.windows import Window, view_windows
from vidcls.errors import UserError
from vidcls.models.configured import build_model, check_frames, make_predict_step
from vidcls.run import checkpoint, resource_errors, workdir
from vidcls.run.workdir import Run
from vidcls.runtimes import description, opening

Source: TypeAlias = str | os.PathLike | np.ndarray  # a file, or RGB frames uint8[t h w c]
Ranking: TypeAlias = list[tuple[str, float]]  # labels and their probabilities, best first
# (number of stored frames, frames per second) -> their indices
Choice: TypeAlias = Callable[[int, float], Sequence[int]]


class View(NamedTuple):
    """A view of a video.

    Attributes:
      frames: uint8[t h w c], whole frames as they would be stored, RGB.
      window: what the network looks at in each of them.
      times: float64[t], when each frame appears, seconds after the first frame of the video.
    """

    frames: np.ndarray
    window: Window
    times: np.ndarray


class Classifier:
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
        # One device, no axis to average over.
        views = {name: number for name, number in (('test.clips', clips), ('test.crops', crops)) if number}
        config = config_lib.for_testing(run.config, {**(settings or {}), **views})
        self._describe(run, dataclasses.replace(config, model=dataclasses.replace(config.model, sync_batch_norm=False)))
        self.model = build_model(self.config, len(run.labels))
        check_frames(self.config, self.model, variables)
        with resource_errors.explained_views(self.config):
            self.variables = jax.device_put(variables)
        self._step = jax.jit(make_predict_step(self.model, self.config))

    def _describe(self, run: Run, config: Config) -> None:
        self.folder, self.labels, self.frames, self.config = run.folder, run.labels, run.frames, config
        self._clips, self._crops = config.test.clips, config.test.crops
        self._sampler = Sampler(config.sampling, training=False)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        checkpoint_name: str = 'best',
        clips: int = 0,
        crops: int = 0,
        settings: Mapping[str, Any] | None = None,
    ) -> 'Classifier':
        """The classifier of a work directory, or of a folder that `experiments.export` wrote (`ExportedClassifier`).

        Args:
          folder: of the run, or the exported one, in which checkpoint, views and settings are fixed.
          checkpoint_name: 'best', 'latest' or a step.
          clips, crops: views in time and in space, 0 for the configured numbers.
          settings: over the run's own, those of `config.TEST_SETTINGS`, such as {'sampling.test_segments': 25}.

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

    @overload
    def classify(self, source: Source, top_k: int = 5, fps: float | None = None) -> Ranking: ...

    @overload
    def classify(self, source: list[Any], top_k: int = 5, fps: float | None = None) -> list[Ranking]: ...

    def classify(self, source, top_k=5, fps=None):
        """The `top_k` most probable labels of a video with their probabilities, best first; of a list, a list of these.

        A list is faster than its videos one by one: views of several videos go to the device together.

        Args:
          source: a path, an array of RGB frames uint8[t h w c], or a list of either.
          fps: frames a second of the arrays; None: the rate of the dataset's stored frames, or `frame_times.IMAGE_FPS`
            if the dataset keeps every frame. A file states its own rate.

        Raises:
          vidcls.data.container.VideoError: a file can't be read; names the file and the reason. The other results of a
            list are lost: classify one by one to go on after a bad file.
          ValueError, TypeError: no path and no array of that type and shape.
        """
        probabilities = self.probabilities(source, fps)
        if isinstance(source, list):
            return [self.best(one, top_k) for one in probabilities]
        return self.best(probabilities, top_k)

    def best(self, probabilities: np.ndarray, top_k: int) -> Ranking:
        """The `top_k` labels of float32[k], best first."""
        order = np.argsort(-probabilities, kind='stable')[:top_k]
        return [(self.labels[label], float(probabilities[label])) for label in order]

    def probabilities(self, source: Source | list[Any], fps: float | None = None) -> np.ndarray:
        """float32[k], or float32[b k] of a list: averaged over the views, as the evaluation of the run does it.

        Arguments and errors are those of `classify`.
        """
        logits = self.logits(source, fps)
        if isinstance(source, list):
            return metrics.average_views(logits, self.config.test.average)
        return metrics.average_views(logits[None], self.config.test.average)[0]

    def logits(self, source: Source | list[Any], fps: float | None = None) -> np.ndarray:
        """float32[v k], or float32[b v k] of a list: the logits of each view.

        Arguments are those of `classify`.

        Raises:
          resource_errors.OutOfMemory: says what helps. Other errors are those of `classify`.
        """
        sources = _checked(source, fps)
        with resource_errors.explained_views(self.config):
            logits = self._computed(self._batches(sources, fps))
        views_each = self._clips * self._crops
        logits = logits[: len(sources) * views_each].reshape(len(sources), views_each, len(self.labels))
        return logits if isinstance(source, list) else logits[0]

    def _batches(self, sources: list[Source], fps: float | None) -> Iterator[Views]:
        """The views of all videos, in order, in the batches that go to the device; the last batch may have too many.

        As many videos as fit into `views_at_once` are one batch; a video of more views is several equal batches. Fewer
        videos at the end are filled up, with the last view again, to a whole batch, a half, a quarter...: few shapes are
        compiled, whatever a list's length.
        """
        views_each, at_once = self._clips * self._crops, views_at_once(self.config)
        together = max(at_once // views_each, 1)
        for first in range(0, len(sources), together):
            group = sources[first : first + together]
            views = [view for source in group for view in self.views(source, fps)]
            size = _size(len(group), together) * largest_divisor(views_each, at_once)
            views += views[-1:] * (-len(views) % size)
            for start in range(0, len(views), size):
                frames, windows, _ = zip(*views[start : start + size])
                # No window is larger than the stored short side, for crops are at most it. One canvas for all sizes of
                # frames is one compilation.
                yield transform.on_canvas(frames, windows, self.frames.short_side)

    def _computed(self, batches: Iterable[Views]) -> np.ndarray:
        """The logits float32[v k] of all batches. The device computes one batch while the next one is decoded."""
        parts: list[Any] = [np.zeros((0, len(self.labels)), np.float32)]
        for views in batches:
            parts.append(self._step(self.variables, views))  # does not wait for the result
            parts[-2] = np.asarray(parts[-2])  # waits for the batch before: no more than two are on the device
        return np.concatenate(parts)

    def views(self, source: Source, fps: float | None = None) -> list[View]:
        """What the network looks at in a video, in the order of `logits`: the crops of the first moment come first.

        Arguments and errors are those of `classify`.
        """

        frames, times = self.read(source, self._choose, fps)
        height, width = frames.shape[1:3]
        windows = view_windows(height, width, self.config.augment, self._crops)
        moments = frames.reshape(self._clips, -1, *frames.shape[1:])
        return [
            View(moment, window, when)
            for moment, when in zip(moments, times.reshape(self._clips, -1))
            for window in windows
        ]

    def _choose(self, num_frames: int, rate: float) -> list[int]:
        views = [self._sampler.view(num_frames, rate, clip, self._clips) for clip in range(self._clips)]
        return np.concatenate(views).tolist()

    def read(self, source: Source, choose: Choice, fps: float | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Chosen frames of a video as they would be stored, uint8[t h w c], and their times float64[t] in seconds.

        The times count from the first frame, at the video's average rate. Other arguments and errors are those of
        `classify`.
        """
        if isinstance(source, np.ndarray):
            rate = fps or self.frames.fps or IMAGE_FPS
            return video.choose_of(source, choose, rate, short_side=self.frames.short_side, fps=self.frames.fps)
        info, frames = video.read_chosen(source, choose, short_side=self.frames.short_side, fps=self.frames.fps)
        if info.damage:
            logging.warning('%s: damaged, used in part: %s', source, info.damage)
        return frames, np.asarray(choose(info.num_frames, info.fps)) / info.fps


class ExportedClassifier(Classifier):
    """A classifier that runs an exported file (`vidcls.runtimes`); make one with `Classifier.load`.

    It gives labels and probabilities. What looks into the network, as streaming and explaining do, needs the work directory
    of the run.
    """

    def __init__(self, run: Run):
        self._describe(run, run.config)
        self._exported = opening.open_exported(run.folder)
        if len(run.labels) != self._exported.description.classes:
            raise UserError(
                f'{run.folder}: {len(run.labels)} labels for the {self._exported.description.classes} classes of the file'
            )

    def probabilities(self, source: Source | list[Any], fps: float | None = None) -> np.ndarray:
        whole = self._exported.description.whole_frames
        found = []
        for one in _checked(source, fps):
            frames, _ = self.read(one, self._choose, fps)
            if not whole:
                (window,) = view_windows(*frames.shape[1:3], self.config.augment, 1)
                frames = transform.resized(frames, window, self.config.augment.crop_size)
            found.append(self._exported(frames[None])[0])
        if isinstance(source, list):
            return np.stack(found) if found else np.zeros((0, len(self.labels)), np.float32)
        return found[0]

    def __getattr__(self, name: str) -> Any:
        if name in ('model', 'variables', '_step'):
            raise UserError(
                f'{self.folder}: an exported file gives probabilities of whole videos; streams, logits and explanations need '
                'the work directory of the run'
            )
        raise AttributeError(name)


def _size(count: int, most: int) -> int:
    """The smallest of `most`, its half, its quarter... (rounded up) that is at least `count`."""
    while most > 1 and -(-most // 2) >= count:
        most = -(-most // 2)
    return most


def _checked(source: Source | list[Any], fps: float | None) -> list[Source]:
    """The sources as a list, each of which is a path or an array of frames."""
    sources = source if isinstance(source, list) else [source]
    for number, one in enumerate(sources):
        _check(one, f'number {number} of the list: ' if isinstance(source, list) else '')
    if fps is not None and not (fps > 0 and math.isfinite(fps)):
        raise ValueError(f'fps={fps}: must be greater than 0')
    return sources


def _check(source: Any, which: str) -> None:
    """Refuses what is neither a path nor an array of frames; `which` names it in the message."""
    if isinstance(source, str | os.PathLike):
        return
    if not isinstance(source, np.ndarray):
        raise TypeError(
            f'{which}{type(source).__name__}: must be a path, RGB frames uint8[t h w 3], or a list of these'
        )
    if source.dtype != np.uint8 or source.ndim != 4 or source.shape[-1] != 3 or not source.size:
        raise ValueError(f'{which}an array of {source.dtype}{list(source.shape)}: must be RGB frames uint8[t h w 3]')


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
