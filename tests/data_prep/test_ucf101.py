"""UCF101's official lists: as a whole, with empty files for videos, and on the clips there are."""

import logging as std_logging
import re

import pytest

from data_prep import ucf101
from vidcls.errors import UserError

OFFICIAL = {1: (9537, 3783), 2: (9586, 3734), 3: (9624, 3696)}  # training, test
_GROUP = re.compile(r'v_(.+_g\d+)_c\d+$')


def ids_of(source, split: str) -> set[str]:
    return {clip.id for clip in source.clips if clip.part in source.splits[split]}


def official(lists, name: str) -> set[str]:
    return {line.split()[0].removesuffix('.avi') for line in (lists / name).open()}


@pytest.fixture(scope='module')
def lists(shared_data):
    return shared_data / 'splits' / 'ucfTrainTestlist'


@pytest.fixture(scope='module')
def whole(lists, tmp_path_factory):
    """The source as it is with every video there."""
    videos = tmp_path_factory.mktemp('ucf')
    for clip in official(lists, 'trainlist01.txt') | official(lists, 'testlist01.txt'):
        path = videos / f'{clip}.avi'
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return ucf101.read(videos, lists)


@pytest.mark.parametrize('number', OFFICIAL)
def test_official_numbers(whole, lists, number):
    train, validation, test = (ids_of(whole, f'{s}{number}') for s in ('train', 'validation', 'test'))
    assert len(whole.clips) == 13320 and len(whole.labels) == 101
    assert (len(train | validation), len(test)) == OFFICIAL[number]
    assert train | validation == official(lists, f'trainlist0{number}.txt')
    assert test == official(lists, f'testlist0{number}.txt')
    assert not train & validation
    assert 0.08 < len(validation) / OFFICIAL[number][0] < 0.14
    groups = [{_GROUP.search(name)[1] for name in ids} for ids in (train, validation, test)]
    assert whole.grouped_by == 'recording' and len({clip.group for clip in whole.clips}) == 2525  # 25 of each class
    assert not groups[0] & groups[1] and not groups[1] & groups[2]
    assert {name.split('/')[0] for name in validation} == set(whole.labels)


def test_the_clips_that_are_there(shared_data, lists, caplog):
    with caplog.at_level(std_logging.WARNING):
        source = ucf101.read(shared_data / 'ucf101', lists)
    assert '94 of 101 classes are absent' in caplog.text
    assert source.labels == (
        'ApplyEyeMakeup', 'Archery', 'BabyCrawling', 'BalanceBeam', 'BaseballPitch', 'Basketball',
        'PushUps',
    )  # fmt: skip
    assert len(source.clips) == len({clip.id for clip in source.clips}) == 175
    for number in OFFICIAL:
        train, validation = ids_of(source, f'train{number}'), ids_of(source, f'validation{number}')
        assert (len(train), len(validation)) == (112, 14)
        assert train | validation <= official(lists, f'trainlist0{number}.txt')
        assert ids_of(source, f'test{number}') <= official(lists, f'testlist0{number}.txt')
        assert len(ids_of(source, f'test{number}')) == 49
    for clip in source.clips:
        assert source.labels[clip.label] == clip.id.split('/')[0] == clip.files[0].parent.name


def _write_lists(folder, train='A/v_A_g01_c01.avi 1\n', test='A/v_A_g02_c01.avi\n'):
    folder.mkdir()
    (folder / 'classInd.txt').write_text('1 A\n2 B\n')
    for number in (1, 2, 3):
        (folder / f'trainlist0{number}.txt').write_text(train)
        (folder / f'testlist0{number}.txt').write_text(test)
    return folder


def test_lists_that_do_not_fit(tmp_path):
    videos = tmp_path / 'videos'
    (videos / 'A').mkdir(parents=True)
    with pytest.raises(UserError, match='classInd.txt: it is missing'):
        ucf101.read(videos, tmp_path)
    with pytest.raises(UserError, match='none of the clips'):
        ucf101.read(videos, _write_lists(tmp_path / 'lists'))
    wrong = _write_lists(tmp_path / 'wrong', train='C/v_C_g01_c01.avi 3\n')
    with pytest.raises(UserError, match="'C/v_C_g01_c01.avi 3' is of no class in classInd.txt"):
        ucf101.read(videos, wrong)


def test_a_video_in_no_list_is_left_out(tmp_path, caplog):
    videos = tmp_path / 'videos' / 'A'
    videos.mkdir(parents=True)
    for name in ('v_A_g01_c01.avi', 'v_A_g02_c01.avi', 'v_A_g09_c01.avi'):
        (videos / name).touch()
    source = ucf101.read(videos.parent, _write_lists(tmp_path / 'lists'))
    assert [clip.id for clip in source.clips] == ['A/v_A_g01_c01', 'A/v_A_g02_c01']
    assert f'no list names 1 of the 3 clips in {videos.parent}; they are left out: A/v_A_g09_c01.avi' in caplog.text
