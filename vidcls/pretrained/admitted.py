"""The names that a pickle of weights may contain: the tables NUMPY and PYTORCH, in which `pickled.Walk` looks names up.

A name that a pickle may call has a function here, which makes a record or a plain value. A numpy array has its bytes in
the pickle. A PyTorch tensor has only the key of a storage there; the storage's numbers are elsewhere in the file.
"""

import dataclasses
from typing import Any

import numpy as np

from vidcls.pretrained import pickled, plain
from vidcls.pretrained.pickled import Name, Record, Walk
from vidcls.pretrained.plain import KINDS, refuse


@dataclasses.dataclass(eq=False)
class Kind(Record):
    """A numpy.dtype. The state that follows it in the pickle gives its byte order."""

    kind: np.dtype

    def build(self, walk: Walk, state: Any) -> None:
        if type(state) is not tuple or state[1] not in ('<', '>', '=', '|') or state[2:5].count(None) != 3:
            refuse('a type of array that is more than numbers')
        self.kind = self.kind.newbyteorder(state[1])


@dataclasses.dataclass(eq=False)
class Array(Record):
    """A numpy.ndarray. The state that follows it in the pickle gives its shape, type, memory order and bytes."""

    array: np.ndarray | None = None

    def build(self, walk: Walk, state: Any) -> None:
        if type(state) is not tuple or len(state) != 5:
            refuse('an array of another form than numpy has')
        self.array = _filled(walk, *state[1:])


@dataclasses.dataclass(frozen=True, eq=False)
class Storage(Record):
    """A PyTorch storage: the memory of one tensor or several.

    Attributes:
      kind: the type of its numbers.
      key: its name in the file.
      count: how many numbers it has.
    """

    kind: np.dtype
    key: str
    count: int


@dataclasses.dataclass(frozen=True, eq=False)
class Tensor(Record):
    """A PyTorch tensor: a view of a storage. Its offset and strides count numbers, not bytes."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def build(self, walk: Walk, state: Any) -> None:
        """Accepts the three values that old versions store with a Parameter: `requires_grad`, `volatile` and hooks."""
        if type(state) is not tuple or len(state) != 3:
            refuse('a parameter of another form than PyTorch has')

    def array(self, data: bytes) -> np.ndarray:
        """Returns the tensor's numbers as an array: a view of `data`, the bytes of its storage."""
        return plain.view(data, self.storage.kind, self.offset, self.shape, self.strides)


def storages(found: dict[str, Storage]) -> Any:
    """Returns the argument `persistent` of `Walk`: a function that makes a `Storage` from a pickle's reference to one.

    The reference is a tuple ('storage', type, key, device, number of numbers), which ends with a further None in older
    files. The function also puts each storage into `found`, under its key.
    """

    def make(what: Any) -> Storage:
        if type(what) is not tuple or not 5 <= len(what) <= 6 or type(what[0]) is not str or what[0] != 'storage':
            refuse('it refers to something outside that is no storage of PyTorch')
        name, key, count = what[1], what[2], plain.whole(what[4])
        if type(name) is not Name or not isinstance(name.meaning, np.dtype) or type(key) is not str:
            refuse('a storage of no known type')
        storage = found.setdefault(key, Storage(name.meaning, key, count))
        if (storage.kind, storage.count) != (name.meaning, count) or what[5:] not in ((), (None,)):
            refuse('a storage that is a part of another, or another one of the same name')
        return storage

    return make


def _filled(walk: Walk, shape: Any, kind: Any, columns_first: Any, data: Any) -> np.ndarray:
    data = _encode(walk, data) if type(data) is str else data  # Python 2 wrote bytes as text
    if type(kind) is not Kind or type(columns_first) not in (bool, int):
        refuse('an array of no known type')
    return plain.array(data, kind.kind, plain.sizes(shape), bool(columns_first))


def _from_buffer(walk: Walk, data: Any, kind: Any, shape: Any, order: Any) -> Array:
    return Array(_filled(walk, shape, kind, type(order) is str and order == 'F', data))


def _kind(walk: Walk, code: Any, *_: Any) -> Kind:
    if type(code) is not str or code not in KINDS:
        what = ascii(code[: pickled.LINE]) if type(code) is str else f'a {type(code).__name__}'
        refuse(f'arrays of {what} are not admitted')
    return Kind(KINDS[code])


def _encode(walk: Walk, text: Any, encoding: Any = 'latin1') -> bytes:
    if type(text) is not str or encoding not in ('latin1', 'latin-1'):
        refuse('bytes that are no text in latin1')
    walk.recode(len(text))
    return text.encode('latin1')


def _ordered(walk: Walk, pairs: Any = ()) -> dict:
    if type(pairs) not in (list, tuple):
        refuse('an OrderedDict of what are no pairs')
    walk.spend(len(pairs))
    return pickled.named({}, [part for name, value in pairs for part in (name, value)])


def _same(walk: Walk, value: Any) -> Any:
    return value if type(value) in (tuple, dict) else refuse(f'a container of a {type(value).__name__}')


def _tensor(walk: Walk, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    if type(storage) is not Storage:
        refuse('a tensor without a storage')
    return Tensor(storage, plain.whole(offset), plain.sizes(shape), plain.sizes(strides))


def _parameter(walk: Walk, tensor: Any, *_: Any) -> Tensor:
    return tensor if type(tensor) is Tensor else refuse('a parameter without a tensor')


PLAIN = {
    ('collections', 'OrderedDict'): _ordered,
    ('builtins', 'tuple'): _same,
    ('builtins', 'bytes'): lambda walk: b'',  # pickle protocols without bytes write empty bytes as this call
    ('_codecs', 'encode'): _encode,
}
NUMPY = {
    **PLAIN,
    ('numpy', 'ndarray'): None,
    ('numpy', 'dtype'): _kind,
    ('numpy.core.multiarray', '_reconstruct'): lambda walk, *_: Array(),
    ('numpy.core.numeric', '_frombuffer'): _from_buffer,
}
PYTORCH = {
    **PLAIN,
    ('collections', 'Counter'): _same,  # a multi-step schedule keeps its milestones in a Counter
    ('torch', 'Size'): _same,
    ('torch', 'device'): lambda walk, *_: None,
    ('torch._utils', '_rebuild_tensor'): _tensor,
    ('torch._utils', '_rebuild_tensor_v2'): _tensor,
    ('torch._utils', '_rebuild_parameter'): _parameter,
    ('torch.nn.parameter', 'Parameter'): _parameter,
    ('torch', 'DoubleStorage'): KINDS['f8'],
    ('torch', 'FloatStorage'): KINDS['f4'],
    ('torch', 'HalfStorage'): KINDS['f2'],
    ('torch', 'BFloat16Storage'): plain.BFLOAT16,
    ('torch', 'LongStorage'): KINDS['i8'],
    ('torch', 'IntStorage'): KINDS['i4'],
    ('torch', 'ShortStorage'): KINDS['i2'],
    ('torch', 'CharStorage'): KINDS['i1'],
    ('torch', 'ByteStorage'): KINDS['u1'],
    ('torch', 'BoolStorage'): KINDS['b1'],
}
