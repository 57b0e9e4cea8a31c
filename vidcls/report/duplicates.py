"""Clips that are in a dataset twice: with the same bytes, or with frames that look the same.

Same bytes: two clips whose every stored JPEG is equal. The frame index has the sizes of all JPEGs, and clips whose sizes
differ anywhere are not read.

Same look: a perceptual hash (pHash: the signs of the 64 lowest frequencies of a 32 x 32 grey picture, Zauner 2010, section
3.2.1; by imagehash) of FRAMES frames spread evenly over a clip. The distance of two clips is the number of bits that differ, of
64 * FRAMES. A copy that was encoded again, scaled, or made a little brighter stays within MOST_BITS; two clips of one scene do
not, as long as something moves. A copy that is cut, mirrored or cropped is not found.
"""

import hashlib
from collections import defaultdict
from typing import NamedTuple

import numpy as np

from vidcls.data.dataset import Dataset

FRAMES = 8
MOST_BITS = 48  # of 512
MOST_PAIRS = 1000  # that are kept, nearest first
_BLOCK = 256  # clips that are compared with all others at once


class Pair(NamedTuple):
    """Two clips, by their numbers in the dataset's index, and the bits in which their hashes differ; 0 for same bytes."""

    first: int
    second: int
    bits: int


def equal_clips(dataset: Dataset) -> list[list[int]]:
    """Groups of clips whose frames are equal byte by byte, in the order of their first clips."""
    index, reader = dataset.index, dataset.reader()
    same_sizes = defaultdict(list)
    for clip in range(len(index)):
        same_sizes[index.length[index.first[clip] : index.first[clip + 1]].tobytes()].append(clip)
    same_bytes = defaultdict(list)
    for sizes, clips in same_sizes.items():
        for clip in clips if len(clips) > 1 else ():
            digest = hashlib.sha256()
            for frame in range(index.num_frames(clip)):
                digest.update(reader.read(clip, [frame])[0])
            same_bytes[len(sizes), digest.digest()].append(clip)
    return [clips for clips in same_bytes.values() if len(clips) > 1]


def crossing(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Which clips must have nothing in common.

    Two splits cross if they share no clip and their names have the same number, such as train2 and test2.

    Returns:
      int64[n], the number of each clip's part: clips of one part are in the same splits; and bool[parts parts], whether two
      parts lie in splits that cross.
    """
    names = list(dataset.splits)
    member = np.zeros((len(dataset.index), len(names)), bool)
    for column, name in enumerate(names):
        member[dataset.splits[name], column] = True
    parts, part = np.unique(member, axis=0, return_inverse=True)
    cross = np.zeros((len(names), len(names)), bool)
    for a, first in enumerate(names):
        for b, second in enumerate(names):
            cross[a, b] = _number(first) == _number(second) and not (member[:, a] & member[:, b]).any()
    reached = parts.astype(np.int64)
    return part.reshape(-1), (reached @ cross @ reached.T) > 0


def crossed_splits(dataset: Dataset, first: int, second: int) -> list[str]:
    """The pairs of crossing splits that two clips lie in, such as 'train1 and test1'."""
    ours, theirs = ([name for name, clips in dataset.splits.items() if clip in clips] for clip in (first, second))
    return [
        f'{a} and {b}' for a in ours for b in theirs
        if _number(a) == _number(b) and not np.intersect1d(dataset.splits[a], dataset.splits[b]).size
    ]  # fmt: skip


def near_pairs(
    hashes: np.ndarray, known: np.ndarray, part: np.ndarray, cross: np.ndarray, most_bits: int = MOST_BITS
) -> tuple[list[Pair], int]:
    """Pairs of clips in crossing parts whose hashes differ in at most `most_bits`.

    Args:
      hashes: uint64[n f].
      known: bool[n], whether the hashes mean something; a black clip looks like every other.
      part, cross: what `crossing` returns.

    Returns:
      The nearest MOST_PAIRS pairs, nearest first, and how many there are.
    """
    rows, counted, kept = np.flatnonzero(known), 0, []
    for start in range(0, len(rows), _BLOCK):
        first, second = rows[start : start + _BLOCK], rows[start:]
        bits = np.zeros((len(first), len(second)), np.uint16)
        for frame in range(hashes.shape[1]):
            bits += np.bitwise_count(hashes[first, None, frame] ^ hashes[None, second, frame])
        near = (bits <= most_bits) & cross[np.ix_(part[first], part[second])]
        near &= np.arange(len(first))[:, None] < np.arange(len(second))[None, :]  # each pair once
        i, j = np.nonzero(near)
        counted += len(i)
        kept += [Pair(int(a), int(b), int(c)) for a, b, c in zip(first[i], second[j], bits[i, j])]
        kept = sorted(kept, key=lambda pair: (pair.bits, pair.first, pair.second))[:MOST_PAIRS]
    return kept, counted


def _number(split: str) -> str:
    """The digits at the end of a split's name."""
    return split[len(split.rstrip('0123456789')) :]
