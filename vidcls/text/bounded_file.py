"""Small files that describe a dataset or a run, read so that a hostile one costs neither time nor memory.

A folder from elsewhere may hold a device, a pipe that nobody writes to, or a link to a file of ours under any name.
"""

import json
import os
import stat
from pathlib import Path
from typing import Any, NoReturn

from vidcls.errors import UserError

MAX_LABELS = 100_000
_MAX_LABELS_BYTES = 16 << 20
# Joiners of letters and emoji, and blanks of other widths: `isprintable` counts them as control characters.
_ALSO_PRINTABLE = '\u200c\u200d\u00a0\u3000'


def check_regular(path: Path) -> None:
    """Refuses what is no plain file within its own folder.

    A folder may be a link as a whole, and a file a link to another one beside it or below.

    Raises:
      UserError: a folder, device or pipe, or a link that leads out of the folder.
      OSError: no such file, a loop of links, or no permission.
    """
    if stat.S_ISREG(os.lstat(path).st_mode):
        return
    real = Path(os.path.realpath(path, strict=True))
    if not real.is_file():
        raise UserError(f'{path}: must be a file, and is a folder, a device or a pipe')
    if not real.is_relative_to(os.path.realpath(path.parent)):
        raise UserError(
            f'{path}: is a link to {real}, outside its folder; copy the file here, or link the whole folder'
        )


def read_text(path: Path, max_bytes: int) -> str:
    """The UTF-8 text of a file.

    Raises:
      UserError: no plain file, more than `max_bytes`, or not UTF-8.
      OSError: as of `check_regular`.
    """
    check_regular(path)
    with open(path, 'rb') as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise UserError(f'{path}: has more than {max_bytes:,} bytes, the limit of such a file')
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UserError(f'{path}: is no UTF-8 text: {error}') from error


def read_json(path: Path, max_bytes: int) -> dict[str, Any]:
    """The JSON object of a file.

    Raises:
      UserError: as of `read_text`; broken or deeply nested JSON, NaN or infinity, or another value than an object.
      OSError: as of `check_regular`.
    """
    text = read_text(path, max_bytes)
    try:
        value = json.loads(text, parse_constant=_refuse)
    except RecursionError as error:
        raise UserError(f'{path}: is nested too deeply') from error
    except ValueError as error:
        raise UserError(f'{path}: is no JSON: {error}') from error
    if not isinstance(value, dict):
        raise UserError(f'{path}: must be a JSON object, and is of type {type(value).__name__}')
    return value


def read_labels(path: Path) -> tuple[str, ...]:
    """The class names of a file that has one a line.

    Raises:
      UserError: as of `read_text`; no label, too many, one twice, or one that is not a printable line without blanks
        at its ends.
      OSError: as of `check_regular`.
    """
    labels = read_text(path, _MAX_LABELS_BYTES).removesuffix('\n').split('\n')
    if len(labels) > MAX_LABELS:
        raise UserError(f'{path}: has {len(labels):,} labels; the limit is {MAX_LABELS:,}')
    seen = set()
    for number, label in enumerate(labels, 1):
        if not label or label != label.strip() or not all(c.isprintable() or c in _ALSO_PRINTABLE for c in label):
            raise UserError(f'{path}: line {number}, {label!a}, is no printable label without blanks at its ends')
        if label in seen:
            raise UserError(f'{path}: has the label {label!r} twice')
        seen.add(label)
    return tuple(labels)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f'{constant} is not a number')
