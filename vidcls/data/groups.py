"""Groups of a dataset's clips: the clips of a group were cut from one recording or film.

Such clips are alike, so that their scores are not independent.

groups.json   {"of": "recording", "groups": {"v_Archery_g01": ["Archery/v_Archery_g01_c01", ...], ...}}

`data_prep` writes this file if the dataset's names tell the groups, as in UCF101 and HMDB51; other datasets lack the
file. Training does not read it. The file has names alone: none is matched as a pattern, and none is run.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vidcls.errors import UserError
from vidcls.text.bounded_file import read_json

FILENAME = 'groups.json'
_MAX_BYTES = 16 << 20  # UCF101's file has 1 MB
_WORD = re.compile('[a-z]{1,20}')


class Groups(NamedTuple):
    """The groups of a dataset's n clips.

    Attributes:
      of: what a group is, a word in the singular such as 'film'.
      number: int64[n], the number of each clip's group, in the order of the clips' ids. A clip that the file does not
        name is a group of its own.
    """

    of: str
    number: np.ndarray


def save(folder: Path, of: str, group_of: Mapping[str, str]) -> None:
    """Writes groups.json.

    Args:
      of: what a group is, a word in the singular such as 'film'.
      group_of: a clip's id -> the name of its group.
    """
    groups: dict[str, list[str]] = {}
    for name, group in group_of.items():
        groups.setdefault(group, []).append(name)
    (folder / FILENAME).write_text(json.dumps({'of': of, 'groups': groups}), encoding='utf-8')


def load(folder: Path, ids: np.ndarray) -> Groups | None:
    """The groups of the clips with these ids, or None if the dataset has no groups.json.

    Args:
      ids: str[n], the ids of the clips.

    Raises:
      UserError: the file is not as `save` writes it; the message names the file and what is wrong.
      OSError: the file can't be read.
    """
    path = folder / FILENAME
    if not path.exists():
        return None
    content = read_json(path, _MAX_BYTES)
    of, groups = content.get('of'), content.get('groups')
    if not isinstance(of, str) or not _WORD.fullmatch(of) or not isinstance(groups, dict):
        raise UserError(f'{path}: must have "of", a word in lower case, and "groups", an object')
    number_of: dict[str, int] = {}
    for number, (group, names) in enumerate(groups.items()):
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UserError(f'{path}: the group {group!r:.80} must be a list of clips')
        for name in names:
            if name in number_of:
                raise UserError(f'{path}: the clip {name!r:.80} is in two groups')
            number_of[name] = number
    return Groups(of, np.array([number_of.get(name, len(groups) + place) for place, name in enumerate(ids.tolist())]))
