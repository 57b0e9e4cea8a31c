"""Zip files of weights, whose sizes are checked before anything is unpacked; and numpy's .npz."""

import contextlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vidcls.pretrained import plain
from vidcls.pretrained.plain import refuse

DIRECTORY = 4 << 20  # bytes of a zip file's list of names; that of a network is a hundredth
TIMES, MORE = 10, 64 << 20  # unpacked, weights have at most so many times their bytes, and so many bytes more
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


@contextlib.contextmanager
def opened(path: Path, most_bytes: int) -> Iterator[zipfile.ZipFile]:
    """A zip file whose members are together in proportion to the file.

    Raises:
      UserError: they are not, or they are packed in a way that weights are not.
    """
    with _Bounded(io.FileIO(path)) as file:
        if not zipfile.is_zipfile(file):
            refuse('it is not a whole zip file')
        with zipfile.ZipFile(file) as archive:
            file.longest = None
            members = archive.infolist()
            if any(info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for info in members):
                refuse('it is packed otherwise than by deflation')  # the others can ask for any memory
            unpacked, size = sum(info.file_size for info in members), path.stat().st_size
            most = min(TIMES * size + MORE, most_bytes)
            if unpacked > most:
                refuse(f'it unpacks to {unpacked:,} bytes; from {size:,} at most {most:,}')
            if not all(0 <= info.header_offset < size for info in members):
                refuse('a member of it would lie outside the file')
            yield archive


def content(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """A member's bytes: as many as its entry says, whatever the packed ones would give."""
    with archive.open(info) as member:
        return member.read(info.file_size)


def arrays(path: Path, most_bytes: int) -> dict[str, np.ndarray]:
    """The arrays of an .npz.

    Raises:
      UserError: it has something else than plain arrays of numbers, or is out of all proportion.
      OSError, ValueError, zipfile.BadZipFile, zlib.error, and what else zipfile raises: it is broken.
    """
    with opened(path, most_bytes) as archive:
        return {info.filename.removesuffix('.npy'): _array(archive, info) for info in archive.infolist()}


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    if not info.filename.endswith('.npy'):
        refuse('it has other files than arrays')
    with archive.open(info) as member:
        version = np.lib.format.read_magic(member)
        if version not in HEADERS:
            refuse(f'version {version} of .npy, which arrays of numbers never need')
        shape, columns_first, dtype = HEADERS[version](member)
        # .npz has no name for bfloat16, which Google's larger networks are published in, and leaves two bytes.
        kind = plain.BFLOAT16 if dtype.str == '|V2' else plain.KINDS.get(dtype.str[1:])
        if kind is None:
            refuse(f'an array of {dtype.str}, no plain numbers')
        # So many and no more, whatever the packed bytes would give.
        data = member.read(info.file_size - member.tell())
    return plain.array(data, kind.newbyteorder(dtype.str[0]), plain.sizes(shape), columns_first)


class _Bounded(io.BufferedReader):
    """zipfile reads the whole list of names at once."""

    longest: int | None = DIRECTORY

    def read(self, size: int | None = -1) -> bytes:
        if self.longest is not None and size is not None and size > self.longest:
            refuse(f'a list of names of {size:,} bytes; at most {self.longest:,}')
        return super().read(size)
