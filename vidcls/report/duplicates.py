"""Clips that are in a dataset twice: with the same bytes, with the same pictures, or of the same scene.

Same bytes: all stored JPEGs of the two clips are equal. The frame index has the sizes of all JPEGs, so that clips whose
sizes differ anywhere are not read.

Same look: the perceptual hashes of FRAMES frames, spread evenly over each clip, are near each other. The hash is
imagehash's pHash: the signs of the 64 lowest frequencies of a 32 x 32 grey picture (Zauner 2010, section 3.2.1). The
distance of two clips is the number of bits that differ, of 64 * FRAMES = 512 bits. On UCF101, copies that were encoded
again, scaled or made brighter by 25 levels have distances of at most 40. Two clips of one recording with a still camera
have distances of 10 to 200, and clips of different recordings have distances above 130.

These ranges overlap, so a second look divides the pairs within MOST_BITS into copies and scenes. It compares what moves
in each clip: the clip's grey pictures less their mean. If what moves in two clips correlates by at least
LEAST_CORRELATION, one clip is a copy of the other. Otherwise both are of one scene, such as two clips cut from one
recording. On UCF101 the correlation was 0.98 to 1 for 120 copies of the kinds above, and 0.1 for the clips of
Basketball's groups 3 and 23. Between the first and the second half of a clip it was below 0.7 for 86 of 88 clips; the
other two clips show push-ups in step. A copy that is cut in time, mirrored or cropped is not found, and a copy of a
clip in which nothing moves passes for a scene.
"""

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vidcls.data.dataset import Dataset
from vidcls.data.frame_reader import FrameReader
from vidcls.report.pictures import grey, spread

FRAMES = 8
MOST_BITS = 48  # of 512
LEAST_CORRELATION = 0.9
MOST_PAIRS = 1000  # so many pairs are kept, the nearest ones
_BLOCK = 256  # clips that are compared with all others at once
_SIDE = 64  # pixels of the pictures of the second look


class Alike(NamedTuple):
    """Clips that are alike.

    Attributes:
      clips: the numbers of the clips in the dataset's index, ascending; two or more.
      bits: the number of bits in which the hashes of two clips differ; None for clips with the same bytes.
    """

    clips: tuple[int, ...]
    bits: int | None = None


def equal_clips(dataset: Dataset) -> list[Alike]:
    """Groups of clips whose frames are equal byte by byte, in the order of each group's first clip."""
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
    return [Alike(tuple(clips)) for clips in same_bytes.values() if len(clips) > 1]


def crossing(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """The parts of a dataset, and which of them must have nothing in common.

    Clips that are in the same splits form a part. Two splits cross if they share no clip and their names have the same
    number, such as train2 and test2.

    Returns:
      int64[n], the number of each clip's part; and bool[parts parts], whether two parts lie in splits that cross.
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


def crossed_splits(dataset: Dataset, clips: Sequence[int]) -> list[str]:
    """The pairs of crossing splits, such as 'train1 and test1', in which both splits have some of `clips`."""
    splits = {name: members for name, members in dataset.splits.items() if np.isin(clips, members).any()}
    return [
        f'{a} and {b}'
        for a, b in itertools.combinations(splits, 2)
        if _number(a) == _number(b) and not np.intersect1d(splits[a], splits[b]).size
    ]


def near_pairs(
    hashes: np.ndarray,
    known: np.ndarray,
    part: np.ndarray,
    cross: np.ndarray,
    group_of: np.ndarray,
    most_bits: int = MOST_BITS,
) -> tuple[list[Alike], int]:
    """The pairs of clips in crossing parts whose hashes differ in at most `most_bits` bits.

    Pairs of clips of one group are left out.

    Args:
      hashes: uint64[n f], the hashes of f frames of each clip.
      known: bool[n], whether the clip's hashes mean anything. Those of a black clip do not.
      part, cross: what `crossing` returns.
      group_of: int[n], the group of each clip. Clips that are known to be equal are in one group.

    Returns:
      The MOST_PAIRS nearest pairs, nearest first, and the number of all such pairs.
    """
    rows, counted, kept = np.flatnonzero(known), 0, []
    for start in range(0, len(rows), _BLOCK):
        first, second = rows[start : start + _BLOCK], rows[start:]
        bits = np.zeros((len(first), len(second)), np.uint16)
        for frame in range(hashes.shape[1]):
            bits += np.bitwise_count(hashes[first, None, frame] ^ hashes[None, second, frame])
        near = (bits <= most_bits) & cross[np.ix_(part[first], part[second])]
        near &= np.arange(len(first))[:, None] < np.arange(len(second))[None, :]  # so that each pair is found once
        near &= group_of[first][:, None] != group_of[second][None, :]
        i, j = np.nonzero(near)
        counted += len(i)
        nearest = np.argsort(bits[i, j], kind='stable')[:MOST_PAIRS]
        i, j = i[nearest], j[nearest]
        kept += [Alike((int(a), int(b)), int(c)) for a, b, c in zip(first[i], second[j], bits[i, j])]
        kept = sorted(kept, key=lambda pair: (pair.bits, pair.clips))[:MOST_PAIRS]
    return kept, counted


def is_copy(dataset: Dataset, reader: FrameReader, pair: Alike) -> bool:
    """Whether the clips of a pair show the same pictures, and not only the same scene.

    Raises:
      UserError, ValueError: a frame can't be read or decoded.
    """
    ours, theirs = (_moving(dataset, reader, clip) for clip in pair.clips)
    power = np.sqrt((ours**2).sum() * (theirs**2).sum())
    return bool((ours * theirs).sum() >= LEAST_CORRELATION * power > 0)


def _moving(dataset: Dataset, reader: FrameReader, clip: int) -> np.ndarray:
    """What moves in a clip, float64[FRAMES h w]: grey pictures of its frames less the mean of these pictures."""
    frames = spread(dataset.index.num_frames(clip), FRAMES)
    found = np.stack([grey(jpeg, (_SIDE, _SIDE)) for jpeg in reader.read(clip, frames)]).astype(float)
    return found - found.mean(axis=0)


def _number(split: str) -> str:
    """The digits at the end of a split's name."""
    return split[len(split.rstrip('0123456789')) :]
