"""Comparing: McNemar's table, the paired interval and Holm's correction by hand, and the page and lines of a pair."""

import json
import math
import re
import shutil

import numpy as np
import pytest

from tests.report.parsed import numbers, plots
from tests.stored import store
from vidcls.data.dataset import open_dataset
from vidcls.errors import UserError
from vidcls.report import compare_page, comparison, intervals
from vidcls.report.comparison import compare, holm, units_of
from vidcls.run.stored_results import load

HOSTILE = '<script>alert(1)</script> \u202e </script>'
CLASSES = ['a', 'b', '日本 é']


def results(tmp_path, right_a, right_b, labels=None, classes=CLASSES):
    """Two evaluations that are right at these clips, and else answer the class after the true one."""
    labels = np.zeros(len(right_a), int) if labels is None else np.array(labels)
    found = []
    for name, right in (('one', right_a), ('two', right_b)):
        answer = np.where(right, labels, (labels + 1) % len(classes))
        logits = 2.0 * np.eye(len(classes))[answer]
        ids = [f'clip{n}' for n in range(len(labels))]
        found.append(load(store(tmp_path / name, ids, labels, logits, classes, model=name)))
    return found


def test_mcnemars_table_by_hand(tmp_path):
    # Both right 4, A alone 1, B alone 6, both wrong 2.
    right_a = [1] * 4 + [1] + [0] * 6 + [0] * 2
    right_b = [1] * 4 + [0] + [1] * 6 + [0] * 2
    pair = compare(*results(tmp_path, right_a, right_b), intervals.each_clip(13))
    assert pair.discordant == (1, 6)
    assert pair.difference == pytest.approx(5 / 13)
    # Of 7 tosses of a coin 0, 1, 6 or 7 heads: 2 (1 + 7) / 2^7.
    assert pair.p_value == pytest.approx(16 / 128)
    assert pair.changed.tolist() == [4, 5, 6, 7, 8, 9, 10]  # lost, then gained
    same = compare(pair.a, pair.a, intervals.each_clip(13))
    assert (same.p_value, same.difference, same.interval) == (1, 0, (0, 0))


def test_the_interval_is_paired(tmp_path):
    # Each run alone is right at half of the clips and uncertain by 10 points; B is right wherever A is, and at 5 more.
    right_a = np.arange(100) < 50
    right_b = np.arange(100) < 55
    pair = compare(*results(tmp_path, right_a, right_b), intervals.each_clip(100))
    low, high = pair.interval
    deviation = math.sqrt(0.05 * 0.95 / 100)
    assert low == pytest.approx(0.05 - 1.96 * deviation, abs=0.015)
    assert high == pytest.approx(0.05 + 1.96 * deviation, abs=0.015)


def test_clips_of_one_group_are_drawn_together(tmp_path):
    right_a, right_b = np.zeros(100, bool), np.arange(100) < 50
    pair = results(tmp_path, right_a, right_b)
    by_clip = compare(*pair, intervals.each_clip(100)).interval
    by_group = compare(*pair, intervals.of_groups('recording', np.arange(100) // 25)).interval
    assert by_group.high - by_group.low > 2 * (by_clip.high - by_clip.low)


def test_groups_come_from_the_dataset(tmp_path, motion_folder, caplog):
    folder = shutil.copytree(motion_folder, tmp_path / 'motion')
    dataset = open_dataset(folder)
    clips = dataset.clips('test')
    ids, labels = dataset.index.ids[clips].tolist(), dataset.index.labels[clips]
    logits, digest = np.eye(8)[labels], dataset.digest('test')
    (folder / 'groups.json').write_text(json.dumps({'of': 'film', 'groups': {'x': [ids[0], ids[2]]}}))

    def made(name, **protocol):
        return load(store(tmp_path / name, ids, labels, logits, list(dataset.labels), **protocol))

    found = units_of([made('one', data_dir=str(folder), dataset_digest=digest)])
    assert (found.of, found.count) == ('film', 7)
    assert found.number[0] == found.number[2] != found.number[1]
    fused = made('two', data_dir=['elsewhere', str(folder)], dataset_digest=['0', digest], fused=['a', 'b'])
    assert units_of([fused]).count == 7
    other = made('three', data_dir=str(folder), dataset_digest='0badcafe')
    assert units_of([other]).of == 'clip'
    assert 'intervals are over clips, not over recordings' in caplog.text
    with pytest.raises(UserError, match='is another dataset'):
        units_of([other], str(folder))


def test_the_classes_that_changed_most_are_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(compare_page, '_BARS', 2)
    # Of ten clips of each class B gains 1, 5 and 9.
    labels = np.repeat([0, 1, 2], 10)
    right_b = np.arange(30) % 10 < np.array([1, 5, 9])[labels]
    pair = compare(*results(tmp_path, np.zeros(30, bool), right_b, labels), intervals.each_clip(30))
    compare_page.write(tmp_path / 'page.html', [pair])
    page = (tmp_path / 'page.html').read_text()
    bars = next(data for data, _ in plots(page) if data[0]['type'] == 'bar')
    assert numbers(bars[0]['x']).tolist() == [50, 90]


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.5: times 4, 3, 2, 1, none smaller than the one before.
    np.testing.assert_allclose(holm([0.03, 0.01, 0.5, 0.02]), [0.06, 0.04, 0.5, 0.06])
    np.testing.assert_allclose(holm([0.9, 0.8]), [1, 1])


def test_a_score_that_is_not_finite_is_wrong_and_has_no_answer(tmp_path):
    first, _ = results(tmp_path, [1, 1], [1, 1])
    broken = load(store(tmp_path / 'broken', ['clip0', 'clip1'], [0, 0], [[np.nan, 0, 0], [9, 0, 0]], CLASSES))
    pair = compare(first, broken, intervals.each_clip(2))
    assert (pair.discordant, pair.clips_b.found.tolist()) == ((1, 0), [-1, 0])
    (row,) = comparison.summary([pair])
    (changed,) = row['changed']
    assert (changed['answer_b'], changed['probability_b']) == (None, None)
    compare_page.write(tmp_path / 'page.html', [pair])
    page = (tmp_path / 'page.html').read_text()
    assert 'scores not finite' in page and 'not finite, over all runs: 1.' in page


def test_the_page_has_the_numbers_and_nothing_hostile_is_run(tmp_path):
    classes = ['a', HOSTILE.replace('\u202e', 'x').replace('/', '|'), '日本 é']
    right_a, right_b = [1, 1, 0, 0], [1, 0, 1, 1]
    first, other = results(tmp_path / HOSTILE[:8], right_a, right_b, [0, 0, 1, 2], classes)
    ids = np.array([HOSTILE, 'clip1', '=1+1', 'ü/ß'])
    for result in (first, other):
        result.predictions.ids[:] = ids.astype(result.predictions.ids.dtype)
    pair = compare(first, other, intervals.each_clip(4))
    (line,) = compare_page.write(tmp_path / 'page.html', [pair])
    assert line.startswith('B (two) against A (one): top-1 75.00 % against 50.00 %, +25.00 points (95 % from ')
    assert '2 are right in B alone and 1 in A alone' in line
    text = (tmp_path / 'page.html').read_text()
    assert '<script>alert' not in text
    assert '\u202e' not in text
    assert '日本 é' in text
    own = re.sub(r'<script.*?</script>', '', text, flags=re.DOTALL)
    for shown in ('75.00 %', '50.00 %', '+25.00', 'Clips with another answer: 3, of which 1 lost'):
        assert shown in own
    (row,) = json.loads((tmp_path / 'page.json').read_text())
    assert row['class_hits']['a'] == [2, 1, 2]
    assert row['mcnemar_p'] == 1  # 1 of 3: 2 (1 + 3) / 8


def test_several_runs_have_their_own_sections(tmp_path):
    first, other = results(tmp_path, [1, 0, 1], [1, 1, 1])
    pairs = [compare(first, each, intervals.each_clip(3)) for each in (other, first)]
    lines = compare_page.write(tmp_path / 'page.html', pairs)
    assert [line[:10] for line in lines] == ['B (two) ag', 'C (one, ma']
    assert all('by Holm' in line for line in lines)
    assert 'No class changed its accuracy.' in (tmp_path / 'page.html').read_text()
