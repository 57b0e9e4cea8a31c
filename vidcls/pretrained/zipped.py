"""Reads zip files of weights and numpy's .npz files. The sizes of all members are checked before any is unpacked."""

import contextlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vidcls.pretrained import plain
from vidcls.pretrained.plain import refuse

DIRECTORY = 4 << 20  # limit on the bytes of a zip file's list of names; the list of a network has a hundredth of it
TIMES, MORE = 10, 64 << 20  # a file may unpack to TIMES its own bytes plus MORE bytes
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


@contextlib.contextmanager
def opened(path: Path, most_bytes: int) -> Iterator[zipfile.ZipFile]:
    """A context that opens a zip file. Its members unpack to no more bytes than is plausible for a file of its size.

    Args:
      most_bytes: a further limit on the bytes of all members.

    Raises:
      UserError: the members would unpack to more bytes, are packed by an unusual method, or the file is not whole.
    """
    with _Bounded(io.FileIO(path)) as file:
        if not zipfile.is_zipfile(file):
            refuse('it is not a whole zip file')
        with zipfile.ZipFile(file) as archive:
            file.longest = None
            members = archive.infolist()
            if any(info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for info in members):
                refuse('it is packed otherwise than by deflation')  # other methods can demand any amount of memory
            unpacked, size = sum(info.file_size for info in members), path.stat().st_size
            most = min(TIMES * size + MORE, most_bytes)
            if unpacked > most:
                refuse(f'it unpacks to {unpacked:,} bytes; from {size:,} at most {most:,}')
            if not all(0 <= info.header_offset < size for info in members):
                refuse('a member of it would lie outside the file')
            yield archive


def content(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Returns a member's bytes, at most as many as its entry in the list of names says."""
    with archive.open(info) as member:
        return member.read(info.file_size)


def arrays(path: Path, most_bytes: int) -> dict[str, np.ndarray]:
    """Returns the arrays of an .npz file by name.

    Raises:
      UserError: the file contains more than plain arrays of numbers, or unpacks to too many bytes.
      OSError, ValueError, zipfile.BadZipFile, zlib.error, and other errors of zipfile: the file is broken.
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
        # Google's larger networks are published in bfloat16. .npz has no name for that type and calls it two raw bytes.
        kind = plain.BFLOAT16 if dtype.str == '|V2' else plain.KINDS.get(dtype.str[1:])
        if kind is None:
            refuse(f'an array of {dtype.str}, no plain numbers')
        # At most as many bytes as the entry says, whatever the packed bytes would unpack to.
        data = member.read(info.file_size - member.tell())
    order: Any = dtype.str[0]  # '<', '>' or '|', as numpy wrote it
    return plain.array(data, kind.newbyteorder(order), plain.sizes(shape), columns_first)


class _Bounded(io.BufferedReader):
    """A file that refuses to read more than `longest` bytes at once; with None it reads any number.

    Without a limit, zipfile would read a list of names of any length at once.
    """

    longest: int | None = DIRECTORY

    def read(self, size: int | None = -1) -> bytes:
        if self.longest is not None and size is not None and size > self.longest:
            refuse(f'a list of names of {size:,} bytes; at most {self.longest:,}')
        return super().read(size)
