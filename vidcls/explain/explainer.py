"""Explains what a classifier saw in a video.

A method gives cells of one view, and the cells become a map over the view's frames. The frames, window, canvas and
transform of the view are the same as in `vidcls.predict`.
"""

import dataclasses
import math
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vidcls import metrics
from vidcls.data import transform
from vidcls.errors import UserError
from vidcls.explain import gradcam, maps, occlusion, pictures, rollout, saving
from vidcls.explain.maps import Explanation
from vidcls.models.configured import build_model
from vidcls.predict import with_network
from vidcls.ranking import Ranks
from vidcls.run import resource_errors
from vidcls.text import spelling
from vidcls.viewing import Source, View

FILM_FRAMES = 240  # the most frames of an animation


class Method(NamedTuple):
    """A method of explaining.

    Attributes:
      make: a function of the network and its configuration. It returns a function (variables, views, label) -> cells.
      smooth: whether the map is interpolated between cells.
    """

    make: Callable[..., Callable[..., dict[str, Any]]]
    smooth: bool = True


METHODS = {
    'gradcam': Method(gradcam.make),
    'gradient_rollout': Method(partial(rollout.make, by_gradient=True)),
    'rollout': Method(partial(rollout.make, by_gradient=False)),
    'occlusion': Method(occlusion.make, smooth=False),
}


@dataclasses.dataclass(frozen=True)
class Look:
    """A video, decoded and classified.

    Attributes:
      video: the path of the video, '' for frames from memory.
      views: what the network looked at.
      logits: float32[v k], the logits of each view.
      probabilities: float32[k], averaged over the views as in a prediction.
      film: frames of the whole video for the animation, as JPEGs.
      film_times: float64[t], when these frames appear, seconds.
    """

    video: str
    views: list[View]
    logits: np.ndarray
    probabilities: np.ndarray
    film: list[bytes]
    film_times: np.ndarray


class Explainer:
    """Explains a classifier by one method. Videos after the first one need no compilation.

    Args:
      classifier: the classifier. If it has several views, the view that gives the label the highest probability is
        explained.
      method: a name of `METHODS`. With '', networks of `gradcam.BRANCHES` get gradcam, TimeSformer gets
        gradient_rollout, and any other network gets occlusion.
      grid: for occlusion, the numbers of blocks in time, of rows and of columns.

    Raises:
      UserError: the method is unknown or does not suit the network, the grid can't work, or the classifier has no network
        (`predict.with_network`).
    """

    def __init__(self, classifier: Ranks, method: str = '', grid: occlusion.Grid = occlusion.GRID):
        if method and method not in METHODS:
            near = spelling.hint(method, METHODS)
            raise UserError(f'unknown method {method!r}{near}; known: {", ".join(METHODS)}')
        classifier = with_network(classifier)
        config = classifier.config
        # `remat` would hide the activations. With None, attention takes a form that has gradients everywhere.
        plain = dataclasses.replace(config.model, remat=None, attention_implementation=None)
        config = dataclasses.replace(config, model=plain)
        model = build_model(config, len(classifier.labels))
        self.classifier, self.method = classifier, method or _method_for(model)
        extra = {'grid': grid} if self.method == 'occlusion' else {}
        self._cells = METHODS[self.method].make(model, config, **extra)

    def look(self, source: Source, fps: float | None = None) -> Look:
        """Decodes and classifies a video once. `explain` and `write` take the result, for any label.

        Args:
          source: a video, as for `Classifier.classify`, but not a list.
          fps: as for `Classifier.classify`.

        Raises:
          The errors of `Classifier.classify`.
        """
        classifier = self.classifier
        views, film, film_times = classifier.views_and_more(source, _film_frames, fps)
        logits = classifier.logits_of(views)
        probabilities = metrics.average_views(logits[None], classifier.config.test.average)[0]
        name = '' if isinstance(source, np.ndarray) else os.fspath(source)
        return Look(name, views, logits, probabilities, film, film_times)

    def explain(self, source: Source | Look, label: str | None = None, fps: float | None = None) -> Explanation:
        """Explains what speaks for `label` in a video.

        Args:
          source: a video, or what `look` returned for it.
          label: a class. None means the most probable class.
          fps: as for `look`.

        Raises:
          UserError: there is no such label, or the network's output for this video is not finite.
          Other errors are those of `look`.
        """
        classifier = self.classifier
        if label is not None:
            check_label(label, classifier.labels)
        look = source if isinstance(source, Look) else self.look(source, fps)
        number = int(look.probabilities.argmax()) if label is None else classifier.labels.index(label)
        each = metrics.average_views(look.logits[:, None], 'probabilities')
        view = int(each[:, number].argmax())
        seen = look.views[view]
        views = transform.on_canvas([seen.pictures], [seen.window], classifier.frames.short_side)
        smooth = METHODS[self.method].smooth
        with resource_errors.explained_views(classifier.config):
            found = self._cells(classifier.variables, views, number)
            cells = {part: np.asarray(one, np.float32) for part, one in found.items()}
        if not all(np.isfinite(part).all() for part in (look.logits, *cells.values())):
            raise UserError(
                f'{look.video or "the frames"}: the network gives numbers that are not finite; nothing to explain'
            )
        shape = (len(seen.frames), seen.window.height, seen.window.width)
        return Explanation(
            video=look.video,
            label=classifier.labels[number],
            probability=float(look.probabilities[number]),
            method=self.method,
            view=view,
            views=len(look.views),
            frames=seen.frames,
            window=seen.window,
            times=seen.times,
            map=maps.merged(cells, shape, seen.window.flip, smooth),
            cells=cells,
            smooth=smooth,
        )

    def write(
        self,
        source: Source | Look,
        folder: str | Path,
        label: str | None = None,
        fps: float | None = None,
        name: str = '',
    ) -> Path:
        """Explains a video and writes a strip (.png), an animation (.mp4), the arrays (.npz) and a .json into `folder`.

        Args:
          source, label, fps: as for `explain`.
          folder: the folder for the files, which is made if it does not exist.
          name: the beginning of the files' names; '' means the video's name. The label and the method follow it. A
            number is added if files of another explanation have this name already.

        Returns:
          The path of the strip.

        Raises:
          UserError: the libraries that draw are not installed. Other errors are those of `explain`.
        """
        look = source if isinstance(source, Look) else self.look(source, fps)
        explanation = self.explain(look, label)
        run = self.classifier.folder
        return saving.save(explanation, Path(folder).expanduser(), look.film, look.film_times, run, name)


def _film_frames(num_frames: int, rate: float) -> list[int]:
    """The indices of evenly chosen frames of a whole video: at most as many as the animation shows.

    Args:
      rate: the video's frames a second.
    """
    most = min(num_frames, FILM_FRAMES, math.ceil(num_frames / rate * pictures.FPS[1]))
    return np.unique(np.linspace(0, num_frames - 1, most).astype(int)).tolist()


def check_label(label: str, labels: tuple[str, ...]) -> None:
    """Raises UserError if there is no such label. The message has the nearest labels."""
    if label not in labels:
        raise UserError(
            f'the run has no label {label!r}{spelling.hint(label, labels)}; it has {len(labels)}, in labels.txt'
        )


def _method_for(model: Any) -> str:
    if type(model) in gradcam.BRANCHES:
        return 'gradcam'
    return 'gradient_rollout' if isinstance(model, rollout.TimeSformer) else 'occlusion'
