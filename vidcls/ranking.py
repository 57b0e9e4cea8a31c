"""Ranks the labels of a video by their probabilities, in the same way for everything that classifies videos."""

from typing import Any, TypeAlias, overload

import numpy as np

from vidcls.viewing import Source

Ranking: TypeAlias = list[tuple[str, float]]  # labels and their probabilities, best first


class Ranks:
    """A classifier of videos that ranks its `labels` by their `probabilities`."""

    labels: tuple[str, ...]

    @overload
    def classify(self, source: Source, top_k: int = 5, fps: float | None = None) -> Ranking: ...

    @overload
    def classify(self, source: list[Any], top_k: int = 5, fps: float | None = None) -> list[Ranking]: ...

    def classify(self, source, top_k=5, fps=None):
        """The `top_k` most probable labels of a video, best first, with their probabilities.

        For a list of videos, the result is a list of such rankings. A list is faster than its videos one by one,
        because views of several videos go to the device together.

        Args:
          source: a path, an array of RGB frames uint8[t h w c], or a list of paths and arrays.
          top_k: the number of labels.
          fps: the rate of the arrays, in frames per second. None means the rate of the dataset's stored frames, or
            `frame_times.IMAGE_FPS` if the dataset keeps every frame. A file states its own rate.

        Raises:
          vidcls.data.container.VideoError: a file can't be read; the message names the file and the reason. The
            results of the other videos in a list are lost. To go on after a bad file, classify the videos one by one.
          ValueError, TypeError: a source is neither a path nor an array of that type and shape.
        """
        probabilities = self.probabilities(source, fps)
        if isinstance(source, list):
            return [self.best(one, top_k) for one in probabilities]
        return self.best(probabilities, top_k)

    def best(self, probabilities: np.ndarray, top_k: int) -> Ranking:
        """The `top_k` most probable labels, best first, from probabilities float32[k]."""
        order = np.argsort(-probabilities, kind='stable')[:top_k]
        return [(self.labels[label], float(probabilities[label])) for label in order]

    def probabilities(self, source: Source | list[Any], fps: float | None = None) -> np.ndarray:
        """The probabilities float32[k] of a video, or float32[b k] of a list of videos.

        The arguments and errors are the same as in `classify`.
        """
        raise NotImplementedError
