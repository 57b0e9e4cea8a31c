"""Which clip goes to which split: exact counts, and no group in training and in validation."""

import hashlib
from collections import Counter

import pytest

from data_prep import splits
from data_prep.source import hash_order
from vidcls.errors import UserError


@pytest.mark.parametrize(
    ('clips', 'train', 'validation', 'test'),
    [(1, 1, 0, 0), (2, 1, 0, 1), (3, 1, 1, 1), (10, 8, 1, 1), (19, 17, 1, 1), (25, 21, 2, 2)],
)
def test_random_parts_of_one_class(clips, train, validation, test):
    parts = splits.random_parts({f'a/{i}': 0 for i in range(clips)}, seed=0)
    count = Counter(parts.values())
    assert (count['train'], count['validation'], count['test']) == (train, validation, test)


def test_random_parts_depend_on_the_seed_and_on_nothing_else():
    one = {f'a/{i}': 0 for i in range(50)}
    two = one | {f'b/{i}': 1 for i in range(50)}
    parts = splits.random_parts(one, seed=3)
    assert parts == splits.random_parts(dict(reversed(one.items())), seed=3)
    assert parts != splits.random_parts(one, seed=4)
    # Another class does not move the clips of the first.
    assert parts == {n: p for n, p in splits.random_parts(two, seed=3).items() if n in one}
    assert Counter(splits.random_parts(two, 3).values()) == {
        'train': 80,
        'validation': 10,
        'test': 10,
    }


def test_the_default_parts_are_those_of_every_earlier_dataset():
    labels = {f'c{k}/{i}': k for k in range(0, 130, 3) for i in range(k + 1)}
    parts = splits.random_parts(labels, 5)
    lines = ''.join(f'{name} {parts[name]}\n' for name in sorted(parts))
    # Of the code before fractions could be given: max(1, n // 10) for testing, then as many for validation.
    assert hashlib.sha256(lines.encode()).hexdigest() == (
        '095de00fc690853d35375dd68bf91ee19522bfa50b7f1b86d80b1e1d435f6085'
    )


@pytest.mark.parametrize(
    ('text', 'clips', 'expected'),
    [
        ('0.7,0.15,0.15', 20, (14, 3, 3)),
        ('0.7,0.15,0.15', 27, (19, 4, 4)),  # 4.05 each, and what is left over
        ('0.7,0.15,0.15', 3, (1, 1, 1)),
        ('0.7,0.15,0.15', 2, (1, 0, 1)),
        ('0.7,0.15,0.15', 1, (1, 0, 0)),
        ('0.1,0.01,0.89', 9, (1, 1, 7)),  # 0, 0.09 and 8.01: validation and training take theirs from testing
        ('1/3, 1/3, 1/3', 10, (4, 3, 3)),
        ('0.8,0.2,0', 10, (8, 2, 0)),
        ('0.8,0,0.2', 2, (1, 0, 1)),
        ('0,0.5,0.5', 5, (0, 3, 2)),
        ('0,0,1', 5, (0, 0, 5)),
        ('1,0,0', 1, (1, 0, 0)),
    ],
)
def test_fractions(text, clips, expected):
    parts = splits.random_parts({f'a/{i}': 0 for i in range(clips)}, 0, splits.parse_fractions(text))
    count = Counter(parts.values())
    assert (count['train'], count['validation'], count['test']) == expected


@pytest.mark.parametrize(
    'text', ['', '0.8', '0.8,0.2', '0.7,0.2,0.2', '0.333,0.333,0.333', '1.2,-0.1,-0.1', '80,10,10', 'a,b,c', 'nan,0,1', '1/0,0,1']
)  # fmt: skip
def test_fractions_that_are_none(text):
    with pytest.raises(UserError, match=rf'--split={text}: give the fractions of train, validation and test'):
        splits.parse_fractions(text)


def test_clips_that_are_added_move_some_of_their_class_and_none_of_others():
    one = {f'a/{i}': 0 for i in range(50)} | {f'b/{i}': 1 for i in range(50)}
    two = one | {f'b/{i}': 1 for i in range(50, 60)}
    moved = Counter()
    for seed in range(50):
        before, after = splits.random_parts(one, seed), splits.random_parts(two, seed)
        moved.update(name[0] for name in one if before[name] != after[name])
    assert moved['a'] == 0
    assert 50 < moved['b'] < 100  # of the class's 50 older clips one or two, which `folder` says


def test_hash_order_is_the_same_everywhere():
    # printf '0 a' | sha256sum and so on begin with cf6d (a), 840f (b), edc8 (c), f399 (d)
    assert hash_order('abcd', 0) == ['b', 'a', 'c', 'd']
    assert sorted(hash_order('abcd', 7)) == ['a', 'b', 'c', 'd']


def test_held_out_groups_are_whole_and_about_a_tenth():
    clips = [(f'g{i // 5}', 0) for i in range(100)]  # twenty groups of five
    held = splits.held_out_groups(clips, seed=0)
    assert len(held) == 2  # ten clips
    assert splits.held_out_groups(clips, seed=0) == held


def test_a_group_of_most_of_a_class_is_not_held_out():
    clips = [('large', 0)] * 9 + [('small', 0)]
    for seed in range(20):
        assert splits.held_out_groups(clips, seed) == {'small'}


def test_a_group_across_classes_is_held_out_in_both_or_in_none():
    # One film makes all of class 1: holding it out would leave nothing to train on.
    clips = [('film', 0)] + [(f'g{i}', 0) for i in range(9)] + [('film', 1)] * 3
    for seed in range(20):
        assert 'film' not in splits.held_out_groups(clips, seed)


def test_hold_out_validation_touches_training_only():
    roles = {f'c{i}': ('train', 'test') if i % 2 else ('test', 'train') for i in range(40)}
    changed = splits.hold_out_validation(roles, {n: n for n in roles}, dict.fromkeys(roles, 0), 0)
    for name, (first, second) in changed.items():
        assert (first == 'test') == (roles[name][0] == 'test')
        assert (second == 'test') == (roles[name][1] == 'test')
    assert Counter(first for first, _ in changed.values()) == {
        'test': 20,
        'train': 18,
        'validation': 2,
    }


def test_a_test_clip_of_a_held_out_film_stays_in_the_test_list():
    roles = {f'c{i}': ('train',) for i in range(9)} | {'t': ('test',), 'u': ('unused',)}
    changed = splits.hold_out_validation(
        roles, dict.fromkeys(roles, 'x') | {'c0': 'film', 't': 'film', 'u': 'film'},
        dict.fromkeys(roles, 0), 0,
    )  # fmt: skip
    assert changed['c0'] == ('validation',)  # the rest are one group, too large to hold out
    assert (changed['t'], changed['u']) == (('test',), ('unused',))


def test_sums_of_parts():
    roles = [('train', 'test'), ('test', 'train'), ('train', 'validation'), ('train', 'test')]
    assert splits.sums_of_parts(roles) == {
        'train1': ['train_test', 'train_validation'],
        'test1': ['test_train'],
        'train2': ['test_train'],
        'validation2': ['train_validation'],
        'test2': ['train_test'],
    }
