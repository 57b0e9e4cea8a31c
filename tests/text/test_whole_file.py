"""A file is the old one or the new one."""

import pytest

from vidcls.text import whole_file


def test_the_old_file_stays_if_writing_fails_and_nothing_is_left_beside(tmp_path):
    path = tmp_path / 'a.json'
    whole_file.write_text(path, 'old é')
    with pytest.raises(OSError, match='full'), whole_file.replacing(path) as partial:
        partial.write_text('ne')
        raise OSError('disk full')
    assert path.read_bytes() == 'old é'.encode()
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_written_through_a_link(tmp_path):
    (tmp_path / '.partial-a.json').symlink_to(tmp_path / 'elsewhere')
    whole_file.write_text(tmp_path / 'a.json', 'new')
    assert [path.name for path in tmp_path.iterdir()] == ['a.json']


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / 'a.json'
    whole_file.write_text(path, 'old')
    with whole_file.replacing(path) as partial:
        partial.write_text('new')
        assert path.read_text() == 'old'
    assert path.read_text() == 'new'
