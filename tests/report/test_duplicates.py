"""Pairs that must be found, and pairs that must not: copies, scenes, clips of one class; by brute force and on made clips."""

import types

import numpy as np

from vidcls.report import duplicates
from vidcls.report.duplicates import Alike, near_pairs
from vidcls.report.looks import look


def test_near_pairs_are_those_of_brute_force():
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 1 << 63, (700, duplicates.FRAMES), np.uint64)
    for first, second, bits in ((3, 650, 5), (300, 301, 48), (300, 302, 49), (10, 20, 0), (600, 699, 7)):
        hashes[second] = hashes[first]
        for bit in range(bits):
            hashes[second, bit % duplicates.FRAMES] ^= np.uint64(1) << np.uint64(bit)
    part = np.arange(700) % 2
    part[[3, 650, 300, 301, 302]] = 0, 1, 0, 1, 1
    cross = np.array([[False, True], [True, False]])
    known = np.ones(700, bool)
    known[699] = False
    found, count = near_pairs(hashes, known, part, cross, np.arange(700))
    by_hand = [
        Alike((i, j), bits)
        for i in np.flatnonzero(known).tolist()
        for j in (i + 1 + np.flatnonzero(known[i + 1 :])).tolist()
        if (bits := int(np.bitwise_count(hashes[i] ^ hashes[j]).sum())) <= 48 and part[i] != part[j]
    ]
    assert sorted(found) == by_hand == [((3, 650), 5), ((300, 301), 48)]
    assert count == 2


def test_a_dataset_of_equal_clips_does_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(duplicates, 'MOST_PAIRS', 50)
    part, cross = np.arange(600) % 2, ~np.eye(2, dtype=bool)
    found, count = near_pairs(np.zeros((600, 2), np.uint64), np.ones(600, bool), part, cross, np.arange(600))
    assert (len(found), count) == (50, 300 * 300)
    assert found[0] == ((0, 1), 0)
    # Clips that are known to be equal take no place of those that look alike.
    group = np.where(np.arange(600) < 598, 0, np.arange(600))
    found, count = near_pairs(np.zeros((600, 2), np.uint64), np.ones(600, bool), part, cross, group)
    assert count == 2 * 299 + 1 and all(pair.clips[1] >= 598 for pair in found)


def test_splits_cross_if_they_share_no_clip_and_have_one_number(motion_dataset):
    part, cross = duplicates.crossing(motion_dataset)
    train, test = (int(motion_dataset.splits[name][0]) for name in ('train', 'test'))
    assert cross[part[train], part[test]]
    assert not cross[part[train], part[train]]
    assert duplicates.crossed_splits(motion_dataset, (train, test)) == ['train and test']
    assert duplicates.crossed_splits(motion_dataset, (train, train)) == []


def test_official_splits_cross_with_their_own_number_alone(motion_dataset):
    splits = {'train1': [0, 1], 'test1': [2], 'train2': [0, 2], 'test2': [1]}
    splits = {name: np.array(clips) for name, clips in splits.items()}
    official = types.SimpleNamespace(index=motion_dataset.index, splits=splits)
    part, cross = duplicates.crossing(official)
    assert cross[part[1], part[2]]  # 1 is of train1, 2 of test1
    assert duplicates.crossed_splits(official, (1, 2)) == ['train1 and test1', 'train2 and test2']
    assert not cross[part[0], part[0]]
    assert cross[part[0], part[1]]  # in split 2
    assert duplicates.crossed_splits(official, (0, 1)) == ['train2 and test2']


def test_clips_of_one_class_do_not_match(motion_dataset):
    looks = look(motion_dataset)
    hashes = np.stack([each.hashes for each in looks])
    assert all(each.textured and not each.broken for each in looks)
    every = near_pairs(
        hashes, np.ones(len(looks), bool), np.zeros(len(looks), int), np.array([[True]]), np.arange(len(looks))
    )
    assert every == ([], 0)
    assert duplicates.equal_clips(motion_dataset) == []
