"""Files of weights -> arrays of numpy by name. No file runs code: what isn't plain arrays is refused.

.safetensors           safetensors
.npz                   numpy, without pickles
.pth .pt .pyth .tar .bin   torch's `weights_only=True`, if torch is installed
.pdparams .pkl .pickle a pickle, through an unpickler that knows arrays and plain containers and nothing else
"""

import collections
import math
import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from vidcls.errors import UserError
from vidcls.pretrained import fetching

PARTS = ('state_dict', 'model_state', 'model')  # under which a training checkpoint keeps the network


def read(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a file, by their names; `path` may be an address, see `vidcls.pretrained.fetching`.

    Raises:
      UserError: no such file.
      UserError: an unknown ending, a file that is broken or holds more than arrays, or torch is needed and absent.
    """
    ending = PurePath(fetching.name(path)).suffix.lower()
    reader = READERS.get(ending)
    if reader is None:  # before anything is fetched
        raise UserError(f'{path}: unknown ending {ending!r}; known: {", ".join(READERS)}')
    path = fetching.locate(path)
    try:
        arrays = _arrays(reader(path))
    except (TypeError, RuntimeError) as error:  # such as a sparse tensor
        raise UserError(f'{path}: holds what numpy has no array for: {_first_line(error)}') from error
    if not arrays:
        raise UserError(f'{path}: holds no named arrays')
    return arrays


def save(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays as .safetensors, which PyTorch's libraries take for their own."""
    from safetensors.numpy import save_file

    if Path(path).suffix != '.safetensors':
        raise ValueError(f'{path}: weights are written as .safetensors; name the file so')
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path, metadata={'format': 'pt'})


def _arrays(read: Any) -> dict[str, np.ndarray]:
    """The named arrays of what a reader found, without the rest of a training checkpoint."""
    for _ in PARTS:  # one within another, and not for ever: a pickle may hold itself
        inner = [part for part in PARTS if isinstance(read, dict) and isinstance(dict.get(read, part), dict)]
        read = dict.get(read, inner[0]) if inner else read
    if not isinstance(read, dict):
        return {}
    arrays = {}
    for name, value in dict.items(read):
        if isinstance(value, tuple) and len(value) == 2:  # PaddlePaddle's (name, array)
            value = value[1]
        array = _numpy(value)
        if isinstance(name, str) and array is not None:
            arrays[name] = array
    return arrays


def _numpy(value: Any) -> np.ndarray | None:
    """A reader's form of an array; None for anything else."""
    if isinstance(value, _Array):
        return value.array
    if hasattr(value, 'detach'):  # a tensor of torch, which needn't be installed
        value = value.detach()
        return (value.float() if value.is_floating_point() else value).numpy()
    return value if isinstance(value, np.ndarray) else None


def _safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except Exception as error:  # broken, or of a type that numpy lacks
        raise UserError(f'{path}: no safetensors file that numpy can read: {_first_line(error)}') from error


def _npz(path: Path) -> dict[str, np.ndarray]:
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError('it is not a whole zip file')
        with np.load(path, allow_pickle=False) as file:
            return {name: _bfloat16(file[name]) for name in file.files}
    except Exception as error:  # an array may be broken in any way, or claim to be larger than any memory
        raise UserError(f'{path}: no .npz of plain arrays: {_first_line(error)}') from error


def _bfloat16(array: np.ndarray) -> np.ndarray:
    """.npz has no name for bfloat16, which Google's larger networks are published in, and leaves two bytes."""
    if not isinstance(array, np.ndarray):
        raise TypeError('it has other files than arrays')
    return array.view(jnp.bfloat16) if array.dtype == np.dtype('V2') else array


def _torch(path: Path) -> Any:
    try:
        import torch
    except ImportError as error:
        raise UserError(
            f'{path}: reading {path.suffix} needs PyTorch: `pip install torch`, or save the weights as .safetensors where it is'
        ) from error

    try:
        return torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # as below
        # Around its reason stands advice to load it all the same.
        reason = re.search(r'(Unsupported global: .*|unsupported GLOBAL .*)', str(error))
        reason = reason[1] if reason else _first_line(error)
        raise UserError(f'{path}: refused, it holds more than arrays or is broken: {reason}') from error


def _pickle(path: Path) -> Any:
    try:
        with path.open('rb') as file:
            return _Unpickler(file, encoding='latin1').load()
    except Exception as error:  # a broken pickle raises anything
        raise UserError(f'{path}: refused, it holds more than arrays or is broken: {_first_line(error)}') from error


class _Unpickler(pickle._Unpickler):
    """Arrays of numbers, strings, dictionaries, lists and tuples.

    The one written in Python: in C, a file of a few bytes can ask for a memo of any size, and the process is killed.
    """

    def load_bytearray8(self):
        size = int.from_bytes(self.read(8), 'little')
        self.append(bytearray(self.read(size)))  # what is there, instead of making room for what is said

    # Nested tuples take for ever to hash, and no weights have any for names.

    def load_setitem(self):
        _check_names(self.stack[-2:-1])
        super().load_setitem()

    def load_setitems(self):
        _check_names(self.stack[::2])
        super().load_setitems()

    def load_dict(self):
        _check_names(self.stack[::2])
        super().load_dict()

    def load_set(self):
        raise pickle.UnpicklingError('sets are not admitted in a file of weights')

    dispatch: ClassVar = {
        **pickle._Unpickler.dispatch,
        pickle.BYTEARRAY8[0]: load_bytearray8,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.DICT[0]: load_dict,
        **dict.fromkeys((pickle.EMPTY_SET[0], pickle.FROZENSET[0]), load_set),
    }

    def find_class(self, module: str, name: str) -> Any:
        admitted = _admitted().get((module.replace('numpy._core', 'numpy.core'), name))
        if admitted is None:
            raise pickle.UnpicklingError(f'{module}.{name} is not admitted in a file of weights')
        return admitted


# Stand-ins of our own for what a pickle of arrays refers to, so that none of numpy's code sees a state that was made up.


def _check_names(names: list[Any]) -> None:
    for name in names:
        if not isinstance(name, (str, bytes, int)):
            raise pickle.UnpicklingError(f'a {type(name).__name__} as a name is not admitted')


class _OrderedDict(collections.OrderedDict):
    def __init__(self, items: Any = ()):
        pairs = list(items)
        _check_names([pair[0] for pair in pairs])
        super().__init__(pairs)


class _Type:
    """numpy.dtype: only its bytes' order follows as state."""

    def __init__(self, kind: Any):
        if not isinstance(kind, str):
            raise pickle.UnpicklingError(f'a {type(kind).__name__} as the type of an array is not admitted')
        self.dtype = np.dtype(kind)
        if self.dtype.kind not in 'biuf':
            raise pickle.UnpicklingError(f'arrays of {self.dtype} are not admitted')

    def __setstate__(self, state: tuple):
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """numpy.ndarray: shape, type, order and bytes follow as state."""

    array = None

    def __setstate__(self, state: tuple):
        _, shape, kind, columns_first, data = state
        data = data.encode('latin1') if isinstance(data, str) else data  # of Python 2
        if not isinstance(data, (bytes, bytearray)) or len(data) != math.prod(shape) * kind.dtype.itemsize:
            raise pickle.UnpicklingError(f'an array of {shape} {kind.dtype} without as many bytes')
        self.array = np.ndarray(shape, kind.dtype, data, order='F' if columns_first else 'C')


def _admitted() -> dict[tuple[str, str], Any]:
    def reconstruct(subtype, shape, kind):
        return _Array()

    def dtype(kind, *_):
        return _Type(kind)

    def encode(text, encoding):
        if encoding not in ('latin1', 'latin-1'):
            raise pickle.UnpicklingError(f'bytes as {encoding!r} are not admitted')
        return text.encode('latin1')

    def from_buffer(buffer, kind, shape, order):
        array = _Array()
        array.__setstate__((1, shape, kind, order == 'F', buffer))
        return array

    return {
        ('numpy.core.multiarray', '_reconstruct'): reconstruct,
        ('numpy.core.numeric', '_frombuffer'): from_buffer,
        ('numpy', 'ndarray'): 'ndarray',
        ('numpy', 'dtype'): dtype,
        ('_codecs', 'encode'): encode,
        ('collections', 'OrderedDict'): _OrderedDict,
        ('builtins', 'tuple'): tuple,
        ('__builtin__', 'tuple'): tuple,
    }


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


READERS: dict[str, Callable[[Path], Any]] = {
    '.safetensors': _safetensors,
    '.npz': _npz,
    **dict.fromkeys(('.pth', '.pt', '.pyth', '.tar', '.bin'), _torch),
    **dict.fromkeys(('.pdparams', '.pkl', '.pickle'), _pickle),
}
