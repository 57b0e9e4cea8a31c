"""Which stored evaluation is meant, what is refused in a file from elsewhere, and what must agree between two."""

import json
import os

import numpy as np
import pytest

from tests.stored import store
from vidcls.errors import UserError
from vidcls.run.stored_results import differing, find, load, on_the_same_clips

IDS, CLASSES = ['a/1', 'a/2', 'b/1'], ['a', 'b']
LABELS, LOGITS = [0, 0, 1], [[2, 0], [0, 1], [0, 3]]


def made(folder, ids=IDS, labels=LABELS, logits=LOGITS, classes=CLASSES, **more):
    return store(folder, ids, labels, logits, classes, **more)


def test_the_newest_evaluation_of_a_split_is_taken(tmp_path):
    old, new = (made(tmp_path, name=name, checkpoint_step=step, split='test1') for name, step in (('z', 1), ('y', 2)))
    made(tmp_path, name='x', split='validation1')
    made(tmp_path, name='w', split='testing')
    os.utime(old, ns=(1, 1))
    assert find(tmp_path, 'test').path == new
    assert find(tmp_path, 'test1').scores['checkpoint_step'] == 2
    assert find(old.with_suffix('.npz'), 'validation').path == old  # a file is taken as it is
    assert find(tmp_path, 'test', like=load(old)).path == old
    with pytest.raises(UserError, match="no evaluation of 'test2'; make it: .*--split=test2"):
        find(tmp_path, 'test2')


def test_a_damaged_file_is_named_and_hides_no_other(tmp_path, caplog):
    good = made(tmp_path)
    bad = good.with_name('a.json')
    bad.write_text('{"split": "test", ')
    good.with_name('b.json').mkdir()
    assert find(tmp_path, 'test').path == good
    assert f'left out: {bad}: is no JSON' in caplog.text and 'b.json: must be a file' in caplog.text
    with pytest.raises(UserError, match=r'a\.json: is no JSON'):
        find(bad, 'test')


def test_split_1_is_not_split_10_and_one_fusion_not_another(tmp_path):
    made(tmp_path, split='test10')
    with pytest.raises(UserError, match="no evaluation of 'test1'"):
        find(tmp_path, 'test1')
    assert find(tmp_path, 'test').scores['split'] == 'test10'
    for name, runs in (('x', ['a', 'b']), ('y', ['a', 'c'])):
        made(tmp_path / 'fused', name=name, fused=runs, weights=[1, 1])
    with pytest.raises(UserError, match='name one in place of the folder'):
        find(tmp_path / 'fused', 'test')


def test_where_views_differ_the_user_names_the_file(tmp_path):
    paths = [made(tmp_path, name=f'made-{crops}', crops=crops) for crops in (1, 10)]
    with pytest.raises(UserError, match='name one in place of the folder') as found:
        find(tmp_path, 'test')
    for path, crops in zip(paths, (1, 10)):
        assert f'{path}: split test, checkpoint_step 3, ema False, clips 1, crops {crops},' in str(found.value)


def test_probabilities_are_those_of_the_protocol(tmp_path):
    views = [[[0, np.log(3)], [0, 0]]]
    for average, expected in (('probabilities', 0.625), ('logits', np.sqrt(3) / (1 + np.sqrt(3)))):
        path = store(tmp_path, ['x'], [1], views, CLASSES, average=average)
        np.testing.assert_allclose(load(path).probabilities[0, 1], expected, rtol=1e-6)


def test_what_evaluation_does_not_write_is_refused(tmp_path):
    def refused(message, **arrays):
        good = {'ids': np.array(IDS), 'labels': np.array(LABELS, np.int32), 'logits': np.zeros((3, 1, 2), np.float32)}
        np.savez(path.with_suffix('.npz'), **(good | arrays))
        with pytest.raises(UserError, match=message):
            load(path)

    path = made(tmp_path)
    refused('is damaged', ids=np.array([{}, {}, {}]))
    refused('is damaged: it has other arrays', more=np.zeros(1))
    refused('must have ids', labels=np.zeros(3))
    refused('must have ids', logits=np.zeros((2, 1, 2), np.float32))
    refused('logits of 3 classes, and labels.txt has 2', logits=np.zeros((3, 1, 3), np.float32))
    refused('none of the 2 classes', labels=np.array([0, 1, 2], np.int32))
    refused('has a clip twice', ids=np.array(['x', 'y', 'x']))
    refused('no clips', ids=np.array([], str), labels=np.zeros(0, np.int32), logits=np.zeros((0, 1, 2), np.float32))
    made(tmp_path)
    path.write_text(json.dumps({'split': 'test', 'average': 'median'}))
    with pytest.raises(UserError, match=r'no result of experiments\.evaluate'):
        load(path)
    (tmp_path / 'labels.txt').unlink()
    made(tmp_path / 'other')
    path.write_text((tmp_path / 'other' / 'eval' / path.name).read_text())
    with pytest.raises(UserError, match=r'labels\.txt is missing'):
        load(path)


def test_clips_are_put_in_the_order_of_the_first(tmp_path):
    first = load(made(tmp_path / 'one'))
    order = [2, 0, 1]
    other = load(made(tmp_path / 'two', *([values[n] for n in order] for values in (IDS, LABELS, LOGITS))))
    ordered = on_the_same_clips([first, other])[1].predictions
    assert ordered.ids.tolist() == IDS
    assert ordered.labels.tolist() == LABELS
    assert ordered.logits[:, 0].tolist() == LOGITS


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'split': 'test2'}, "their split: 'test' and 'test2'"),
        ({'classes': ['b', 'a']}, "their labels: number 0 is 'a' and 'b'"),
        ({'classes': ['a', 'b', 'c'], 'logits': np.zeros((3, 3))}, "labels: number 2 is None and 'c'"),
        ({'ids': ['a/1', 'a/2', 'b/2']}, "clips: 1 are in the first alone and 1 are in the second alone, such as 'b/1', 'b/2'"),
        ({'labels': [0, 1, 1]}, "the true labels of 1 clips: 'a/2' is 'a' and 'b'"),
    ],
)  # fmt: skip
def test_what_differs_is_said(tmp_path, change, message):
    first, other = load(made(tmp_path / 'one')), load(made(tmp_path / 'two', **change))
    with pytest.raises(UserError, match=message):
        on_the_same_clips([first, other])


def test_a_fusion_agrees_with_each_of_its_runs(tmp_path):
    first, fused = load(made(tmp_path / 'one', crops=10)), load(made(tmp_path / 'two', crops=[1, 10], clips=2))
    assert differing(first, fused, ('crops', 'clips', 'dataset_digest')) == ['clips: 1 and 2']
    assert differing(fused, first, ('crops',)) == []
