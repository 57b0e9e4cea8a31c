"""Makes arrays of numbers from bytes that were read. KINDS lists the types that weights may have.

Only three things in a file reach numpy: keys of KINDS, whole numbers for shapes and places, and the bytes of arrays.
"""

import math
from typing import Any, NoReturn

import jax.numpy as jnp
import numpy as np

from vidcls.errors import UserError

MOST_BYTES = 8 << 30  # limit on a file of weights, packed or unpacked: 16 times the bytes of the largest network here
AXES = 32  # limit on an array's number of axes
KINDS = {code: np.dtype(code) for code in ('b1', 'i1', 'i2', 'i4', 'i8', 'u1', 'u2', 'u4', 'u8', 'f2', 'f4', 'f8')}
BFLOAT16 = np.dtype(jnp.bfloat16)


def array(data: Any, kind: np.dtype, shape: tuple[int, ...], columns_first: bool = False) -> np.ndarray:
    """Returns the bytes `data` as an array, without a copy.

    Args:
      columns_first: whether the numbers are in Fortran's order, in which the first axis changes fastest.

    Raises:
      UserError: `data` has more or fewer bytes than the shape takes.
    """
    if not isinstance(data, (bytes, bytearray)) or len(data) != math.prod(shape) * kind.itemsize:
        refuse(f'an array of shape {shape} of {kind} without as many bytes')
    return np.ndarray(shape, kind, data, order='F' if columns_first else 'C')


def view(data: bytes, kind: np.dtype, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray:
    """Returns a view of some of the numbers in `data`, without a copy.

    Args:
      offset: the place of the first number. `offset` and `strides` count numbers, not bytes.

    Raises:
      UserError: the view has more numbers than `data`, or reaches beyond its end.
    """
    held, count = len(data) // kind.itemsize, math.prod(shape)
    if count == 0:
        return np.zeros(shape, kind)
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if count > held or last >= held:  # a stride of 0 would make a large array from few bytes
        refuse(f'a tensor of shape {shape} in a storage of {held:,} numbers')
    return np.ndarray(shape, kind, data, offset * kind.itemsize, [stride * kind.itemsize for stride in strides])


def sizes(value: Any) -> tuple[int, ...]:
    """Returns the value if it can be a shape or strides: a short tuple of whole numbers.

    Raises:
      UserError: the value can't be a shape or strides.
    """
    if type(value) is not tuple or len(value) > AXES:
        refuse(f'a shape that is not a tuple of at most {AXES} numbers')
    return tuple(whole(part) for part in value)


def whole(value: Any) -> int:
    """Returns the value if it can be a size or a place: a whole number of at most 62 bits, not negative.

    Raises:
      UserError: the value can't be a size or a place.
    """
    if type(value) is not int or not 0 <= value < 1 << 62:
        refuse('a size or place that is not a whole number from 0 to 2^62')
    return value


def refuse(reason: str) -> NoReturn:
    raise UserError(reason)
