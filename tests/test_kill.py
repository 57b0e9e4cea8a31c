"""The real script, killed at random moments or told to stop while it validates, and started again: the same bits and the
same rows as one left alone.

    KILLS=40 TERMS=10 python -m pytest -s -m slow tests/test_kill.py    # as often as one likes; fewer unless told
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from vidcls.run import checkpoint

KILLS, TERMS = int(os.environ.get('KILLS', '5')), int(os.environ.get('TERMS', '2'))
STEPS = max(60, 12 * (KILLS + TERMS))
# Of 8 clips, a validation and a checkpoint every third; and a checkpoint at an even step when the time has come.
SETTINGS = [
    '--config.sampling.num_segments=2', '--config.augment.short_side=32', '--config.augment.crop_size=24',
    '--config.batch_size=8', f'--config.epochs={STEPS / 3}', '--config.eval_every_epochs=1', '--config.log_every_steps=2',
    '--config.checkpoint_every_minutes=0.002',
]  # fmt: skip
FAMILIES = {
    'tsn_motion': [
        '--config.model.width=4', '--config.model.dropout=0.3', '--config.optim.ema_decay=0.9',
        '--config.sampling.modality=flow', '--config.sampling.seg_len=3',
    ],
    'eco_motion': ['--config.model.width=2', '--config.sampling.num_segments=4', '--config.test.batch_size=2'],
    'timesformer_motion': [
        '--config.model.width=8', '--config.model.depth=1', '--config.model.num_heads=2', '--config.model.patch_size=8',
        '--config.model.drop_path=0.2', '--config.augment.mixup_alpha=0.4',
    ],
}  # fmt: skip
# What the log says before the kill, how often, and for how long at most the run then goes on, seconds. Every third step
# is saved after its line 'validation', in the background of the next ones.
MOMENTS = [('', 0, 6.0), ('train: ', 2, 0.3), ('validation: ', 3, 0.1), ('validation: ', 1, 0.4), ('train: ', 3, 0.5)]
TIMINGS = {'train/clips_per_second', 'train/data_wait'}
SECONDS = 1500 + 3 * STEPS


def _start(script, folder, data, err) -> subprocess.Popen:
    argv = [f'--workdir={folder}', f'--config.data.dir={data}', *SETTINGS, *FAMILIES[script]]
    env = os.environ | {'XLA_FLAGS': '--xla_backend_optimization_level=0'}
    return subprocess.Popen([sys.executable, '-m', f'experiments.{script}', *argv], env=env, stderr=err)


def _kill(script, folder, data, log, moment, delay) -> None:
    """Starts the script, and kills it `delay` seconds after its log has what the moment says."""
    words, times, _ = moment
    with open(log, 'w') as err:
        process = _start(script, folder, data, err)
    deadline = time.monotonic() + SECONDS
    while words and log.read_text().count(words) < times and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(delay)
    process.kill()
    assert process.wait() == -signal.SIGKILL, f'it ended before it was killed: {log.read_text()}'
    assert log.read_text().count(words) >= times, log.read_text()


def _stop_in_validation(script, folder, data, log, delay) -> bool:
    """Starts the script and tells it to stop `delay` seconds after the row before a validation; whether it came in time."""
    with open(log, 'w') as err:
        process = _start(script, folder, data, err)
    deadline = time.monotonic() + SECONDS
    rows = lambda: [int(step) for step in re.findall(r'step (\d+)/\d+ train: ', log.read_text())]
    while not any(step % 3 == 0 for step in rows()) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(delay)
    process.terminate()
    assert process.wait(SECONDS) == 128 + signal.SIGTERM, log.read_text()
    step = checkpoint.steps(folder / 'checkpoints')[-1]
    assert f'SIGTERM after step {step} of {STEPS}: saved' in log.read_text()
    return step % 3 == 0 and not (folder / 'checkpoints' / str(step) / 'metrics' / 'metrics').exists()


def _finish(script, folder, data, log) -> None:
    with open(log, 'w') as err:
        process = _start(script, folder, data, err)
    try:
        assert process.wait(SECONDS) == 0, log.read_text()
    finally:
        process.kill()


def _values(folder):
    """Everything that the last checkpoint holds."""
    with ocp.CheckpointManager(folder / 'checkpoints', item_names=('model', 'optimizer')) as manager:
        assert manager.latest_step() == STEPS
        parts = {name: ocp.args.StandardRestore() for name in ('model', 'optimizer')}
        restored = manager.restore(STEPS, args=ocp.args.Composite(**parts))
        return {name: restored[name] for name in parts}, checkpoint.restore_model(folder / 'checkpoints', 'best')[0]


def _rows(folder):
    rows = [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in TIMINGS} for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize('script', FAMILIES)
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bits(script, flow_folder, tmp_path):
    whole, cut = tmp_path / 'whole', tmp_path / 'cut'
    _finish(script, whole, flow_folder, tmp_path / 'whole.log')
    seed = random.SystemRandom().randrange(1000)
    print(f'seed {seed}')
    draw = random.Random(seed)
    cut.mkdir()
    for number in range(KILLS):
        moment = draw.choice(MOMENTS)
        delay = draw.uniform(0, moment[2])
        print(f'killed {delay:.3f} s after {moment[1]} x {moment[0]!r}, checkpoints', end=' ')
        _kill(script, cut, flow_folder, tmp_path / f'{number}.log', moment, delay)
        print(*sorted(path.name for path in (cut / 'checkpoints').glob('*')))
    for number in range(TERMS):
        shutil.copytree(cut, tmp_path / 'before')
        delay = draw.uniform(0, 0.2)
        while not _stop_in_validation(script, cut, flow_folder, tmp_path / f'stop{number}.log', delay):
            shutil.rmtree(cut)  # a step that was stopped at ends a row
            shutil.copytree(tmp_path / 'before', cut)
            delay /= 2
        shutil.rmtree(tmp_path / 'before')
        print(f'told to stop {delay:.3f} s after the row, saved', checkpoint.steps(cut / 'checkpoints')[-1])
    _finish(script, cut, flow_folder, tmp_path / 'last.log')
    assert re.search(rf'stands at step \d+ of {STEPS}: resuming', (tmp_path / 'last.log').read_text())

    ours, best = _values(cut)
    theirs, expected = _values(whole)
    assert best == expected
    assert ('ema' in ours['model']) == (script == 'tsn_motion')
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    # One that was killed while it deleted an old checkpoint may leave a part of it behind.
    assert set(checkpoint.steps(whole / 'checkpoints')) <= set(checkpoint.steps(cut / 'checkpoints'))
    assert _rows(cut) == _rows(whole)
