"""95 % intervals of scores by the bootstrap: clips, or whole groups of clips, are drawn again with replacement.

Clips that were cut from one recording are alike, so that an interval over clips would be too narrow. Where the dataset
says which clips belong together, groups are drawn instead (the cluster bootstrap).

Units whose clips have the same classes and values are of one kind: a score can't tell them apart. How often a draw
takes units of each kind is multinomial, so only these counts are drawn. For 240,000 clips that are right or wrong, a
draw is two numbers.

Sources: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13 (percentile interval); Field and Welsh,
Bootstrapping clustered data, JRSS B 2007, section 3 (whole clusters are drawn).
"""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import scipy.sparse

DRAWS = 2000
SEED = 0
LEVEL = 0.95
FEW = 20  # units; with fewer, an interval of the bootstrap is known to be too narrow
_AT_ONCE = 1 << 22  # the most numbers of an array of draws x kinds or of draws x classes


class Interval(NamedTuple):
    """The bounds of a score, in the score's unit."""

    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Units:
    """The units that the bootstrap draws.

    Attributes:
      of: 'clip', or what a group is, such as 'recording'.
      number: int64[n], the unit of each of n clips, counted from 0 without gaps.
    """

    of: str
    number: np.ndarray

    @property
    def count(self) -> int:
        return int(self.number.max()) + 1


def each_clip(count: int) -> Units:
    """Units that are single clips."""
    return Units('clip', np.arange(count))


def of_groups(of: str, groups: np.ndarray) -> Units:
    """Units that are groups of clips.

    Args:
      of: what a group is, such as 'recording'.
      groups: int[n], the group of each clip, as any number.
    """
    return Units(of, np.unique(groups, return_inverse=True)[1])


def of_mean(values: np.ndarray, units: Units, draws: int = DRAWS, seed: int = SEED) -> Interval:
    """The interval of a mean over clips.

    Args:
      values: [n], a value for each clip, such as whether the clip is right.
    """
    return of_class_means(values, np.zeros(len(values), int), units, draws, seed)


def of_class_means(
    values: np.ndarray, labels: np.ndarray, units: Units, draws: int = DRAWS, seed: int = SEED
) -> Interval:
    """The interval of a mean over classes, such as the mean class accuracy.

    The value of a class is the mean over its clips. If a draw has no clip of a class, the class is left out of the
    mean.

    Args:
      values: [n], a value for each clip.
      labels: int[n], the class of each clip, as any number.
    """
    label = np.unique(labels, return_inverse=True)[1]
    places = units.number, label
    sums, clips = (scipy.sparse.csr_array((each, places)) for each in (np.asarray(values, float), np.ones(len(values))))
    kinds, count = _kinds(sums, clips)
    sums, clips = sums[kinds], clips[kinds]
    found = []
    for drawn in _drawn(count, draws, _AT_ONCE // max(clips.shape), seed):
        drawn_clips = drawn @ clips  # d k
        present = drawn_clips > 0
        means = np.divide(drawn @ sums, drawn_clips, out=np.zeros_like(drawn_clips), where=present)
        found.append(means.sum(axis=1) / present.sum(axis=1))
    low, high = np.quantile(np.concatenate(found), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def _kinds(sums: scipy.sparse.csr_array, clips: scipy.sparse.csr_array) -> tuple[np.ndarray, np.ndarray]:
    """One unit of each kind, int64[m], and the number of units of each kind, int64[m].

    The places that are filled are the same in `sums` and `clips`.

    Args:
      sums: [u k], the sum of the values of each unit's clips in each class.
      clips: [u k], the number of each unit's clips in each class.
    """
    of_kind: dict[tuple[bytes, ...], list[int]] = {}
    for unit, (first, end) in enumerate(itertools.pairwise(sums.indptr.tolist())):
        kind = tuple(array[first:end].tobytes() for array in (sums.indices, sums.data, clips.data))
        of_kind.setdefault(kind, []).append(unit)
    return np.array([units[0] for units in of_kind.values()]), np.array([len(units) for units in of_kind.values()])


def _drawn(count: np.ndarray, draws: int, at_once: int, seed: int) -> Iterator[np.ndarray]:
    """Yields how often each of d draws takes units of each of m kinds, float64[d m].

    Args:
      count: int64[m], the number of units of each kind.
      draws: how many draws there are in all arrays together.
      at_once: the most draws in one array; a number below 1 counts as 1.
    """
    rng, units, at_once = np.random.default_rng(seed), int(count.sum()), max(at_once, 1)
    for first in range(0, draws, at_once):
        yield rng.multinomial(units, count / units, min(at_once, draws - first)).astype(float)
