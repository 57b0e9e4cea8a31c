"""HMDB51's official files: as a whole, with empty files for videos, and on the clips there are."""

from collections import Counter

import pytest

from data_prep import hmdb51
from tests.data_prep.test_ucf101 import ids_of
from vidcls.errors import UserError


def official(lists, number: int, code: str) -> set[str]:
    ids = set()
    for file in lists.glob(f'*_test_split{number}.txt'):
        label = file.name.removesuffix(f'_test_split{number}.txt')
        for line in file.open():
            if line.split()[1:] == [code]:
                ids.add(f'{label}/{line.split()[0].removesuffix(".avi")}')
    return ids


@pytest.fixture(scope='module')
def lists(shared_data):
    return shared_data / 'splits' / 'hmdb51_splits'


@pytest.fixture(scope='module')
def videos(lists, tmp_path_factory):
    folder = tmp_path_factory.mktemp('hmdb')
    for code in '012':
        for clip in official(lists, 1, code):
            (folder / clip).parent.mkdir(exist_ok=True)
            (folder / f'{clip}.avi').touch()
    return folder


def test_official_numbers(videos, lists):
    source = hmdb51.read(videos, lists)
    assert len(source.labels) == 51 and list(source.labels) == sorted(source.labels)
    assert len(source.clips) == 6766 - 395  # 395 are unused in all three splits
    for number in (1, 2, 3):
        train, validation = ids_of(source, f'train{number}'), ids_of(source, f'validation{number}')
        test = ids_of(source, f'test{number}')
        assert (len(train | validation), len(test)) == (3570, 1530)
        assert train | validation == official(lists, number, '1')
        assert test == official(lists, number, '2')
        assert 0.08 < len(validation) / 3570 < 0.14
        assert not {hmdb51.film(c) for c in train} & {hmdb51.film(c) for c in validation}
        held = Counter(clip.split('/')[0] for clip in validation)
        assert max(held.values()) <= 14  # of 70 a class


def test_random_protocol(videos, lists):
    source = hmdb51.read(videos, lists, 'random')
    count = Counter(clip.part for clip in source.clips)
    assert sum(count.values()) == 6766
    assert count['validation'] == count['test']
    assert 0.08 < count['test'] / 6766 < 0.1  # a tenth of each class, rounded down
    assert source.name == 'hmdb51_random'


@pytest.mark.parametrize(
    ('clip', 'film'),
    [
        (
            'climb/(HQ)_Rock_Climbing_-_Dan_Osman_climb_f_cm_np1_le_med_2',
            '(HQ)_Rock_Climbing_-_Dan_Osman',
        ),
        ('shoot_bow/6arrowswithin30seconds_shoot_bow_f_nm_np1_fr_med_3', '6arrowswithin30seconds'),
        ('run/likebeckam_run_run_f_cm_np1_fr_med_3', 'likebeckam_run'),
        ('walk/no_label_in_it_f_cm_np1_fr_med_3', 'no_label_in_it'),
    ],
)
def test_film(clip, film):
    assert hmdb51.film(clip) == film


def test_the_clips_that_are_there(shared_data, lists):
    source = hmdb51.read(shared_data / 'hmdb51', lists)
    part = {clip.id.split('/')[1][:12]: clip.part for clip in source.clips}
    # As the official files have them: 1, 2, 1 and 0, 0, 1.
    assert part['6arrowswithi'] == 'train_test_train'
    assert part['SchoolRulesH'] == 'unused_unused_train'
    # 2, 1, 1; of the three waving clips that train in split 3, one is held out.
    assert part['TrumanShow_w'] == 'test_train_validation'
    assert len(source.clips) == 10 and len(source.labels) == 8


def test_lists_that_do_not_fit(tmp_path):
    with pytest.raises(UserError, match='no <class>_test_split1.txt'):
        hmdb51.read(tmp_path, tmp_path)
    for number in (1, 2, 3):
        (tmp_path / f'wave_test_split{number}.txt').write_text('a_wave_f_nm_np1_fr_med_3.avi 3\n')
    with pytest.raises(UserError, match='does not end in 0, 1 or 2'):
        hmdb51.read(tmp_path, tmp_path)
