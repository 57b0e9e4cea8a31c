"""What the stored frames of every clip look like: perceptual hashes, frames of one brightness, frames that repeat.

The frame index has the sizes of all JPEGs. The sizes show that most frames are neither of one brightness nor repeated:
a frame of one brightness needs few bytes, and a repeated frame has the size of the frame before it. So only the frames
that are hashed and the frames of suspicious sizes are read.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from vidcls.data.dataset import Dataset
from vidcls.data.frame_reader import FrameReader
from vidcls.errors import UserError
from vidcls.report.duplicates import FRAMES
from vidcls.report.pictures import grey, spread

FLAT = 3.0  # grey levels: the standard deviation below which a frame has one brightness
BLACK = 24.0  # grey levels: the mean below which such a frame is called black
FROZEN_SECONDS = 0.5  # the least length of a run of equal frames, which must also have FROZEN_FRAMES frames
FROZEN_FRAMES = 5
# A frame may be flat if its JPEG of quality 95 has fewer bits a pixel than this. A black frame of 320 x 240 has 0.2.
_FLAT_BITS = 0.5
_HEADER_BYTES = 700  # the tables and markers of a JPEG, which are not its picture


class ClipLooks(NamedTuple):
    """What the frames of one clip look like.

    Attributes:
      hashes: uint64[FRAMES], the pHashes of frames spread evenly over the clip; 0 for a flat frame.
      textured: whether most of these frames are not flat; otherwise the hashes mean nothing.
      flat: how many frames of the clip have one brightness.
      black: how many of the flat frames are black.
      frozen: (first frame, number of frames) of the longest run of frames that are equal byte by byte; (0, 0) if the
        run is shorter than FROZEN_FRAMES or FROZEN_SECONDS.
      broken: what is wrong with a frame that can't be decoded; '' if nothing is.
    """

    hashes: np.ndarray
    textured: bool
    flat: int = 0
    black: int = 0
    frozen: tuple[int, int] = (0, 0)
    broken: str = ''


def look(dataset: Dataset, progress: Callable[[int], None] = lambda done: None) -> list[ClipLooks]:
    """Looks at every clip of a dataset, in as many threads as there are cores.

    Args:
      progress: is called with the number of clips that are done.
    """
    reader, found = dataset.reader(), []
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
        for each in threads.map(lambda clip: _look(dataset, reader, clip), range(len(dataset.index))):
            found.append(each)
            progress(len(found))
    return found


def _look(dataset: Dataset, reader: FrameReader, clip: int) -> ClipLooks:
    index = dataset.index
    frames = spread(index.num_frames(clip), FRAMES)
    try:
        hashes = np.array([_hash(jpeg) for jpeg in reader.read(clip, frames)], np.uint64)
        levels = _flat_levels(dataset, reader, clip)
        return ClipLooks(
            hashes=hashes,
            textured=int((hashes > 0).sum()) > FRAMES // 2,
            flat=len(levels),
            black=int((levels < BLACK).sum()),
            frozen=_frozen(dataset, reader, clip),
        )
    except (UserError, ValueError) as error:  # one broken frame must not hide what is wrong with the other clips
        return ClipLooks(np.zeros(FRAMES, np.uint64), textured=False, broken=str(error))


def _hash(jpeg: bytes) -> np.uint64:
    import imagehash
    from PIL import Image

    picture = grey(jpeg)
    if picture.std() < FLAT:
        return np.uint64(0)
    # The hash of a textured frame is never 0: its bits say which values are above the median, so some are 1.
    return np.packbits(imagehash.phash(Image.fromarray(picture)).hash.ravel()).view(np.uint64)[0]


def _flat_levels(dataset: Dataset, reader: FrameReader, clip: int) -> np.ndarray:
    """The mean brightness of each frame that has one brightness, float64[f], from 0 to 255."""
    index = dataset.index
    sizes = index.length[index.first[clip] : index.first[clip + 1]]
    pixels = int(index.height[clip]) * int(index.width[clip])
    small = np.flatnonzero(8 * sizes < _FLAT_BITS * pixels + 8 * _HEADER_BYTES)
    pictures = (grey(reader.read(clip, [frame])[0]) for frame in small.tolist())
    return np.array([picture.mean() for picture in pictures if picture.std() < FLAT])


def _frozen(dataset: Dataset, reader: FrameReader, clip: int) -> tuple[int, int]:
    index = dataset.index
    sizes = index.length[index.first[clip] : index.first[clip + 1]]
    least = max(FROZEN_FRAMES, int(np.ceil(FROZEN_SECONDS * index.fps[clip])))
    best = (0, 0)
    for start, count in _runs(sizes):
        if count < max(least, best[1] + 1):
            continue
        first, before = start, reader.read(clip, [start])[0]
        for frame in range(start + 1, start + count + 1):
            jpeg = reader.read(clip, [frame])[0] if frame < start + count else b''
            if jpeg != before:
                best = max(best, (first, frame - first), key=lambda run: run[1])
                first, before = frame, jpeg
    return best if best[1] >= least else (0, 0)


def _runs(values: np.ndarray) -> list[tuple[int, int]]:
    """The runs of equal values, each as (start, length)."""
    starts = np.flatnonzero(np.diff(values, prepend=values[0] - 1))
    return list(zip(starts.tolist(), np.diff(starts, append=len(values)).tolist()))
