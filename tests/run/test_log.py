"""What a run says: the same values in both files, and on a terminal or without one."""

import io
import json
import logging
import sys

import pytest
import tensorflow as tf
from tensorboardX.proto.event_pb2 import Event

from vidcls.run import log as run_log
from vidcls.run.log import RunLog, in_words


def _events(folder):
    """Every event, read by TensorFlow, which checks the sums: (step, {name: value})."""
    records = tf.data.TFRecordDataset([str(path) for path in sorted(folder.iterdir())]).as_numpy_iterator()
    return [
        (event.step, {value.tag: value.simple_value for value in event.summary.value})
        for event in map(Event.FromString, records)
    ]


def test_both_files_hold_the_same_values_under_the_same_names(tmp_path):
    log = RunLog(tmp_path, 0, 4)
    log.write(2, {'train/loss': 0.5, 'train/top1': 0.25})
    log.write(4, {'validation/loss': 2.0, 'validation/top1': 1.0})
    log.close()
    rows = [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()]
    assert rows == [
        {'step': 2, 'train/loss': 0.5, 'train/top1': 0.25},
        {'step': 4, 'validation/loss': 2.0, 'validation/top1': 1.0},
    ]
    assert [{'step': step, **values} for step, values in _events(tmp_path / 'tensorboard') if values] == rows


def test_a_continued_log_tells_tensorboard_what_to_forget(tmp_path):
    RunLog(tmp_path, 7, 9).close()
    assert [step for step, _ in _events(tmp_path / 'tensorboard')] == [0, 8]


def test_on_a_terminal_the_last_validation_stays_beside_the_loss(tmp_path, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, 'stderr', terminal)
    log = RunLog(tmp_path, 0, 9)
    log.write(3, {'validation/top1': 0.625})
    log.write(4, {'train/loss': 1.5, 'train/clips_per_second': 80.0})
    assert log._bar.postfix == 'loss 1.5 clips_per_second 80 validation_top1 0.625'
    log.close()


def test_without_a_terminal_a_line_says_how_long_it_will_take(tmp_path, monkeypatch, caplog):
    clock = iter([100.0, 100.0 + 2 * 60])
    monkeypatch.setattr(run_log.time, 'monotonic', lambda: next(clock))
    log = RunLog(tmp_path, 10, 40)  # resumes at step 10
    for _ in range(5):
        log.advance()
    with caplog.at_level(logging.INFO, 'absl'):
        log.write(15, {'train/loss': 1.5})
    log.close()
    # Four steps since the first, in 2 minutes; 25 are left.
    assert caplog.messages == ['step 15/40 train: loss 1.5, 12 min left']


@pytest.mark.parametrize(
    ('seconds', 'words'),
    [(0.4, '0 s'), (99, '99 s'), (101, '2 min'), (59 * 60, '59 min'), (12_000, '3 h 20 min'), (190_800, '2 d 5 h')],
)
def test_durations(seconds, words):
    assert in_words(seconds) == words
