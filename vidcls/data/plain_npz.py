"""Reads an .npz that `numpy.savez` wrote and that may come from anywhere.

Reading runs no pickle, and takes no more memory than the file has bytes.
"""

import math
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vidcls.errors import UserError
from vidcls.text.bounded_file import check_regular


def load(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The arrays `names` of a file. The file must have all of these arrays and no others.

    Raises:
      UserError: the file is damaged, compressed, or has other arrays.
      OSError: the file is missing or can't be read.
    """
    check_regular(path)
    try:
        _check_packing(path, names)
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in names}
    except (ValueError, KeyError, EOFError, OverflowError, RuntimeError, MemoryError, zipfile.BadZipFile) as error:
        raise UserError(f'{path}: is damaged: {error}') from error


def _check_packing(path: Path, names: Sequence[str]) -> None:
    """Refuses an .npz whose arrays are larger than the file, or compressed, before memory is taken for them.

    `numpy.savez` compresses nothing.
    """
    headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if sorted(member.filename for member in members) != sorted(f'{name}.npy' for name in names):
            raise ValueError('it has other arrays')
        if sum(member.file_size for member in members) > path.stat().st_size:
            raise ValueError('it unpacks to more than it has')
        for member in members:
            if member.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f'{member.filename} is compressed')
            with archive.open(member) as file:
                shape, _, dtype = headers[np.lib.format.read_magic(file)](file)
                if math.prod(shape) * dtype.itemsize != member.file_size - file.tell():
                    raise ValueError(f'{member.filename} does not hold the array that it states')
