"""Probabilities as labels: what everything that classifies videos has in common."""

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
        """The `top_k` most probable labels of a video with their probabilities, best first; of a list, a list of these.

        A list is faster than its videos one by one: views of several videos go to the device together.

        Args:
          source: a path, an array of RGB frames uint8[t h w c], or a list of either.
          fps: frames a second of the arrays. None means the rate of the dataset's stored frames, or
            `frame_times.IMAGE_FPS` if the dataset keeps every frame. A file states its own rate.

        Raises:
          vidcls.data.container.VideoError: a file can't be read; the message names the file and the reason. The other
            results of a list are lost: classify one by one to go on after a bad file.
          ValueError, TypeError: the source is no path, and no array of that type and shape.
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
        """The probabilities float32[k] of a video, or float32[b k] of a list. Arguments and errors are those of `classify`."""
        raise NotImplementedError
