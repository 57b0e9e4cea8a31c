"""Reads the small files that describe a dataset or a run, with a limit on their size.

A folder from elsewhere may be hostile: under any name it may contain a huge file, a device, a pipe that nobody writes
to, or a link to one of the user's own files.
"""

import json
import os
import stat
from pathlib import Path
from typing import Any, NoReturn

from vidcls.errors import UserError
from vidcls.text.names import check_label

MAX_LABELS = 100_000
_MAX_LABELS_BYTES = 16 << 20


def check_regular(path: Path) -> None:
    """Checks that a path is a plain file, or a link to a plain file in the same folder or below it.

    The folder itself may be a link.

    Raises:
      UserError: the path is a folder, a device, a pipe, or a link that leads out of the folder.
      OSError: the file doesn't exist, links form a loop, or the permission is missing.
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
    """Returns the text of a file in UTF-8.

    Raises:
      UserError: the file is not a plain file, has more than `max_bytes` bytes, or is not in UTF-8.
      OSError: as in `check_regular`.
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
    """Returns the JSON object in a file.

    Raises:
      UserError: as in `read_text`; or the text is not JSON, is nested too deeply, has NaN or infinity, or is not an
        object.
      OSError: as in `check_regular`.
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


def read_labels(path: Path, own: bool = True) -> tuple[str, ...]:
    """Returns the class names in a file that has one name a line.

    Args:
      own: whether a run wrote the file. In a file that a person wrote, a byte order mark, blanks around names and empty
        lines at the end are ignored, and the file may be a link to anywhere.

    Raises:
      UserError: as in `read_text`; or there are no labels, too many, the same label twice, or a label that
        `names.check_label` refuses.
      OSError: as in `check_regular`.
    """
    text = read_text(path if own else path.resolve(), _MAX_LABELS_BYTES)
    labels = text.removesuffix('\n').split('\n')
    if not own:
        labels = [line.strip() for line in text.removeprefix('\ufeff').rstrip().split('\n')]
    if len(labels) > MAX_LABELS:
        raise UserError(f'{path}: has {len(labels):,} labels; the limit is {MAX_LABELS:,}')
    seen = set()
    for number, label in enumerate(labels, 1):
        check_label(label, f'{path}, line {number}')
        if label in seen:
            raise UserError(f'{path}: has the label {label!r} twice')
        seen.add(label)
    return tuple(labels)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f'{constant} is not a number')
