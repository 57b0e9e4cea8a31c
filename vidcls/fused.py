"""Classifies videos and streams with several runs together. `vidcls.fuse` does the same with stored scores.

The runs may see different things in the same video, such as its colours and its optical flow (the two streams of
Simonyan and Zisserman 2014, arXiv:1406.2199). Each run prepares the video as it needs it. A run's logits are averaged
over its views. The fusion is the weighted mean of these averages, before the softmax (Wang et al. 2016,
arXiv:1608.00859; their published code has the weights 1 : 1.5 for colours and flow).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vidcls import fuse
from vidcls.errors import UserError
from vidcls.predict import Classifier, with_network
from vidcls.ranking import Ranking, Ranks
from vidcls.stream import Stream
from vidcls.viewing import Source


class Fused(Ranks):
    """A fusion: several classifiers that answer together. `Fused.load` makes one.

    Args:
      members: at least two classifiers with the same labels.
      weights: a weight for each member, not negative. Only the ratios of weights matter. If there are none, all members
        have the same weight.

    Raises:
      UserError: the number of members is out of range, their labels differ, or the weights can't be used.

    Attributes:
      labels: class names, in the order of the logits.
      members: the classifiers.
      weights: the weight of each member.
    """

    def __init__(self, members: Sequence[Classifier], weights: Sequence[float] = ()):
        fuse.check_number(len(members))
        self.members, self.labels = tuple(members), members[0].labels
        self.weights = tuple(weights) or (1.0,) * len(members)
        fuse.check_weights(self.weights, len(members))
        for member in self.members[1:]:
            if member.labels != self.labels:
                raise UserError(
                    f'{member.folder} and {members[0].folder} have other labels, or in another order; runs that are fused '
                    'need the same'
                )

    @classmethod
    def load(
        cls,
        folders: Sequence[str | Path],
        weights: Sequence[float] = (),
        checkpoint_name: str = 'best',
        clips: int = 0,
        crops: int = 0,
        settings: Mapping[str, Any] | None = None,
    ) -> 'Fused':
        """The fusion of the runs in several work directories.

        The other arguments and the errors are the same as in `Classifier.load`.
        """
        load = lambda folder: with_network(Classifier.load(folder, checkpoint_name, clips, crops, settings))
        return cls([load(folder) for folder in folders], weights)

    def logits(self, source: Source | list[Any], fps: float | None = None) -> np.ndarray:
        """The weighted mean of the members' logits: float32[k] of a video, or float32[b k] of a list of videos.

        The arguments are the same as in `classify`.
        """
        return self.mean([member.logits(source, fps).mean(axis=-2) for member in self.members])

    def probabilities(self, source: Source | list[Any], fps: float | None = None) -> np.ndarray:
        """The softmax of `logits`: float32[k] of a video, or float32[b k] of a list of videos."""
        return softmax(self.logits(source, fps))

    def mean(self, logits: Sequence[np.ndarray]) -> np.ndarray:
        """The weighted mean of the logits float32[... k] of all members. Members of weight 0 are left out."""
        total = sum(self.weights)
        counted = [np.float32(weight / total) * one for one, weight in zip(logits, self.weights) if weight]
        return np.sum(counted, axis=0)


class FusedStream:
    """A live stream that the members of a fusion classify together. It has the methods of `vidcls.stream.Stream`.

    Args:
      fused: a fusion whose members were trained on stored frames of the same size and rate.
      every: as in `Stream`. 0 means as many frames as fill the memory of the member that needs most.

    Raises:
      UserError: as in `Stream`. Also if the members' stored frames differ in size or rate.

    Attributes:
      prediction: (label, probability) of every class, best first. The probabilities are averaged over the updates. None
        before the first update.
    """

    def __init__(self, fused: Fused, every: int = 0):
        sizes = {(member.frames.short_side, member.frames.fps) for member in fused.members}
        if len(sizes) > 1:
            raise UserError(
                'these runs were trained on stored frames of other sizes or rates; a stream can have one alone'
            )
        every = every or max(Stream(member).every for member in fused.members)
        self.prediction: Ranking | None = None
        self._fused, self._average = fused, np.zeros(0, np.float32)
        self._streams = [Stream(member, every) for member in fused.members]

    def warm_up(self, frame: np.ndarray) -> None:
        """Does the same as `Stream.warm_up`, for all members."""
        for stream in self._streams:
            stream.warm_up(frame)

    def push(self, frame: np.ndarray) -> bool:
        """Does the same as `Stream.push`, for all members."""
        return self._updated([stream.push(frame) for stream in self._streams])

    def flush(self) -> bool:
        """Does the same as `Stream.flush`, for all members."""
        return self._updated([stream.flush() for stream in self._streams])

    def _updated(self, new: list[bool]) -> bool:
        if not all(new):  # all members have queues of the same length, so all are new at the same frame
            return False
        probabilities = softmax(self._fused.mean([stream.logits for stream in self._streams]))
        self._average = (self._average + probabilities) / 2 if self.prediction else probabilities
        self.prediction = self._fused.best(self._average, len(self._average))
        return True


def softmax(logits: np.ndarray) -> np.ndarray:
    """The softmax over the last axis: float32[... k] -> float32[... k]."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)
