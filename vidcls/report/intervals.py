"""95 % intervals of scores by the bootstrap: clips, or whole groups of clips, are drawn again with replacement.

Clips that were cut from one recording are alike, so that an interval over clips would be too narrow. Where the dataset
says which clips belong together, groups are drawn instead (the cluster bootstrap).

Sources: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13 (percentile interval); Field and
Welsh, Bootstrapping clustered data, JRSS B 2007, section 3 (whole clusters are drawn).
"""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

DRAWS = 2000
SEED = 0
LEVEL = 0.95
FEW = 20  # units; with fewer, an interval of the bootstrap is known to be too narrow
_AT_ONCE = 1 << 24  # numbers of a drawn array


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
    """Units that are groups of clips. `groups` is int[n], the group of each clip as any number."""
    return Units(of, np.unique(groups, return_inverse=True)[1])


def of_mean(values: np.ndarray, units: Units, draws: int = DRAWS, seed: int = SEED) -> Interval:
    """The interval of the mean over clips.

    Args:
      values: [n], a value of each clip, such as whether the clip is right.
    """
    return of_class_means(values, np.zeros(len(values), int), units, draws, seed)


def of_class_means(
    values: np.ndarray, labels: np.ndarray, units: Units, draws: int = DRAWS, seed: int = SEED
) -> Interval:
    """The interval of the mean over classes of each class's mean over its clips, such as the mean class accuracy.

    Where a draw has no clip of a class, the class is left out of that draw's mean.

    Args:
      values: [n], a value of each clip.
      labels: int[n], the class of each clip as any number.
    """
    classes, label = np.unique(labels, return_inverse=True)
    sums, clips = np.zeros((2, units.count, len(classes)))
    np.add.at(sums, (units.number, label), values)
    np.add.at(clips, (units.number, label), 1)
    found = []
    for counts in _drawn(units.count, draws, seed):
        drawn_clips = counts @ clips  # draws k
        present = drawn_clips > 0
        means = np.divide(counts @ sums, drawn_clips, out=np.zeros_like(drawn_clips), where=present)
        found.append(means.sum(axis=1) / present.sum(axis=1))
    low, high = np.quantile(np.concatenate(found), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def _drawn(units: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    """Yields how often each unit is drawn in each of d draws, float64[d units]. The d of all arrays sum to `draws`."""
    rng = np.random.default_rng(seed)
    at_once = max(_AT_ONCE // units, 1)
    for first in range(0, draws, at_once):
        rows = min(at_once, draws - first)
        chosen = rng.integers(units, size=(rows, units)) + units * np.arange(rows)[:, None]
        yield np.bincount(chosen.ravel(), minlength=rows * units).reshape(rows, units).astype(float)
