"""groups.json: what is written is read, in the order of the clips, and nothing else is taken."""

import json

import numpy as np
import pytest

from vidcls.data import groups
from vidcls.data.dataset import open_dataset
from vidcls.errors import UserError


def test_what_is_written_is_read(tmp_path):
    groups.save(tmp_path, 'film', {'a/1': 'X', 'a/2': 'Y', 'b/1': 'X'})
    found = groups.load(tmp_path, np.array(['b/1', 'new', 'a/2', 'a/1', 'other']))
    assert found.of == 'film' and found.number[0] == found.number[3]
    assert len(set(found.number.tolist())) == 4  # the two clips that no group names are groups of their own


def test_old_datasets_have_none(motion_folder, tmp_path):
    assert groups.load(tmp_path, np.array(['a'])) is None
    assert open_dataset(motion_folder).clip_groups() is None


@pytest.mark.parametrize(
    'content',
    [
        [], {}, {'of': 'film'}, {'of': '<b>', 'groups': {}}, {'of': 'film', 'groups': []},
        {'of': 'film', 'groups': {'x': 'ab'}}, {'of': 'film', 'groups': {'x': [1]}},
        {'of': 'film', 'groups': {'x': ['a'], 'y': ['a']}},
    ],
)  # fmt: skip
def test_anything_else_is_refused(tmp_path, content):
    (tmp_path / groups.FILENAME).write_text(json.dumps(content))
    with pytest.raises(UserError, match='groups.json'):
        groups.load(tmp_path, np.array(['a']))
