"""Two processes of two devices each over the loopback, with the real scripts; and what processes tell each other, by hand."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from vidcls import config as config_lib
from vidcls import evaluate, train
from vidcls.distributed import processes
from vidcls.run import checkpoint, workdir

# 30 steps of 8 clips. A validation fills 8 of 12 places: the first process has 6 clips, the second 2.
SETTINGS = [
    '--config.model.width=8', '--config.model.depth=1', '--config.model.num_heads=2', '--config.sampling.num_segments=2',
    '--config.augment.short_side=32', '--config.optim.name=sgd', '--config.optim.learning_rate=0.01',
    '--config.batch_size=8', '--config.test.batch_size=12', '--config.log_every_steps=2',
    '--config.epochs=10', '--config.eval_every_epochs=1',
]  # fmt: skip
XLA_FLAGS = '--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0'
DEVICES = jax.local_devices()[:4]
SECONDS = 300


def _start(folder, *command) -> list[subprocess.Popen]:
    """Starts both processes; what they say goes to `out` and `err` of `folder`, with their number."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        address = f'127.0.0.1:{free.getsockname()[1]}'
    processes = []
    for process in range(2):
        several = ['--multihost', f'--coordinator={address}', '--num_processes=2', f'--process_id={process}']
        with open(folder / f'out{process}', 'w') as out, open(folder / f'err{process}', 'w') as err:
            argv = [sys.executable, '-m', *command, *several]
            env = os.environ | {'XLA_FLAGS': XLA_FLAGS}
            processes.append(subprocess.Popen(argv, env=env, stdout=out, stderr=err))
    return processes


def _finish(processes, folder) -> tuple[list[int], list[str], list[str]]:
    """Waits until both end by themselves: their statuses, what they printed and what they logged."""
    try:
        statuses = [process.wait(SECONDS) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return statuses, *([(folder / f'{kind}{process}').read_text() for process in range(2)] for kind in ('out', 'err'))


def _rows(folder) -> list[dict[str, float]]:
    file = folder / 'metrics.jsonl'
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.fixture(scope='module')
def stopped(motion_folder, tmp_path_factory):
    """Where two processes were in the midst of a run when one of them was told to stop; and what they said of it."""
    folder = tmp_path_factory.mktemp('processes') / 'stopped'
    said = tmp_path_factory.mktemp('said')
    processes = _start(
        said, 'experiments.timesformer_motion', f'--workdir={folder}', f'--config.data.dir={motion_folder}', *SETTINGS
    )
    deadline = time.monotonic() + SECONDS
    while not _rows(folder) and processes[1].poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    processes[1].send_signal(signal.SIGTERM)
    statuses, _, logged = _finish(processes, said)
    assert statuses == [128 + signal.SIGTERM] * 2, logged
    return folder, logged


@pytest.fixture(scope='module')
def whole(stopped, tmp_path_factory):
    """One process with as many devices, throughout."""
    folder = tmp_path_factory.mktemp('processes') / 'whole'
    train.train(config_lib.load(stopped[0] / 'config.json'), folder, DEVICES)
    return folder


@pytest.mark.slow
def test_both_stop_at_the_step_at_which_one_was_told_to(stopped):
    folder, logged = stopped
    step = checkpoint.steps(folder / 'checkpoints')[-1]
    assert 0 < step < 30
    for text in logged:
        assert f'SIGTERM after step {step} of 30: saved; the same command resumes the run' in text
    assert 'step 2/30 train' in logged[0] and 'step 2/30' not in logged[1]


@pytest.fixture(scope='module')
def ended(stopped):
    """The same run, gone on with by one process."""
    folder = shutil.copytree(stopped[0], stopped[0].with_name('ended'))
    train.train(config_lib.load(folder / 'config.json'), folder, DEVICES)
    return folder


@pytest.mark.slow
def test_one_process_ends_the_run_of_two_as_if_it_had_made_it_all(ended, whole):
    (step, ours), (last, theirs) = (checkpoint.restore_model(run / 'checkpoints', 'latest') for run in (ended, whole))
    assert step == last == 30
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), ours, theirs)
    # Written once, by one process: each step's row once, in order, with the numbers of the whole run.
    ours, theirs = ([row for row in _rows(run) if 'validation/loss' in row] for run in (ended, whole))
    assert [row['step'] for row in ours] == list(range(3, 31, 3))
    for row, expected in zip(ours, theirs, strict=True):
        assert row == pytest.approx(expected, rel=1e-4)
    steps = [row['step'] for row in _rows(ended) if 'train/loss' in row]
    assert steps == sorted(set(steps))


@pytest.mark.slow
def test_two_processes_evaluate_as_one_would(ended, tmp_path):
    argv = ['--split=train', '--checkpoint=latest', '--clips=2', f'--workdir={ended}']
    statuses, printed, logged = _finish(_start(tmp_path, 'experiments.evaluate', *argv), tmp_path)
    assert statuses == [0, 0], logged
    assert 'num_videos' in printed[0] and 'num_videos' not in printed[1]
    (scores,) = (ended / 'eval').glob('*.npz')
    found = dict(np.load(scores)) | json.loads(scores.with_suffix('.json').read_text())
    evaluate.evaluate(workdir.load(ended), 'train', 'latest', clips=2, devices=DEVICES[:1])
    expected = dict(np.load(scores)) | json.loads(scores.with_suffix('.json').read_text())
    assert found['num_videos'] == 24 and found['ids'].tolist() == expected['ids'].tolist()
    np.testing.assert_allclose(found['logits'], expected['logits'], atol=1e-5)
    assert found['loss'] == pytest.approx(expected['loss'], rel=1e-5) and found['top1'] == expected['top1']


@pytest.fixture
def other(monkeypatch):
    """A second process, which gathers what the test says."""
    said = []
    monkeypatch.setattr(processes, 'gather', lambda array: np.stack([array, said.pop(0) if said else array]))
    return said


def _text(text: str) -> np.ndarray:
    return np.frombuffer(text.encode().ljust(2048, b'\0'), np.uint8)


def test_an_error_of_one_process_is_an_error_of_all(other):
    with processes.together():
        pass
    other.append(_text('OSError: no such file'))
    with pytest.raises(ValueError, match='process 1 failed with OSError: no such file'), processes.together():
        pass
    with pytest.raises(KeyError, match='mine'), processes.together():
        raise KeyError('mine')


def test_processes_that_were_started_unlike_are_refused(other):
    processes.check_same('configuration', {'seed': 1})
    other.append(_text('0' * 64))
    with pytest.raises(ValueError, match='process 1 has another configuration than process 0'):
        processes.check_same('configuration', {'seed': 1})
