"""Fusing: numbers by hand, a search with a known optimum, and what is refused."""

import json

import numpy as np
import pytest

from experiments.score_table import table
from tests.stored import store
from vidcls.errors import UserError
from vidcls.fuse import check_weights, fuse, fused_scores, grid, search
from vidcls.run.stored_results import find, load

CLASSES = ['a', 'b', 'c']


def run(folder, logits, labels=(0, 1), ids=None, **more):
    ids = ids or [f'clip{n}' for n in range(len(labels))]
    return load(store(folder, ids, list(labels), logits, CLASSES, **more))


@pytest.fixture
def two(tmp_path):
    rgb = run(tmp_path / 'rgb', [[[3, 1, 0], [1, 1, 0]], [[0, 0, 4], [0, 2, 2]]])  # two views; means 2 1 0 and 0 1 3
    flow = run(tmp_path / 'flow', [[0, 2, 0], [0, 4, 0]], model='flow_net', dataset_digest='11111111')
    return rgb, flow


def test_logits_are_added_before_the_softmax(two):
    # (1 x (2, 1, 0) + 1.5 x (0, 2, 0)) / 2.5 and (1 x (0, 1, 3) + 1.5 x (0, 4, 0)) / 2.5
    np.testing.assert_allclose(fused_scores(two, (1, 1.5), 'logits'), [[0.8, 1.6, 0], [0, 2.8, 1.2]], rtol=1e-6)


def test_probabilities_are_averaged(two):
    found = np.exp(fused_scores(two, (1, 3), 'probabilities'))
    by_hand = (two[0].probabilities + 3 * two[1].probabilities) / 4
    np.testing.assert_allclose(found, by_hand, rtol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)


def test_the_result_is_one_that_evaluate_could_have_written(two, tmp_path):
    result = fuse(two, tmp_path / 'both', weights=(1, 1.5))
    assert (result['top1'], result['split'], result['weights']) == (0.5, 'test', [1, 1.5])  # clip0 becomes b
    assert (result['model'], result['dataset_digest']) == (['tsn_tiny', 'flow_net'], ['0badcafe', '11111111'])
    assert result['class_accuracy'] == {'a': [0, 1], 'b': [1, 1]}
    assert result['fused'] == [str(each.path) for each in two]
    assert f'{"top1":22} 50.00 %' in table(result)
    again = find(tmp_path / 'both', 'test')
    assert again.path.name == 'fused-test-logits-weights=1_1.5.json'
    assert again.scores == json.loads(json.dumps(result))
    assert again.predictions.logits.shape == (2, 1, 3)
    # A fusion of one half and the other is the fusion of all: weights 1 : 1.5 once more with 0.
    more = fuse([again, two[0]], tmp_path / 'more', weights=(1, 0))
    assert more['top1'] == 0.5
    np.testing.assert_array_equal(
        load(find(tmp_path / 'more', 'test').path).predictions.logits, again.predictions.logits
    )


def test_a_fusion_does_not_overwrite_another(two, tmp_path):
    fuse(two, tmp_path / 'both', weights=(1, 1))
    fuse(two, tmp_path / 'both', weights=(1, 1))
    fuse(two[::-1], tmp_path / 'both', weights=(1, 1))
    assert len(list((tmp_path / 'both' / 'eval').glob('*.json'))) == 2


def test_a_score_that_is_not_finite_counts_as_wrong_unless_its_weight_is_0(two, tmp_path):
    broken = run(tmp_path / 'broken', [[np.nan, 0, 0], [0, 9, 0]])
    for on in ('logits', 'probabilities'):
        assert fuse((two[1], broken), tmp_path / on, on, (1, 1))['class_accuracy'] == {'a': [0, 1], 'b': [1, 1]}
        assert fuse((two[1], broken), tmp_path / on, on, (1, 0))['loss'] is not None


def test_the_search_finds_the_only_weights_that_are_right(tmp_path):
    # With weights w and 1 - w: clip 0 is right where w > 0.7, clip 1 where w < 0.8; the grid has 0.75 between them.
    ours = run(tmp_path / 'ours', [[3, 0, -9], [4, 0, -9]], split='validation')
    theirs = run(tmp_path / 'theirs', [[0, 7, -9], [0, 16, -9]], split='validation')
    assert search((ours, theirs), 'logits') == (0.75, 0.25)
    assert search((theirs, ours), 'logits') == (0.25, 0.75)


def test_among_equals_the_most_even_weights_are_taken(tmp_path):
    # Every w above 0.4 is right.
    ours = run(tmp_path / 'ours', [[3, 0, 0]], labels=[0], split='validation')
    theirs = run(tmp_path / 'theirs', [[0, 2, 0]], labels=[0], split='validation')
    assert search((ours, theirs), 'logits') == (0.5, 0.5)
    # Three of which nothing is known: no grid point is even, and the first is given more.
    assert search((ours, ours, ours), 'logits') == (0.35, 0.35, 0.3)


def test_the_grid_has_every_point_once():
    assert list(grid(2))[:2] == [(1, 0), (0.95, 0.05)]
    assert [len(set(grid(count))) for count in (2, 3, 4)] == [21, 231, 1771]
    for count in range(2, 11):
        points = list(grid(count))
        assert len(points) <= 2000
        np.testing.assert_allclose(np.sum(points, axis=1), 1)


def test_weights_are_searched_on_validation_and_never_on_the_clips_that_are_scored(two, tmp_path):
    validation = [
        run(each.path.parents[1], each.predictions.logits, ids=['v0', 'v1'], name='made-validation', split='validation')
        for each in two
    ]
    result = fuse(two, tmp_path / 'both', validation=validation)
    assert result['weights'] == list(search(validation, 'logits'))
    assert result['weights_from'].startswith('searched on validation: top-1 ')
    with pytest.raises(UserError, match="share 2 clips, such as 'clip0'"):
        fuse(two, tmp_path / 'both', validation=two)
    with pytest.raises(UserError, match='0 evaluations of validation for 2 runs'):
        fuse(two, tmp_path / 'both')


def test_what_has_no_meaning_is_refused(two, tmp_path):
    for weights in ((1,), (1, -1), (0, 0), (1, float('nan')), (1e308, 1e308)):
        with pytest.raises(UserError, match='--weights='):
            check_weights(weights, 2)
    with pytest.raises(UserError, match='1 runs were named; from 2 to 10'):
        fuse(two[:1], tmp_path / 'both', weights=(1,))
    with pytest.raises(UserError, match="'prob': must be one of"):
        fuse(two, tmp_path / 'both', 'prob', (1, 1))
    (tmp_path / 'trained').mkdir()
    (tmp_path / 'trained' / 'config.json').write_text('{}')
    with pytest.raises(UserError, match='holds a run; name another folder'):
        fuse(two, tmp_path / 'trained', weights=(1, 1))
