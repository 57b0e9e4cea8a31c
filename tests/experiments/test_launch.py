"""Mistakes on the command line: one line that names them, before anything is done."""

import dataclasses
import logging
import re
import subprocess
import sys

import pytest

from experiments import eco_ucf101, eco_ucf101_textbook, launch, timesformer_ucf101
from vidcls.config import Config
from vidcls.errors import UserError
from vidcls.models.configured import build_model
from vidcls.models.eco import ECOFull, ECOLite


@pytest.mark.parametrize(
    ('argument', 'message'),
    [
        (
            '--config.optim.learning_rat=3',
            '--config.optim.learning_rat: no such setting (did you mean --config.optim.learning_rate?)',
        ),
        ('--config.epochs=many', 'could not convert'),
        ('--config.batch_size=2.5', 'batch_size'),
        ('config.seed=3', "unexpected argument 'config.seed=3'"),
        ('--seed=3', '--seed: no such flag (did you mean --config.seed?)'),
        ('--sed=3', "Unknown command line flag 'sed'"),
        ('--workdir=', '--workdir is empty'),
    ],
)
def test_a_mistake_is_one_line(argument, message, tmp_path):
    command = [sys.executable, '-m', 'experiments.tsn_hmdb51', f'--workdir={tmp_path / "run"}', argument]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert message in done.stderr
    assert 'Traceback' not in done.stderr
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
    ('argument', 'meant'),
    [
        ('--config.learning_rate=1', ' (did you mean --config.optim.learning_rate?)'),
        ('--config.optm.learning_rate=1', ' (did you mean --config.optim.learning_rate?)'),
        ('--noconfig.optim.nesterof', ' (did you mean --config.optim.nesterov?)'),
        ('--config.model.nme', ' (did you mean --config.model.name or --config.optim.name?)'),
        ('--config.optim.xyz=1', ''),
    ],
)
def test_a_misspelt_setting_gets_the_nearest(argument, meant, monkeypatch):
    monkeypatch.setattr(
        sys, 'argv', ['script', '--config.seed=1', '--noconfig.optim.nesterov', argument, '--config.a=1']
    )
    assert launch._misspelt(Config()) == f'{argument.partition("=")[0]}: no such setting{meant}'


def _run(body: str, *arguments: str) -> subprocess.CompletedProcess:
    code = f"from experiments import launch\nfrom vidcls.errors import UserError\ndef work(argv): {body}\nlaunch.run(work, '')"
    command = [sys.executable, '-c', code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ('body', 'message'),
    [
        ("raise UserError('too little')", 'error: too little\n'),
        ("open('/nowhere/a')", "error: [Errno 2] No such file or directory: '/nowhere/a'\n"),
    ],
)
def test_an_error_that_the_user_can_mend_is_a_line(body, message):
    done = _run(body)
    assert (done.returncode, done.stderr) == (1, message)
    assert 'Traceback' in _run(body, '--debug').stderr


@pytest.mark.parametrize(
    'body', ["raise ValueError('wrong')", 'import numpy; numpy.zeros(16).reshape(3, 5)', "raise OSError('wrong')"]
)
def test_a_mistake_of_a_programmer_keeps_its_traceback(body):
    done = _run(body)
    assert done.returncode == 1
    assert 'Traceback' in done.stderr and 'in work' in done.stderr


@pytest.mark.parametrize(('error', 'status'), [('KeyboardInterrupt', 130), ('BrokenPipeError', 141)])
def test_an_end_from_outside_is_no_mistake(error, status):
    code = f"from experiments import launch\ndef work(argv): raise {error}\nlaunch.run(work, '')"
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (status, '')


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--multihost'], '--multihost: no launcher that jax knows: .*--coordinator=HOST:PORT'),
        (['--coordinator=localhost:1', '--num_processes=2', '--process_id=0'], 'go together, and with --multihost'),
        (['--multihost', '--coordinator=localhost:1', '--process_id=0'], 'go together, and with --multihost'),
        (['--multihost', '--coordinator=localhost', '--num_processes=2', '--process_id=0'], 'must be host:port'),
        (['--multihost', '--coordinator=a:1', '--num_processes=2', '--process_id=2'], 'below --num_processes=2'),
    ],
)
def test_processes_that_cannot_be_joined_are_one_line(arguments, message, tmp_path):
    command = [sys.executable, '-m', 'experiments.evaluate', f'--workdir={tmp_path / "run"}', *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.search(message, done.stderr)
    assert 'Traceback' not in done.stderr


def test_ecos_recipe_is_its_authors_solver():
    """models_ECO_Full/ucf101/solver.prototxt; 9537 clips, 32 a step. Caffe clips the sum of iter_size = 2 gradients."""
    config = eco_ucf101.config()
    steps = [epochs * 9537 / 32 for epochs in (*config.optim.milestones, config.epochs)]
    assert steps == pytest.approx([1000, 2000, 3000, 4000, 4500])
    optim = config.optim
    assert (optim.name, optim.nesterov, optim.momentum, optim.learning_rate) == ('sgd', True, 0.9, 0.001)
    assert (optim.weight_decay, optim.decay_all, optim.decay, optim.clip_norm) == (5e-4, False, 0.1, 40 / 2)


def test_timesformers_recipe_is_its_authors():
    """configs/Kinetics/TimeSformer_divST_8x32_224.yaml, with the code's defaults."""
    config = timesformer_ucf101.config()
    optim, sampling, augment = config.optim, config.sampling, config.augment
    assert (optim.name, optim.nesterov, optim.momentum, optim.learning_rate) == ('sgd', True, 0.9, 0.005)
    assert (optim.weight_decay, optim.decay_all, optim.clip_norm) == (1e-4, True, 0)
    assert (optim.milestones, optim.decay, config.epochs, config.batch_size) == ((11, 14), 0.1, 15, 64)
    assert (sampling.scheme, sampling.num_frames, sampling.sampling_rate, sampling.target_fps) == (
        'linspace',
        8,
        32,
        30,
    )
    assert (augment.crop, augment.short_side, augment.short_side_max, augment.crop_size) == ('random', 256, 320, 224)
    assert (augment.test_short_side, augment.mean, augment.std, augment.flip) == (224, (0.45,) * 3, (0.225,) * 3, True)
    assert (config.test.clips, config.test.crops, config.test.average) == (1, 3, 'logits')


@pytest.mark.parametrize('experiment', [eco_ucf101, eco_ucf101_textbook])
def test_eco_lite_is_a_flag_away(experiment):
    config = experiment.config()
    lite = dataclasses.replace(config, model=dataclasses.replace(config.model, name='eco_lite'))
    assert [type(build_model(one, 101)) for one in (config, lite)] == [ECOFull, ECOLite]


@pytest.mark.parametrize(
    ('error', 'line'),
    [(UserError('no such run'), 'no page: no such run'), (KeyError('x'), 'no page: internal error: KeyError at ')],
)
def test_a_page_that_cannot_be_made_fails_nothing(error, line, monkeypatch, caplog):
    def write(*_):
        raise error

    monkeypatch.setattr('vidcls.report.training.write', write)
    with caplog.at_level(logging.INFO, 'absl'):
        launch.write_page('training', ['run'])
    assert len(caplog.messages) == 1 and caplog.messages[0].startswith(line)


def test_the_path_of_a_page_is_told(monkeypatch, caplog):
    monkeypatch.setattr('vidcls.report.training.write', lambda folders: f'{folders[0]}/training.html')
    with caplog.at_level(logging.INFO, 'absl'):
        launch.write_page('training', ['run'])
    assert caplog.messages == ['page: run/training.html']
