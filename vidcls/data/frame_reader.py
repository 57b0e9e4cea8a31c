"""Reads single JPEGs out of a dataset's TFRecord shards. The frame index tells where the JPEGs lie."""

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from vidcls.data.frame_index import FrameIndex
from vidcls.errors import UserError

MAX_OPEN = 256  # shards; a process may have 1,024 open files, and there is a reader for each split in use
_JPEG_START = b'\xff\xd8'


class FrameReader:
    """Reads single JPEGs out of the shards of an index. Threads can share a reader, since `pread` keeps no position.

    Args:
      folder: the dataset's folder.
      index: tells where the JPEGs lie.
      what: what messages call a picture.
    """

    def __init__(self, folder: Path, index: FrameIndex, what: str = 'frame'):
        self._folder, self._index, self._what = folder, index, what
        # A thread that reads has a reference to the file. So a file that the cache drops is closed after its last read.
        self._open = functools.lru_cache(maxsize=MAX_OPEN)(lambda shard: _open(folder / index.shards[shard]))

    def read(self, clip: int, frames: Sequence[int] | np.ndarray) -> list[bytes]:
        """The JPEGs of some of the clip's pictures.

        Args:
          clip: the number of the clip.
          frames: the numbers of the pictures within the clip.

        Raises:
          UserError: there is no JPEG where the index says; the message names the shard, the clip and the picture.
          OSError: the shard can't be opened or read.
        """
        index = self._index
        file = self._open(int(index.shard[clip]))
        rows = index.first[clip] + np.asarray(frames)
        lengths, offsets = index.length[rows].tolist(), index.offset[rows].tolist()
        jpegs = [os.pread(file.descriptor, length, offset) for length, offset in zip(lengths, offsets)]
        for place, jpeg in enumerate(jpegs):
            if len(jpeg) != lengths[place] or not jpeg.startswith(_JPEG_START):
                found = f'{len(jpeg)} of {lengths[place]} bytes' if len(jpeg) != lengths[place] else 'no JPEG'
                raise self._fault(clip, int(frames[place]), f'{found} at byte {offsets[place]}')
        return jpegs

    def check(self, clip: int, frames: Sequence[int]) -> None:
        """Decodes every pixel of the pictures `frames`, to find the picture on which another decoder failed.

        Raises:
          UserError: as in `read`. Also if a JPEG is broken, or has another size than the index states for the clip.
        """
        import simplejpeg

        stated = (int(self._index.height[clip]), int(self._index.width[clip]))
        for frame, jpeg in zip(frames, self.read(clip, frames)):
            try:
                size = simplejpeg.decode_jpeg_header(jpeg)[:2]
                if size == stated:
                    simplejpeg.decode_jpeg(jpeg)
            except ValueError as error:
                raise self._fault(clip, frame, f'a broken JPEG ({error})') from error
            if size != stated:
                raise self._fault(clip, frame, f'{size[1]} x {size[0]} pixels, not {stated[1]} x {stated[0]}')

    def _fault(self, clip: int, frame: int, found: str) -> UserError:
        """The error for a picture. It names the picture, and what was found in its place."""
        index = self._index
        return UserError(
            f'{self._folder / index.shards[index.shard[clip]]}: {self._what} {frame} of clip {str(index.ids[clip])!r}: {found}; '
            'convert the dataset again'
        )


class _OpenFile:
    """The descriptor of an open file, which is closed when nothing refers to this object any more."""

    def __init__(self, descriptor: int):
        self.descriptor = descriptor

    def __del__(self, close: Callable[[int], None] = os.close):  # a default: `os` may be gone when Python exits
        close(self.descriptor)


def _open(path: Path) -> _OpenFile:
    return _OpenFile(os.open(path, os.O_RDONLY))
