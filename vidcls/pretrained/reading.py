"""Files of weights -> arrays of numpy by name. No file runs code: what isn't plain arrays is refused.

.safetensors           safetensors
.npz                   numpy, without pickles
.pth .pt .pyth .tar .bin   torch's `weights_only=True`, if torch is installed
.pdparams .pkl .pickle a pickle, through an unpickler that knows arrays and plain containers and nothing else

`hf://org/name[/file]` is a file of the Hugging Face hub, through huggingface_hub and its cache, if that is installed.
"""

import collections
import hashlib
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

HUB = 'hf://'
HUB_FILE = 'model.safetensors'  # as Hugging Face's libraries name it
PARTS = ('state_dict', 'model_state', 'model')  # under which a training checkpoint keeps the network


def locate(address: str | Path) -> Path:
    """The file at an address, fetched if need be.

    Raises:
      ValueError: no such address, or huggingface_hub is needed and absent.
    """
    if not str(address).startswith(HUB):
        return Path(address).expanduser()
    org, name, file = (*str(address).removeprefix(HUB).split('/', 2), '', '')[:3]
    if not org or not name:
        raise ValueError(f'{address}: must be {HUB}org/name or {HUB}org/name/file')
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise ValueError(f"{address}: needs huggingface_hub: `pip install 'vidcls[hub]'`") from error
    try:
        return Path(hf_hub_download(f'{org}/{name}', file or HUB_FILE))
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise ValueError(f'{address}: not found, nor in the cache: {_first_line(error)}') from error


def sha256(path: str | Path) -> str:
    """Of the file at an address."""
    with locate(path).open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def read(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a file, by their names; `path` may be an address, see `locate`.

    Raises:
      FileNotFoundError: no such file.
      ValueError: an unknown ending, a file that is broken or holds more than arrays, or torch is needed and absent.
    """
    path = locate(path)
    if not path.is_file():
        raise FileNotFoundError(f'{path}: no such file')
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f'{path}: unknown ending {path.suffix!r}; known: {", ".join(READERS)}')
    arrays = _arrays(reader(path))
    if not arrays:
        raise ValueError(f'{path}: holds no named arrays')
    return arrays


def save(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays as .safetensors, which PyTorch's libraries take for their own."""
    from safetensors.numpy import save_file

    if Path(path).suffix != '.safetensors':
        raise ValueError(f'{path}: weights are written as .safetensors; name the file so')
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path, metadata={'format': 'pt'})


def _arrays(read: Any) -> dict[str, np.ndarray]:
    """The named arrays of what a reader found, without the rest of a training checkpoint."""
    for part in PARTS:
        if isinstance(read, Mapping) and isinstance(read.get(part), Mapping):
            read = read[part]
    if not isinstance(read, Mapping):
        return {}
    arrays = {}
    for name, value in read.items():
        if isinstance(value, tuple) and len(value) == 2:  # PaddlePaddle's (name, array)
            value = value[1]
        if isinstance(name, str) and isinstance(value, np.ndarray):
            arrays[name] = value
    return arrays


def _safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f'{path}: no safetensors file that numpy can read: {error}') from error


def _npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, zipfile.BadZipFile, EOFError, AttributeError) as error:
        raise ValueError(f'{path}: no .npz of plain arrays: {error}') from error


def _torch(path: Path) -> Any:
    try:
        import torch
    except ImportError as error:
        raise ValueError(
            f'{path}: reading {path.suffix} needs PyTorch: `pip install torch`, or save the weights as .safetensors where it is'
        ) from error

    def plain(value):
        if isinstance(value, torch.Tensor):
            return (value.float() if value.is_floating_point() else value).numpy()
        return {name: plain(x) for name, x in value.items()} if isinstance(value, Mapping) else value

    try:
        return plain(torch.load(path, map_location='cpu', weights_only=True))
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise ValueError(f'{path}: refused, it holds more than arrays or is broken: {_first_line(error)}') from error


def _pickle(path: Path) -> Any:
    try:
        with path.open('rb') as file:
            return _Unpickler(file, encoding='latin1').load()
    except Exception as error:  # a broken pickle raises anything
        raise ValueError(f'{path}: refused, it holds more than arrays or is broken: {_first_line(error)}') from error


class _Unpickler(pickle.Unpickler):
    """Arrays of numbers, strings, dictionaries, lists and tuples."""

    def find_class(self, module: str, name: str) -> Any:
        admitted = _admitted().get((module.replace('numpy._core', 'numpy.core'), name))
        if admitted is None:
            raise pickle.UnpicklingError(f'{module}.{name} is not admitted in a file of weights')
        return admitted


def _admitted() -> dict[tuple[str, str], Any]:
    """What a pickle of arrays refers to; stand-ins of our own, so that nothing of theirs can be called otherwise."""

    def reconstruct(subtype, shape, kind):
        return np.ndarray((0,), 'b')  # the array's state, shape and type follow

    def dtype(kind, *_):
        found = np.dtype(kind, False, True)  # a copy, because its state follows
        if found.hasobject:
            raise pickle.UnpicklingError('arrays of objects are not admitted')
        return found

    def encode(text, encoding):
        if encoding not in ('latin1', 'latin-1'):
            raise pickle.UnpicklingError(f'bytes as {encoding!r} are not admitted')
        return text.encode('latin1')

    def from_buffer(buffer, kind, shape, order):
        return np.frombuffer(buffer, dtype(kind)).reshape(shape, order=order)

    return {
        ('numpy.core.multiarray', '_reconstruct'): reconstruct,
        ('numpy.core.numeric', '_frombuffer'): from_buffer,
        ('numpy', 'ndarray'): 'ndarray',
        ('numpy', 'dtype'): dtype,
        ('_codecs', 'encode'): encode,
        ('collections', 'OrderedDict'): collections.OrderedDict,
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
