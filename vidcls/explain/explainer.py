"""Explains what a classifier saw in a video: a method's cells of one view, as a map over the frames.

The view's frames, window, canvas and transform are those of `vidcls.predict`.
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
from vidcls.predict import Classifier, Source
from vidcls.run import resource_errors
from vidcls.text import spelling

FILM_FRAMES = 240  # of an animation
_FILM_BYTES = 256 << 20  # of its stored frames


class Method(NamedTuple):
    """A way to explain: what makes its function (variables, views, label) -> cells, and whether maps are interpolated."""

    make: Callable[..., Callable[..., dict[str, Any]]]
    smooth: bool = True


METHODS = {
    'gradcam': Method(gradcam.make),
    'gradient_rollout': Method(partial(rollout.make, by_gradient=True)),
    'rollout': Method(partial(rollout.make, by_gradient=False)),
    'occlusion': Method(occlusion.make, smooth=False),
}


class Explainer:
    """Explains a classifier by one method. Videos after the first one need no compilation.

    Args:
      classifier: it may have several views; the one that is surest of the label is explained.
      method: a name of `METHODS`; '' is gradcam for networks with maps, gradient_rollout for TimeSformer, and occlusion for
        any other.
      grid: of occlusion: blocks in time, rows, columns.

    Raises:
      UserError: an unknown method, one that the network has nothing for, or a grid that can't work.
    """

    def __init__(self, classifier: Classifier, method: str = '', grid: occlusion.Grid = occlusion.GRID):
        if method and method not in METHODS:
            near = spelling.hint(method, METHODS)
            raise UserError(f'unknown method {method!r}{near}; known: {", ".join(METHODS)}')
        config = classifier.config
        # The activations are wanted here, and not computed again; and attention in a form that has gradients everywhere.
        plain = dataclasses.replace(config.model, remat=None, attention_implementation=None)
        config = dataclasses.replace(config, model=plain)
        model = build_model(config, len(classifier.labels))
        self.classifier, self.method = classifier, method or _method_for(model)
        extra = {'grid': grid} if self.method == 'occlusion' else {}
        self._cells = METHODS[self.method].make(model, config, **extra)

    def explain(self, source: Source, label: str | None = None, fps: float | None = None) -> Explanation:
        """What speaks for `label` in a video.

        Args:
          source, fps: as of `Classifier.classify`, one video.
          label: a class; None is the most probable one.

        Raises:
          UserError: no such label; or the network's output for this video is not finite.
          Other errors are those of `Classifier.classify`.
        """
        classifier = self.classifier
        if label is not None:
            check_label(label, classifier.labels)
        name = '' if isinstance(source, np.ndarray) else os.fspath(source)
        logits = classifier.logits(source, fps)
        probabilities = metrics.average_views(logits[None], classifier.config.test.average)[0]
        number = int(probabilities.argmax()) if label is None else classifier.labels.index(label)
        each = metrics.average_views(logits[:, None], 'probabilities')
        view = int(each[:, number].argmax())
        seen = classifier.views(source, fps)[view]
        views = transform.on_canvas([seen.pictures], [seen.window], classifier.frames.short_side)
        smooth = METHODS[self.method].smooth
        with resource_errors.explained_views(classifier.config):
            found = self._cells(classifier.variables, views, number)
            cells = {part: np.asarray(one, np.float32) for part, one in found.items()}
        if not all(np.isfinite(part).all() for part in (logits, *cells.values())):
            raise UserError(
                f'{name or "the frames"}: the network gives numbers that are not finite; nothing to explain'
            )
        shape = (len(seen.frames), seen.window.height, seen.window.width)
        return Explanation(
            video=name,
            label=classifier.labels[number],
            probability=float(probabilities[number]),
            method=self.method,
            view=view,
            views=len(logits),
            frames=seen.frames,
            window=seen.window,
            times=seen.times,
            map=maps.merged(cells, shape, seen.window.flip, smooth),
            cells=cells,
            smooth=smooth,
        )

    def write(
        self, source: Source, folder: str | Path, label: str | None = None, fps: float | None = None, name: str = ''
    ) -> Path:
        """Explains a video and writes a strip (.png), an animation (.mp4), the arrays (.npz) and a .json into `folder`.

        Args:
          folder: made where it is not there.
          name: what the files are called; '' is the video's name. The label and the method follow, and a number where
            another video has the name already.

        Returns:
          The strip.

        Raises:
          UserError: the libraries that draw are not installed; others are those of `explain`.
        """
        explanation = self.explain(source, label, fps)
        film = self._film(source, explanation, fps)
        return saving.save(explanation, Path(folder).expanduser(), *film, self.classifier.folder, name)

    def _film(self, source: Source, explanation: Explanation, fps: float | None) -> tuple[np.ndarray, np.ndarray]:
        """Stored frames uint8[t h w c] of the whole video for the animation, evenly chosen, and their times."""
        most = max(min(FILM_FRAMES, _FILM_BYTES // explanation.frames[0].nbytes), 1)

        def choose(num_frames: int, rate: float) -> list[int]:
            few = min(num_frames, most, math.ceil(num_frames / rate * pictures.FPS[1]))  # no more than the film shows
            return np.unique(np.linspace(0, num_frames - 1, few).astype(int)).tolist()

        return self.classifier.read(source, choose, fps)


def check_label(label: str, labels: tuple[str, ...]) -> None:
    """Raises UserError where there is no such label; the message has the nearest ones."""
    if label not in labels:
        raise UserError(
            f'the run has no label {label!r}{spelling.hint(label, labels)}; it has {len(labels)}, in labels.txt'
        )


def _method_for(model: Any) -> str:
    if type(model) in gradcam.BRANCHES:
        return 'gradcam'
    return 'gradient_rollout' if isinstance(model, rollout.TimeSformer) else 'occlusion'
