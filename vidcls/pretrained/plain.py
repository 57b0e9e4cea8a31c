"""Arrays of numbers made of bytes that were read: the types that weights have, and the one place that makes arrays.

From a file's contents only three things reach numpy: keys of KINDS, the whole numbers of a shape, and the array's bytes.
"""

import math
from typing import Any, NoReturn

import jax.numpy as jnp
import numpy as np

from vidcls.errors import UserError

MOST_BYTES = 8 << 30  # that a file of weights may have, packed or unpacked: 16 times those of the largest network here
AXES = 32  # that an array may have
KINDS = {code: np.dtype(code) for code in ('b1', 'i1', 'i2', 'i4', 'i8', 'u1', 'u2', 'u4', 'u8', 'f2', 'f4', 'f8')}
BFLOAT16 = np.dtype(jnp.bfloat16)


def array(data: Any, kind: np.dtype, shape: tuple[int, ...], columns_first: bool = False) -> np.ndarray:
    """The array of these bytes, without a copy.

    Raises:
      UserError: there are more or fewer bytes than the shape takes.
    """
    if not isinstance(data, (bytes, bytearray)) or len(data) != math.prod(shape) * kind.itemsize:
        refuse(f'an array of shape {shape} of {kind} without as many bytes')
    return np.ndarray(shape, kind, data, order='F' if columns_first else 'C')


def view(data: bytes, kind: np.dtype, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray:
    """A view of some of the numbers in these bytes, without a copy.

    Args:
      offset: place of the first number. Offset and strides count numbers, not bytes.

    Raises:
      UserError: the view has more numbers than the bytes, or reaches beyond them.
    """
    held, count = len(data) // kind.itemsize, math.prod(shape)
    if count == 0:
        return np.zeros(shape, kind)
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if count > held or last >= held:  # a stride of 0 would make a large array of few bytes
        refuse(f'a tensor of shape {shape} in a storage of {held:,} numbers')
    return np.ndarray(shape, kind, data, offset * kind.itemsize, [stride * kind.itemsize for stride in strides])


def sizes(value: Any) -> tuple[int, ...]:
    """The value, if it is a shape or strides.

    Raises:
      UserError: it is neither.
    """
    if type(value) is not tuple or len(value) > AXES:
        refuse(f'a shape that is not a tuple of at most {AXES} numbers')
    return tuple(whole(part) for part in value)


def whole(value: Any) -> int:
    """The value, if it is a size or a place that fits into 62 bits.

    Raises:
      UserError: it is not.
    """
    if type(value) is not int or not 0 <= value < 1 << 62:
        refuse('a size or place that is not a whole number from 0 to 2^62')
    return value


def refuse(reason: str) -> NoReturn:
    raise UserError(reason)
