"""The page of an evaluation: its numbers are those of `vidcls.metrics`, and it stands whatever the scores and names are."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

from tests import stored as stored_files
from tests.report.parsed import numbers, plots, tiles
from vidcls import metrics
from vidcls.data import groups
from vidcls.data.dataset import open_dataset
from vidcls.report import confusions, evaluation, intervals
from vidcls.report.clip_length import bins
from vidcls.report.scored import scored
from vidcls.report.strips import find_clips
from vidcls.run.stored_results import load

HOSTILE = '</script><script>alert(1)</script>\u202e'


def made(folder, classes: int = 7, clips: int = 60, views: int = 2, **protocol):
    """A result with logits of which about half are right."""
    rng = np.random.default_rng(0)
    labels = rng.integers(classes, size=clips)
    logits = rng.normal(size=(clips, views, classes)).astype(np.float32)
    logits[np.arange(clips), :, labels] += rng.normal(1.5, 2, (clips, 1))
    names = [f'class {number}' for number in range(classes)]
    ids = [f'{names[label]}/{number}' for number, label in enumerate(labels)]
    return stored_files.store(folder, ids, labels, logits, names, **protocol), logits, labels


def test_the_scores_are_those_of_metrics(tmp_path):
    path, logits, labels = made(tmp_path / 'run')
    page = evaluation.write(path).read_text()
    expected = metrics.summarize(logits, labels)
    found = tiles(page)
    for name, key in (('Top-1', 'top1'), ('Top-5', 'top5'), ('Mean class accuracy', 'mean_class_accuracy')):
        assert found[name][0] == f'{100 * expected[key]:.1f} %'
        low, high = map(float, re.findall(r'[\d.]+', found[name][1])[1:])
        assert low < 100 * expected[key] < high
    clips = scored(load(path))
    interval = intervals.of_mean(clips.hit, intervals.each_clip(60))
    assert found['Top-1'][1] == f'95 %: {100 * interval.low:.1f} to {100 * interval.high:.1f} %'
    assert 'A draw takes 60 clips with replacement' in page and 'seed 0' in page


def test_the_bars_and_the_matrix_are_those_of_metrics(tmp_path):
    path, logits, labels = made(tmp_path / 'run')
    by_class = metrics.hits_by_class(logits, labels)
    (bars, _), (heat, layout), *_ = plots(evaluation.write(path).read_text())
    shown = dict(zip(bars[0]['customdata'], bars[0]['text']))
    np.testing.assert_allclose(numbers(bars[0]['x']), sorted((100 * h / n for h, n in by_class.values()), reverse=True))
    assert shown == {f'class {k}': f'{hits} of {clips}' for k, (hits, clips) in by_class.items()}
    assert layout['yaxis']['ticktext'] == [f'class {k} ({clips})' for k, (_, clips) in sorted(by_class.items())]
    counts = confusions.matrix(scored(load(path)))
    assert np.diag(counts).tolist() == [by_class[k][0] for k in range(7)]
    assert counts.sum(axis=1).tolist() == [by_class[k][1] for k in range(7)]
    np.testing.assert_array_equal(numbers(heat[0]['customdata']), counts)
    np.testing.assert_allclose(numbers(heat[0]['z']) ** 2, counts / counts.sum(axis=1, keepdims=True), rtol=1e-5)


def test_ties_and_broken_clips_are_wrong_and_taken_for_others(tmp_path):
    logits = [[2, 2, 0], [np.nan, 9, 0], [0, 3, 1], [0, 1, 5]]
    path = stored_files.store(tmp_path / 'run', ['a', 'b', 'c', 'd'], [0, 1, 1, 1], logits, ['x', 'y', 'z'])
    clips = scored(load(path))
    assert clips.hit.tolist() == [False, False, True, False] and clips.found.tolist() == [1, -1, 1, 2]
    assert confusions.largest(clips, 9) == [(0, 1, 1, 1.0), (1, 2, 1, 1 / 3)]
    page = evaluation.write(path).read_text()
    assert 'Clips with logits that are not finite: 1 of 4.' in page and 'Only 4 clips can be drawn.' in page
    assert tiles(page)['Top-1'][0] == '25.0 %'


def test_classes_that_are_confused_stand_together():
    counts = np.diag([10] * 20)
    for i, j in ((2, 17), (5, 11)):
        counts[i, j] = counts[j, i] = 5
    order = confusions.order(counts).tolist()
    assert sorted(order) == list(range(20))
    assert all(abs(order.index(i) - order.index(j)) == 1 for i, j in ((2, 17), (5, 11)))


@pytest.mark.parametrize(
    ('classes', 'logits'),
    [(['only'], [[3.0]]), ([HOSTILE, 'naïve 跳'], [[1, 0]]), (['a', 'b'], [[np.nan, np.nan]])],
)
def test_one_clip_has_a_page(tmp_path, classes, logits):
    path = stored_files.store(tmp_path / 'run', ['<b>'], [0], logits, [c.replace('\u202e', '') for c in classes])
    page = evaluation.write(path).read_text()
    assert 'What the run says of 1 clip of test' in page and 'alert(1)</' not in page


def test_a_run_without_a_finite_logit_has_no_calibration(tmp_path):
    path = stored_files.store(tmp_path / 'run', ['x'], [0], [[np.nan, np.nan]], ['a', 'b'])
    page = evaluation.write(path).read_text()
    assert 'Calibration error' not in tiles(page) and 'No clip has finite logits.' in page


def test_far_too_many_classes_have_no_matrix(tmp_path, monkeypatch):
    monkeypatch.setattr(confusions, 'MOST_CLASSES', 6)
    path, *_ = made(tmp_path / 'run', classes=7)
    assert 'With more than 6 classes there is no matrix.' in evaluation.write(path).read_text()


def test_many_classes_have_a_close_up(tmp_path):
    path, *_ = made(tmp_path / 'run', classes=80, clips=400, views=1)
    page = evaluation.write(path).read_text()
    assert 'The 20 classes with the lowest accuracy' in page and 'classes with the largest confusions' in page
    assert len(confusions.close_up(scored(load(path)))) <= 30
    assert len(page) < 10e6


@pytest.fixture
def on_motion(motion_folder, tmp_path):
    """A result on the test clips of a copy of the made clips, each two of which are of one recording."""
    folder = tmp_path / 'motion'
    folder.symlink_to(motion_folder)
    dataset = open_dataset(folder)
    clips = dataset.clips('test')
    rng = np.random.default_rng(0)
    return dataset, stored_files.store(
        tmp_path / 'run', dataset.index.ids[clips].tolist(), dataset.index.labels[clips],
        rng.normal(size=(len(clips), 8)), list(dataset.labels), data_dir=str(folder), dataset_digest=dataset.digest('test'),
    )  # fmt: skip


def test_frames_and_lengths_come_from_the_dataset(on_motion):
    dataset, path = on_motion
    clips = find_clips(load(path))
    assert clips.num_frames.tolist() == [8] * 8
    np.testing.assert_allclose(clips.seconds, 8 / dataset.index.fps[0])
    page = evaluation.write(path).read_text()
    assert page.count('<img src="data:image/jpeg;base64,') > 8
    assert 'All clips have 8 frames' in page


def test_another_dataset_gives_no_frames(on_motion):
    _, path = on_motion
    path.write_text(path.read_text().replace(json.loads(path.read_text())['dataset_digest'], '0' * 8))
    page = evaluation.write(path).read_text()
    assert 'is another dataset than the one that was evaluated' in page and '<img src=' not in page


def test_groups_are_drawn_where_the_dataset_has_them(on_motion, monkeypatch):
    dataset, path = on_motion
    names = dataset.index.ids.tolist()
    monkeypatch.setattr(groups, 'load', lambda folder, ids: groups.Groups('film', np.arange(len(ids)) // 3))
    count = len({names.index(name) // 3 for name in load(path).predictions.ids.tolist()})
    assert f'A draw takes {count} films with replacement' in evaluation.write(path).read_text()


def test_bins_have_equal_values_together():
    values = np.array([1.0] * 30 + [2.0] * 10 + [3.0] * 40)
    assert [len(found) for found in bins(values)] == [30, 10, 40]
    assert [len(found) for found in bins(np.arange(80.0))] == [10] * 8 or len(bins(np.arange(80.0))) == 8
    assert len(bins(np.ones(5))) == 1


def test_the_extra_is_asked_for_in_one_line():
    code = (
        "import sys, importlib.util as u; find = u.find_spec; u.find_spec = lambda n: None if n == 'plotly' else find(n)\n"
        'from vidcls import report\ntry: report.check_installed()\nexcept ValueError as error: print(error)'
    )
    said = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout
    assert said == "a page needs plotly: pip install 'vidcls[report]'\n"
