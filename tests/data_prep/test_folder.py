"""The forms in which people have their clips: folders, split folders, lists, frames as images."""

import logging as std_logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep import folder, splits
from data_prep.path_lists import read_lists
from data_prep.source import clip_ids
from vidcls.data import tree
from vidcls.errors import UserError


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def by_id(source):
    return {clip.id: (source.labels[clip.label], clip.part) for clip in source.clips}


def test_class_folders(tmp_path):
    names = [f'{label}/{i:02d}.mp4' for label in ('run', 'jump') for i in range(10)]
    source = folder.read(touch(tmp_path / 'My Clips', *names, 'run/notes.txt', '.cache/x.mp4'))
    assert source.name == 'my_clips'
    assert source.labels == ('jump', 'run')
    assert len(source.clips) == 20
    assert source.splits == {'train': ['train'], 'validation': ['validation'], 'test': ['test']}
    for label in source.labels:
        parts = [clip.part for clip in source.clips if source.labels[clip.label] == label]
        assert [parts.count(p) for p in ('train', 'validation', 'test')] == [8, 1, 1]


def test_clips_may_lie_deeper(tmp_path):
    source = folder.read(touch(tmp_path, 'run/2024/a.mp4', 'run/2025/a.MOV'))
    assert [clip.id for clip in source.clips] == ['run/2024/a', 'run/2025/a']


def test_split_folders(tmp_path):
    touch(tmp_path, 'train/a/1.mp4', 'train/b/2.mp4', 'val/a/3.mp4', 'test/b/4.mp4')
    assert by_id(folder.read(tmp_path)) == {
        'train/a/1': ('a', 'train'),
        'train/b/2': ('b', 'train'),
        'val/a/3': ('a', 'validation'),
        'test/b/4': ('b', 'test'),
    }


def test_a_class_may_be_called_train(tmp_path):
    source = folder.read(touch(tmp_path, 'train/1.mp4', 'bus/1.mp4'))
    assert source.labels == ('bus', 'train')


def test_names_that_differ_only_in_their_ending_both_survive(tmp_path):
    source = folder.read(touch(tmp_path, 'a/x.mp4', 'a/x.avi', 'a/y.avi'))
    assert sorted(clip.id for clip in source.clips) == ['a/x.avi', 'a/x.mp4', 'a/y']


def test_no_clip_is_lost_to_another_of_the_same_id(tmp_path):
    source = folder.read(touch(tmp_path, 'a/x.mp4', 'a/x.avi', 'a/x.avi.mp4'))
    assert sorted(clip.id for clip in source.clips) == ['a/x.avi', 'a/x.avi.mp4', 'a/x.mp4']


def test_ids_are_printable(tmp_path):
    for name, id in (('a\udcff', 'a\\xff'), ('a\nb', 'a\\nb'), ('\x1b[2J', '\\x1b[2J'), ('打篮球', '打篮球')):
        assert clip_ids([tmp_path / f'{name}.avi'], tmp_path) == [id]
    with pytest.raises(UserError, match=r'2 files below .* are called a\\nb.avi once'):
        clip_ids([tmp_path / 'a\nb.avi', tmp_path / 'a\\nb.avi'], tmp_path)


def test_an_empty_class_folder_is_named_and_left_out(tmp_path, caplog):
    (tmp_path / 'nothing').mkdir()
    with caplog.at_level(std_logging.WARNING):
        source = folder.read(touch(tmp_path, 'a/1.mp4'))
    assert source.labels == ('a',)
    assert f'{tmp_path}/nothing: no clips' in caplog.text


def test_what_is_left_out_is_said(tmp_path, caplog):
    names = ['run/1.mp4', 'run/notes.txt', 'run/more/2.mxf', 'jump/1.mp4', 'jump/3.MXF', 'jump/.DS_Store', 'loose.mp4']
    with caplog.at_level(std_logging.WARNING):
        source = folder.read(touch(tmp_path, *names))
    assert [clip.id for clip in source.clips] == ['jump/1', 'run/1']
    assert [record.getMessage() for record in caplog.records] == [
        'left out, since they lie in no class folder: 1 videos, loose.mp4',
        'left out, since they are no videos by their ending or kind: 3 files (2 .mxf, 1 .txt), jump/3.MXF, run/more/2.mxf, '
        + 'run/notes.txt',
    ]


def test_nothing_is_said_where_nothing_is_left_out(tmp_path, caplog):
    save_frames(tmp_path / 'b' / 'frames', [1])
    folder.read(touch(tmp_path, 'a/1.mp4', 'a/1.jpg', 'a/.1.mxf.part', '.cache/x.mp4'))
    assert not caplog.records


def test_split_folders_beside_another_folder_are_classes_which_is_said(tmp_path, caplog):
    source = folder.read(touch(tmp_path, 'train/a/1.mp4', 'test/a/2.mp4', 'extra/3.mp4'))
    assert source.labels == ('extra', 'test', 'train')
    assert 'test, train: taken for classes, not for splits' in caplog.text


def test_fractions_of_random_splits(tmp_path):
    touch(tmp_path / 'clips', *(f'a/{i}.mp4' for i in range(20)))
    source = folder.read(tmp_path / 'clips', fractions=splits.parse_fractions('0.7,0.15,0.15'))
    parts = [clip.part for clip in source.clips]
    assert [parts.count(p) for p in ('train', 'validation', 'test')] == [14, 3, 3]
    assert source.description == 'Clips of clips, split 70/15/15 by class.'
    assert folder.read(tmp_path / 'clips').description == 'Clips of clips, split 80/10/10 by class.'
    touch(tmp_path / 'given', 'train/a/1.mp4', 'test/a/2.mp4')
    with pytest.raises(UserError, match='--split is for clips without splits'):
        folder.read(tmp_path / 'given', fractions=splits.DEFAULT)


def test_no_clips_at_all(tmp_path):
    with pytest.raises(UserError, match='no videos in class folders'):
        folder.read(touch(tmp_path, 'loose.mp4', 'a/readme.txt'))
    with pytest.raises(UserError, match='no such folder'):
        folder.read(tmp_path / 'absent')


def save_frames(path, numbers):
    path.mkdir(parents=True)
    for number in numbers:
        Image.fromarray(np.full((32, 32, 3), number, np.uint8)).save(path / f'img{number}.png')


def test_folders_of_frames_in_natural_order(tmp_path):
    save_frames(tmp_path / 'a' / 'clip.v1', [7, 8, 9, 10, 11, 100])
    save_frames(tmp_path / 'a' / 'clip2', [0])
    source = folder.read(touch(tmp_path, 'a/video.mp4'))
    clips = {clip.id: clip for clip in source.clips}
    assert set(clips) == {'a/clip.v1', 'a/clip2', 'a/video'}
    assert clips['a/clip.v1'].is_images and not clips['a/video'].is_images
    numbers = [file.stem for file in clips['a/clip.v1'].files]
    assert numbers == ['img7', 'img8', 'img9', 'img10', 'img11', 'img100']


def test_images_beside_videos_are_not_frames(tmp_path):
    source = folder.read(touch(tmp_path, 'a/1.mp4', 'a/1.jpg'))
    assert [clip.id for clip in source.clips] == ['a/1']


def test_images_in_a_class_folder_are_an_error(tmp_path):
    with pytest.raises(UserError, match='images in a class folder'):
        folder.read(touch(tmp_path, 'a/1.jpg', 'a/2.jpg'))


def write(path, text):
    path.write_text(text)
    return path


def test_lists(tmp_path):
    videos = touch(tmp_path / 'v', 'x/1.mp4', 'x/2.avi', 'y/a b.mp4')
    save_frames(videos / 'y' / 'frames', [1])
    train = write(tmp_path / 'train.list', 'x/1.mp4 0\nx/2 0\n\ny/a b.mp4 10\n')
    test = write(tmp_path / 'test.list', 'y/frames\t2\n')
    source = folder.read(videos, lists={'train': train, 'test': test})
    assert source.labels == ('0', '2', '10')  # numbers sort as numbers
    assert by_id(source) == {
        'x/1': ('0', 'train'),
        'x/2': ('0', 'train'),
        'y/a b': ('10', 'train'),
        'y/frames': ('2', 'test'),
    }


def test_clips_and_classes_that_no_list_names(tmp_path, caplog):
    videos = touch(tmp_path / 'v', *(f'run/{i}.mp4' for i in range(5)), *(f'sit/{i}.mp4' for i in range(25)))
    save_frames(videos / 'run' / 'frames', [1])
    lines = write(tmp_path / 'list', 'run/0 0\nrun/1.mp4 0\nrun/../run/2.mp4 0\n')
    with caplog.at_level(std_logging.WARNING):
        folder.read(videos, lists={'train': lines}, classes=write(tmp_path / 'classes', '0 run\n1 sit\n2 fall\n'))
    assert [record.getMessage() for record in caplog.records] == [
        f'no list names 28 of the 31 clips in {videos}; they are left out: run/3.mp4, run/4.mp4, run/frames, ...',
        'no list names any clip of 1 folders: sit (25 clips)',
        f'no list has a clip of 2 of the 3 classes of {tmp_path}/classes; they are left out: sit, fall',
    ]


def test_all_are_named_whatever_way_the_folder_is_written(tmp_path, caplog, monkeypatch):
    touch(tmp_path, 'v/1.mp4', 'w/x')
    monkeypatch.chdir(tmp_path / 'w')
    folder.read(Path('../v'), lists={'train': write(tmp_path / 'list', '1 0\n')})
    assert not caplog.records


def test_lists_of_absolute_paths_say_nothing_of_the_folder(tmp_path, caplog):
    touch(tmp_path, 'v/1.mp4', 'w/2.mp4')
    folder.read(tmp_path / 'v', lists={'train': write(tmp_path / 'list', f'{tmp_path}/w/2.mp4 0\n')})
    assert not caplog.records


def test_a_folder_is_looked_through_once_for_names_without_endings(tmp_path, monkeypatch):
    clips = [f'{number}.clip.{ending}' for number in range(20) for ending in ('mp4', 'AVI', 'txt')]
    touch(tmp_path, *(f'a/{name}' for name in clips))
    lines = ''.join(f'a/{number}.clip x\n' for number in range(21)) + 'b/0.clip x\n'
    (tmp_path / 'list').write_text(lines)
    searched, files = [], tree.files
    monkeypatch.setattr(tree, 'files', lambda folder, endings: searched.append(folder) or files(folder, endings))
    entries, _ = read_lists(tmp_path, {'': tmp_path / 'list'}, None)
    names = [f'a/{number}.clip.AVI' for number in range(20)]
    assert [entry.path for entry in entries] == [tmp_path / name for name in (*names, 'a/20.clip', 'b/0.clip')]
    assert searched == [tmp_path / 'a']


def test_a_list_as_windows_saves_it(tmp_path):
    touch(tmp_path, '1.mp4', '2.mp4')
    (tmp_path / 'list').write_bytes('\ufeff1.mp4 跑\r\n2.mp4 跳\r\n'.encode())
    source = folder.read(tmp_path, lists={'': tmp_path / 'list'})
    assert {id: label for id, (label, _) in by_id(source).items()} == {'1': '跑', '2': '跳'}
    (tmp_path / 'list').write_bytes('1.mp4 a\r\n'.encode('utf-16'))
    with pytest.raises(UserError, match='list: not a text file in UTF-8'):
        folder.read(tmp_path, lists={'': tmp_path / 'list'})


@pytest.mark.parametrize('classes', ['0 sit\n0 stand\n', 'sit\nsit\n', '0 sit\n1 sit\n'])
def test_a_class_that_stands_twice_in_the_class_file(tmp_path, classes):
    lines = write(tmp_path / 'list', '1.mp4 0\n')
    with pytest.raises(UserError, match='classes: a number or a class stands there twice'):
        folder.read(tmp_path, lists={'': lines}, classes=write(tmp_path / 'classes', classes))


def test_a_list_that_cannot_be_read(tmp_path, monkeypatch):
    lines = write(tmp_path / 'list', '1.mp4 0\n')

    def refuse(*_, **__):  # the tests may run as root, who can read everything
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr('pathlib.Path.read_text', refuse)
    with pytest.raises(UserError, match=r"list: can't be read \(Permission denied\)"):
        folder.read(tmp_path, lists={'': lines})


def test_a_list_without_splits_is_divided(tmp_path):
    names = [f'{i}.mp4' for i in range(10)]
    touch(tmp_path, *names)
    every = write(tmp_path / 'all', ''.join(f'{name} swim\n' for name in names))
    parts = [clip.part for clip in folder.read(tmp_path, lists={'': every}).clips]
    assert [parts.count(p) for p in ('train', 'validation', 'test')] == [8, 1, 1]


@pytest.mark.parametrize('classes', ['0 sit\n1 stand\n2 fall\n', 'sit\nstand\nfall\n'])
def test_labels_are_looked_up_in_a_class_file(tmp_path, classes):
    touch(tmp_path, '1.mp4', '2.mp4')
    lines = write(tmp_path / 'list', '1.mp4 2\n2.mp4 stand\n')
    source = folder.read(tmp_path, lists={'': lines}, classes=write(tmp_path / 'c', classes))
    assert source.labels == ('stand', 'fall')
    assert {id: label for id, (label, _) in by_id(source).items()} == {'1': 'fall', '2': 'stand'}


def test_a_label_outside_the_class_file(tmp_path):
    lines = write(tmp_path / 'list', '1.mp4 1\n2.mp4 3\n')
    classes = write(tmp_path / 'classes', 'sit\nstand\n')
    with pytest.raises(UserError, match=r"list, line 2: label '3' is not one of the 2 in .*classes"):
        folder.read(tmp_path, lists={'': lines}, classes=classes)


@pytest.mark.parametrize(
    ('train', 'test', 'message'),
    [
        ('1.mp4 0\n', '1.mp4 0\n', "1.mp4 is '0' in test, and was '0' in train before"),
        ('1.mp4 0\n1.mp4 1\n', '2.mp4 0\n', "line 2: 1.mp4 is '1' in train, and was '0'"),
        ('1.mp4\n', '', "line 1: '1.mp4' is not 'path label'"),
        ('', '\n', 'no clips'),
    ],
)
def test_lists_that_contradict_themselves(tmp_path, train, test, message):
    lists = {'train': write(tmp_path / 'train', train), 'test': write(tmp_path / 'test', test)}
    with pytest.raises(UserError, match=message):
        folder.read(tmp_path, lists=lists)


def test_a_missing_list_and_a_missing_file(tmp_path):
    with pytest.raises(UserError, match='absent.list: no such file'):
        folder.read(tmp_path, lists={'': tmp_path / 'absent.list'})
    lines = write(tmp_path / 'list', 'gone.mp4 0\n')
    (clip,) = folder.read(tmp_path, lists={'': lines}).clips
    assert clip.files == (tmp_path / 'gone.mp4',)  # the converter says that it is not there


def test_list_flags(tmp_path):
    assert folder.parse_lists(['train=a', 'val=b']).keys() == {'train', 'validation'}
    assert folder.parse_lists(['a.list']).keys() == {''}
    for wrong in (['a', 'b'], ['train=a', 'train=b'], ['train=a', 'b'], ['dev=a']):
        with pytest.raises(UserError, match='give one FILE'):
            folder.parse_lists(wrong)


def test_labels_of_one_number_have_one_order(tmp_path):
    touch(tmp_path / 'videos', 'a.mp4', 'b.mp4', 'c.mp4')
    lines = tmp_path / 'list'
    lines.write_text('a.mp4 1\nb.mp4 01\nc.mp4 0\n')
    assert folder.read(tmp_path / 'videos', lists={'': lines}).labels == ('0', '01', '1')
