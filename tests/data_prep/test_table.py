"""The table of clips at the end of a conversion, to the letter."""

from pathlib import Path

from data_prep import table
from data_prep.source import Clip, Source


def source(labels, parts, splits):
    """A source with parts[k] = the part of each clip of class k."""
    clips = [Clip(f'{k}/{i}', k, part, (Path('x'),)) for k, of in enumerate(parts) for i, part in enumerate(of)]
    return Source('x', 'x', tuple(labels), clips, splits)


DISJOINT = {name: [name] for name in ('train', 'validation', 'test')}


def test_three_classes():
    made = source(
        ('run', '打篮球', 'cafe\u0301'), (['train'] * 10 + ['test'], ['train', 'validation'], ['train']), DISJOINT
    )
    assert table.of_clips(made, made.clips).split('\n') == [
        '  class          train  validation  test  all clips',
        '  run               10           0     1         11',
        '  打篮球             1           1     0          2',
        '  cafe\u0301               1           0     0          1',
        '  all 3 classes     12           1     1         14',
    ]
    assert table.gaps(made, made.clips) == [
        'validation has no clip of 2 of the 3 classes: run, cafe\u0301',
        'test has no clip of 2 of the 3 classes: 打篮球, cafe\u0301',
    ]


def test_only_what_could_be_used_counts():
    made = source(('run', 'jump'), (['train', 'test'], ['train', 'test']), DISJOINT)
    assert table.of_clips(made, made.clips[:3]).split('\n') == [
        '  class          train  test  all clips',
        '  run                1     1          2',
        '  jump               1     0          1',
        '  all 2 classes      2     1          3',
    ]
    assert table.gaps(made, made.clips[:3]) == ['test has no clip of 1 of the 2 classes: jump']
    train = [clip for clip in made.clips if clip.part == 'train']
    assert table.gaps(made, train) == ['no clip of test could be used']


def test_a_clip_in_two_official_splits_counts_in_both_and_once_in_all():
    made = source(('run',), (['train_test', 'test_train', 'test_train'],), {
        'train1': ['train_test'], 'test1': ['test_train'], 'train2': ['test_train'], 'test2': ['train_test'],
    })  # fmt: skip
    assert (
        table.of_clips(made, made.clips).split('\n')[-1] == '  all 1 classes       1      2       2      1          3'
    )
    assert not table.gaps(made, made.clips)


def test_of_101_classes_the_ends_are_shown():
    made = source([f'class{k:03d}' for k in range(101)], [['train'] * (200 - k) for k in range(101)], DISJOINT)
    assert table.of_clips(made, made.clips).split('\n') == [
        '  class            train  all clips',
        '  class100           100        100',
        '  class099           101        101',
        '  class098           102        102',
        '  ... 95 classes of 103 to 197 clips',
        '  class002           198        198',
        '  class001           199        199',
        '  class000           200        200',
        '  all 101 classes  15150      15150',
    ]
