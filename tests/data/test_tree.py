"""What a search finds, what it leaves out, what it never opens."""

import os

import pytest

from tests.data_prep.test_folder import touch
from vidcls.data import tree
from vidcls.errors import UserError


def names(paths, root):
    return [path.relative_to(root).as_posix() for path in paths]


def test_clips_and_what_is_left_out(tmp_path):
    touch(
        tmp_path,
        *('a.mp4', 'B/c.AVI', 'B/c.jpg', 'frames/2.png', 'frames/10.png', 'B/notes.txt', 'B/d.mxf', 'readme'),
        *('.hidden/x.mp4', '._a.mp4', 'frames/._2.png', '@eaDir/a.mp4/thumb.jpg', '__MACOSX/a.mp4', 'B/.DS_Store'),
    )
    found = tree.search(tmp_path)
    assert names(found.clips, tmp_path) == ['B/c.AVI', 'a.mp4', 'frames']
    assert names(found.left_out, tmp_path) == ['B/d.mxf', 'B/notes.txt', 'readme']
    assert tree.describe(found.left_out) == '1 .mxf, 1 .txt, 1 without ending'
    assert tree.some(found.left_out, tmp_path) == 'B/d.mxf, B/notes.txt, readme'
    assert tree.some([*found.left_out, tmp_path / 'z'], tmp_path) == 'B/d.mxf, B/notes.txt, readme, ...'


def test_pipes_devices_and_links_are_no_clips(tmp_path):
    touch(tmp_path, 'a/real.mp4', 'frames/1.png')
    os.mkfifo(tmp_path / 'a' / 'pipe.mp4')
    os.mkfifo(tmp_path / 'frames' / '2.png')
    (tmp_path / 'a' / 'device.mp4').symlink_to('/dev/zero')
    (tmp_path / 'a' / 'gone.mp4').symlink_to('nowhere')
    (tmp_path / 'a' / 'self.mp4').symlink_to('self.mp4')
    (tmp_path / 'a' / 'up').symlink_to('..')
    (tmp_path / 'a' / 'link.mp4').symlink_to('real.mp4')
    found = tree.search(tmp_path)
    assert names(found.clips, tmp_path) == ['a/link.mp4', 'a/real.mp4', 'frames']
    assert tree.describe(found.left_out) == '3 pipe or device, 2 broken link, 1 link to a folder'
    assert names(tree.files(tmp_path / 'frames', tree.IMAGE_SUFFIXES), tmp_path) == ['frames/1.png']


def test_a_class_folder_may_be_a_link_but_not_to_a_folder_around_it(tmp_path):
    touch(tmp_path, 'elsewhere/1.mp4', 'clips/a/1.mp4')
    (tmp_path / 'clips' / 'b').symlink_to(tmp_path / 'elsewhere')
    assert names(tree.subfolders(tmp_path / 'clips'), tmp_path) == ['clips/a', 'clips/b']
    (tmp_path / 'clips' / 'c').symlink_to('.')
    with pytest.raises(UserError, match='clips/c is a link to a folder that it lies in'):
        tree.subfolders(tmp_path / 'clips')


def test_a_folder_that_cannot_be_read(tmp_path, monkeypatch):
    touch(tmp_path, 'a/1.mp4', 'b/1.mp4')
    scandir = os.scandir

    def refuse(path):  # the tests may run as root, who can read everything
        if path == tmp_path / 'b':
            raise PermissionError(13, 'Permission denied', str(path))
        return scandir(path)

    monkeypatch.setattr(os, 'scandir', refuse)
    with pytest.raises(UserError, match=r"b: this folder can't be read \(Permission denied\)"):
        tree.search(tmp_path)
