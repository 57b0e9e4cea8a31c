"""Reads PyTorch's files of weights without PyTorch.

Each file has a pickle of names and sizes, and the numbers beside it:

since 1.6   a zip file: NAME/data.pkl is the pickle, and NAME/data/KEY has the numbers of the storage KEY
            (torch.serialization._save)
before      five pickles: magic number, version, machine, the object, the storages' keys. Then each storage follows: the
            count of its numbers as int64, and the numbers themselves (torch.serialization._legacy_save)
"""

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vidcls.pretrained import admitted, zipped
from vidcls.pretrained.admitted import Storage, Tensor
from vidcls.pretrained.pickled import Walk
from vidcls.pretrained.plain import refuse

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
PICKLE = 16 << 20  # limit on the bytes of a zip file's data.pkl; checkpoints of the largest networks have a tenth of it

Choose = Callable[[Any], dict[str, Any]]


def arrays(path: Path, most_bytes: int, choose: Choose) -> dict[str, np.ndarray]:
    """Returns the tensors that `choose` takes from the saved object. The numbers of other tensors are not read.

    Args:
      most_bytes: limit on the unpacked size of a zip file.
      choose: a function: saved object -> values by name. Values that are not tensors are left out.

    Raises:
      UserError: the file contains more than tensors and plain containers, or unpacks to too many bytes.
      Others: the file is broken; see `pickled.Walk.result` and `zipped.arrays`.
    """
    with path.open('rb') as file:
        packed = file.read(4) == b'PK\x03\x04'
    return _zip(path, most_bytes, choose) if packed else _legacy(path, choose)


def _zip(path: Path, most_bytes: int, choose: Choose) -> dict[str, np.ndarray]:
    with zipped.opened(path, most_bytes) as archive:
        names = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in names if name.endswith('/data.pkl') and name.count('/') == 1]
        if len(pickles) != 1 or pickles[0].replace('data.pkl', 'constants.pkl') in names:
            refuse('a zip file that is not of torch.save: a program of TorchScript, or of another library')
        if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
            refuse('it is packed, as files of torch.save never are')
        folder = pickles[0].removesuffix('data.pkl')
        order = names.get(f'{folder}byteorder')
        if order is not None and zipped.content(archive, order) != b'little':
            refuse('its numbers are big-endian')
        if names[pickles[0]].file_size > PICKLE:
            refuse(f'names and sizes take {names[pickles[0]].file_size:,} bytes; at most {PICKLE:,}')
        data = zipped.content(archive, names[pickles[0]])
        found: dict[str, Storage] = {}
        saved = Walk(io.BytesIO(data), len(data), admitted.PYTORCH, admitted.storages(found)).result()

        def numbers(storage: Storage) -> bytes:
            info = names.get(f'{folder}data/{storage.key}')
            return zipped.content(archive, info) if info else b''

        return _read(choose(saved), numbers)


def _legacy(path: Path, choose: Choose) -> dict[str, np.ndarray]:
    size = path.stat().st_size
    found: dict[str, Storage] = {}
    with path.open('rb') as file:

        def walk() -> Any:
            return Walk(file, size, admitted.PYTORCH, admitted.storages(found)).result()

        if walk() != MAGIC or walk() != VERSION:
            refuse('it is not a file of torch.save')
        machine = walk()
        if type(machine) is not dict or machine.get('little_endian') is not True:
            refuse('its numbers are big-endian')
        saved, keys, places = walk(), walk(), {}
        if type(keys) is not list or any(type(key) is not str for key in keys) or sorted(keys) != sorted(found):
            refuse('its list of storages is not that of its tensors')
        for key in keys:
            (count,) = struct.unpack('<q', file.read(8))
            places[key] = file.tell()
            if count != found[key].count:
                refuse(f'a storage of {count:,} numbers for {found[key].count:,}')
            end = places[key] + count * found[key].kind.itemsize
            if end > size:
                refuse('it broke off')
            file.seek(end)

        def numbers(storage: Storage) -> bytes:
            file.seek(places[storage.key])
            return file.read(storage.count * storage.kind.itemsize)

        return _read(choose(saved), numbers)


def _read(chosen: dict[str, Any], numbers: Callable[[Storage], bytes]) -> dict[str, np.ndarray]:
    """Returns the chosen tensors as arrays. Each storage is read only once."""
    tensors = {name: value for name, value in chosen.items() if isinstance(value, Tensor)}
    data: dict[str, bytes] = {}
    for tensor in tensors.values():
        storage = tensor.storage
        if storage.key not in data:
            data[storage.key] = numbers(storage)
            if len(data[storage.key]) != storage.count * storage.kind.itemsize:
                refuse(f'a storage of {storage.count:,} {storage.kind} without as many bytes')
    return {name: tensor.array(data[tensor.storage.key]) for name, tensor in tensors.items()}
