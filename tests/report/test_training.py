"""The page of trainings: curves, running time, the best step, resumptions and settings, of runs whose moments are known."""

import shutil

import numpy as np
import pytest

from tests.report import made_runs
from tests.report.parsed import numbers, plots
from vidcls.errors import UserError
from vidcls.report import training, training_log


@pytest.fixture(scope='module')
def resumed(tmp_path_factory):
    """300 steps; a process was lost at step 150, and another one went on from step 120, slower and hours later."""
    folder = made_runs.make(tmp_path_factory.mktemp('runs') / 'resumed')
    made_runs.log(folder, 0, 150, at=0)
    made_runs.log(folder, 120, 300, at=9000, pace=3)
    made_runs.change(folder, 120, **{'test.batch_size': [0, 4]})
    return folder


def test_time_leaves_out_pauses_and_lost_work(resumed):
    found = training_log.read(resumed)
    assert found.has_clock and found.resumed == (120,)
    # By hand: 120 steps of 2 s and 3 validations of 5 s before the row of step 120; then 3 s a step, a validation each 30.
    steps = np.array([10, 30, 120, 130, 300])
    np.testing.assert_allclose(found.seconds(steps), [20, 60, 255, 285, 255 + 540 + 5 * 5])
    assert found.curves['train/loss'].step.tolist() == list(range(10, 301, 10))


def test_the_best_is_the_last_of_equals(resumed):
    assert training_log.read(resumed).best == (300, 0.75)  # 0.75 from step 150 on


def test_without_tensorboard_time_follows_from_the_rates(resumed, tmp_path):
    folder = shutil.copytree(resumed, tmp_path / 'run')
    shutil.rmtree(folder / 'tensorboard')
    found = training_log.read(folder)
    assert not found.has_clock and found.resumed == ()
    np.testing.assert_allclose(found.seconds(np.array([60, 120, 300])), [120, 240, 240 + 540])
    assert 'whether a run was resumed is not known' in training.write([folder]).read_text()


def test_a_run_that_began_again_has_one_beginning(tmp_path):
    folder = made_runs.make(tmp_path / 'run')
    made_runs.log(folder, 0, 50, at=0)  # lost before its first checkpoint
    made_runs.log(folder, 0, 100, at=500)
    found = training_log.read(folder)
    assert found.resumed == ()
    np.testing.assert_allclose(found.seconds(np.array([100])), [200 + 3 * 5])


def test_runs_of_different_lengths_overlay(resumed, tmp_path):
    other = made_runs.make(tmp_path / 'other', learning_rate=0.02)
    made_runs.log(other, 0, 60, at=0)
    page = training.write([resumed, other], tmp_path / 'two.html').read_text()
    data, layout = plots(page)[0]  # the loss
    by_name = {trace.get('name'): trace for trace in data}
    assert numbers(by_name['resumed, training']['x']).tolist() == list(range(10, 301, 10))
    assert numbers(by_name['other, training']['x']).tolist() == [10, 20, 30, 40, 50, 60]
    np.testing.assert_allclose(numbers(by_name['other, validation']['y']), [110 / 50, 110 / 80])
    by_time = layout['meta'][1]
    assert by_time['title'] == 'running time (min)' and numbers(by_time['x'][0])[2] == 1.0  # step 30 of the first
    assert [numbers(trace['x']).tolist() for trace in data if trace.get('marker', {}).get('symbol') == 'star'] == [
        [300],
        [60],
    ]
    assert [
        numbers(trace['x']).tolist() for trace in data if trace.get('marker', {}).get('symbol') == 'diamond-open'
    ] == [[120]]
    assert '<td>optim.learning_rate</td><td>0.01</td><td>0.02</td>' in page
    assert '<td>test.batch_size</td><td>0</td><td>4</td>' in page


def test_hostile_rows_are_left_out(resumed, tmp_path):
    folder = shutil.copytree(resumed, tmp_path / 'run')
    rows = [
        '[1]',
        '{"step": "<b>"}',
        '{"step": 1e400, "train/loss": 1}',
        '{"step": 7, "train/loss": "</script>"}',
        '{"st',
    ]
    (folder / 'metrics.jsonl').write_text(
        '\n'.join([*rows, '{"step": 3, "train/loss": NaN}', '{"step": 5, "train/loss": 2}'])
    )
    (folder / 'history.jsonl').write_text(
        '{"step": 3, "changes": {"<script>": ["</script>", 1]}}\n{"step": 1, "changes": 5}\n'
    )
    for path in (folder / 'tensorboard').iterdir():
        path.write_bytes(path.read_bytes()[:100] + b'\xff' * 200)
    found = training_log.read(folder)
    assert found.curves['train/loss'].step.tolist() == [5]
    page = training.write([folder]).read_text()
    assert '&lt;script&gt;' in page and page.count('<script>') == page.count('</script>')


def test_a_run_without_rows_and_no_run(tmp_path):
    folder = made_runs.make(tmp_path / 'run')
    assert 'no row in metrics.jsonl' in training.write([folder]).read_text()
    with pytest.raises(UserError, match='from 1 to 24'):
        training.write([])


def test_long_curves_are_averaged():
    curve = training_log.Curve(np.arange(1, 4501), np.arange(4500.0))
    thin = training._thinned(curve)
    assert len(thin.step) == 1500 and thin.step[-1] == 4500
    assert thin.value[0] == 1.0 and thin.value.mean() == pytest.approx(curve.value.mean())
