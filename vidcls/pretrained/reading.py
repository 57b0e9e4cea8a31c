"""Reads files of weights as numpy arrays by name. Nothing that a file names is run, imported or instantiated.

.safetensors                     read by the package safetensors
.npz                             numpy's archives, read by `vidcls.pretrained.zipped`
.pth .pt .pyth .tar .bin         PyTorch's files, read without PyTorch by `vidcls.pretrained.pytorch`
.pdparams .pkl .pickle           pickles of numpy arrays, read without an unpickler by `vidcls.pretrained.pickled`
"""

import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from vidcls.errors import UserError
from vidcls.pretrained import admitted, fetching, pytorch, zipped
from vidcls.pretrained.pickled import Walk
from vidcls.pretrained.plain import MOST_BYTES, refuse

PARTS = ('state_dict', 'model_state', 'model')  # keys under which a training checkpoint stores the network
HEADER = 4 << 20  # limit on the bytes of a .safetensors header; the largest network here has a hundredth of it
NAMES, NAME = 10_000, 300  # limits on the number of arrays in a file, and on the characters of an array's name
# Errors that a broken file can cause in the libraries and in `Walk`. A hostile file can cause any of them.
BROKEN = (
    ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, NotImplementedError, RecursionError, RuntimeError,
    TypeError, ValueError, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def read(path: str | Path, most_bytes: int = MOST_BYTES) -> dict[str, np.ndarray]:
    """Returns the arrays of a file of weights, by name.

    Args:
      path: the path of the file, or an address (see `vidcls.pretrained.fetching`).
      most_bytes: limit on the size of the file, and on the size of its contents when unpacked.

    Returns:
      Name -> array of bool, integer or floating-point numbers in the file's own type. Arrays may be views, and
      read-only.

    Raises:
      UserError: the file doesn't exist, has an unknown ending, is broken, contains more than arrays, or is too large.
    """
    ending = PurePath(fetching.name(path)).suffix.lower()
    reader = READERS.get(ending)
    if reader is None:  # before anything is fetched
        raise UserError(f'{path}: unknown ending {ending!r}; known: {", ".join(READERS)}')
    path = fetching.locate(path)
    size = path.stat().st_size
    if size > most_bytes:
        raise UserError(f'{path}: has {size:,} bytes; weights for this network have at most {most_bytes:,}')
    try:
        arrays = _checked(reader(path, most_bytes))
    except BROKEN as error:
        raise UserError(f'{path}: refused, it holds more than arrays or is broken: {_one_line(error)}') from error
    if not arrays:
        raise UserError(f'{path}: holds no named arrays')
    return arrays


def save(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays as .safetensors, in the form that PyTorch's libraries read.

    Raises:
      ValueError: the path has another ending.
    """
    from safetensors.numpy import save_file

    if Path(path).suffix != '.safetensors':
        raise ValueError(f'{path}: weights are written as .safetensors; name the file so')
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path, metadata={'format': 'pt'})


def _chosen(saved: Any) -> dict[str, Any]:
    """Returns the network's values by name from an unpickled object, without the rest of a training checkpoint."""
    for _ in PARTS:  # parts may be nested; the loop is bounded because an object may contain itself
        inner = [part for part in PARTS if isinstance(saved, dict) and isinstance(saved.get(part), dict)]
        saved = saved[inner[0]] if inner else saved
    named = saved if isinstance(saved, dict) else {}
    # PaddlePaddle's values are pairs (name, array).
    values = {name: value[1] if type(value) is tuple and len(value) == 2 else value for name, value in named.items()}
    return {name: value for name, value in values.items() if isinstance(name, str)}


def _checked(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the arrays; raises UserError if there are too many, or if a name can't be shown in a message."""
    if len(arrays) > NAMES:
        refuse(f'{len(arrays):,} arrays; at most {NAMES:,}')
    for name in arrays:
        if len(name) > NAME or not name.isprintable():
            refuse(f'an array whose name is no plain line of at most {NAME} characters: {name[:NAME]!a}')
    return arrays


def _safetensors(path: Path, _: int) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    with path.open('rb') as file:
        (header,) = struct.unpack('<Q', file.read(8))
    if header > HEADER:
        refuse(f'a header of {header:,} bytes; at most {HEADER:,}')
    try:
        return load_file(path)
    except SafetensorError as error:
        refuse(f'safetensors: {error}')


def _pickle(path: Path, _: int) -> dict[str, np.ndarray]:
    with path.open('rb') as file:
        saved = Walk(file, path.stat().st_size, admitted.NUMPY).result()
    arrays = {name: value.array for name, value in _chosen(saved).items() if isinstance(value, admitted.Array)}
    return {name: array for name, array in arrays.items() if array is not None}


def _one_line(error: BaseException) -> str:
    """Returns the error's message as one line, without characters that a terminal would take for a command."""
    line = (str(error).strip() or 'unreadable').splitlines()[0]
    line = line if isinstance(error, UserError) else f'{type(error).__name__}: {line}'
    return ''.join(letter if letter.isprintable() else '?' for letter in line[:NAME])


READERS: dict[str, Callable[[Path, int], dict[str, np.ndarray]]] = {
    '.safetensors': _safetensors,
    '.npz': zipped.arrays,
    **dict.fromkeys(('.pth', '.pt', '.pyth', '.tar', '.bin'), lambda path, most: pytorch.arrays(path, most, _chosen)),
    **dict.fromkeys(('.pdparams', '.pkl', '.pickle'), _pickle),
}
