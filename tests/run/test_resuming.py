"""Settings that may change on resume, and runs that start from another run."""

import dataclasses
import hashlib
import json
import math
import re
import shutil

import jax
import numpy as np
import optax
import pytest

from vidcls import config as config_lib
from vidcls import train
from vidcls.config import Config, EvalConfig, InitConfig, ModelConfig, OptimConfig
from vidcls.data import pipeline
from vidcls.data.dataset import open_dataset
from vidcls.errors import UserError
from vidcls.run import checkpoint, resuming, workdir
from vidcls.run.resuming import Terms
from vidcls.training import setup

COSINE = OptimConfig(schedule='cosine')
DEVICES = jax.local_devices()[:1]


@pytest.mark.parametrize(
    ('ours', 'theirs', 'terms', 'lines'),
    [
        # Nothing but rounding.
        (Config(log_every_steps=3, profile_steps=(2, 3)), Config(), Terms(), []),
        (Config(test=EvalConfig(clips=10, crops=3, average='logits', batch_size=3)), Config(), Terms(), []),
        (Config(model=ModelConfig(remat=True, attention_implementation='xla')), Config(), Terms(), []),
        (Config(optim=OptimConfig(clips_per_device=4)), Config(), Terms(batch_norm=False), []),
        # What is learned.
        (
            Config(batch_size=16, optim=OptimConfig(learning_rate=0.1)), Config(), Terms(),
            ['optim.learning_rate: 0.01 -> 0.1', 'batch_size: 32 -> 16'],
        ),
        (
            Config(optim=OptimConfig(clips_per_device=4)), Config(), Terms(),
            [r'optim.clips_per_device: \d -> 4 \(BatchNorm normalises each part by itself\)'],
        ),
        (Config(model=ModelConfig(dtype='bfloat16')), Config(), Terms(), ["model.dtype: 'float32' -> 'bfloat16'"]),
        # A run's end.
        (Config(epochs=90.0), Config(), Terms(), []),
        (Config(epochs=30.0), Config(), Terms(), []),
        (Config(epochs=90.0, optim=COSINE), Config(optim=COSINE), Terms(), ['epochs: 45.0 -> 90.0 .*--extend']),
        (Config(epochs=90.0, optim=COSINE), Config(optim=COSINE), Terms(extend=True), []),
        (Config(seed=1, optim=COSINE), Config(optim=COSINE), Terms(extend=True), ['seed: 0 -> 1']),
    ],
)  # fmt: skip
def test_what_may_change(ours, theirs, terms, lines):
    found = resuming.refused(ours, theirs, terms)
    assert len(found) == len(lines)
    for line, expected in zip(found, lines, strict=True):
        assert line == expected or re.match(expected, line)


@pytest.fixture(scope='module')
def settings(config):
    """A constant rate; averages are kept."""
    return dataclasses.replace(config, optim=OptimConfig(ema_decay=0.9))


@pytest.fixture(scope='module')
def base(settings, tmp_path_factory):
    """A run of three steps."""
    folder = tmp_path_factory.mktemp('runs') / 'base'
    train.train(settings, folder, DEVICES)
    return folder


@pytest.fixture
def run(base, tmp_path):
    """A copy of it."""
    return shutil.copytree(base, tmp_path / 'run')


def _with(config, part, **changes):
    return dataclasses.replace(config, **{part: dataclasses.replace(getattr(config, part), **changes)})


def _parts(folder, which='latest'):
    return checkpoint.restore_parts(folder / 'checkpoints', which)


def _same(ours, theirs):
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_a_longer_run_goes_on_with_the_bits_of_one_that_was_as_long_from_the_beginning(settings, run, tmp_path, caplog):
    longer = _with(dataclasses.replace(settings, epochs=2.0), 'test', crops=3)
    train.train(longer, tmp_path / 'whole', DEVICES)
    with caplog.at_level('INFO', 'absl'):
        train.train(longer, run, DEVICES)
    step, parts = _parts(run)
    assert step == 6
    _same((step, parts), _parts(tmp_path / 'whole'))
    assert 'goes on from step 3 with other settings: test.crops: 1 -> 3; epochs: 1.0 -> 2.0' in caplog.text
    assert json.loads((run / 'history.jsonl').read_text()) == {
        'step': 3,
        'changes': {'test.crops': [1, 3], 'epochs': [1.0, 2.0]},
    }
    assert workdir.load(run).config.epochs == 2.0


def test_fewer_epochs_than_were_made_leave_nothing_to_do(settings, run, caplog):
    for optim in (settings.optim, dataclasses.replace(settings.optim, schedule='cosine')):
        shorter = dataclasses.replace(settings, epochs=1 / 3, optim=optim)
        config_lib.save(dataclasses.replace(workdir.load(run).config, optim=optim), run / 'config.json')
        with caplog.at_level('INFO', 'absl'):
            assert train.train(shorter, run, DEVICES) == {}
        assert f'{run} stands at step 3 of 1: nothing is left' in caplog.text
        assert workdir.load(run).config.epochs == 1.0  # as it was made
    assert not (run / 'history.jsonl').exists()


def test_a_cosine_is_extended_by_a_flag_and_goes_on_along_the_new_one(settings, run, caplog):
    cosine = _with(settings, 'optim', schedule='cosine')
    config_lib.save(_with(workdir.load(run).config, 'optim', schedule='cosine'), run / 'config.json')
    longer = dataclasses.replace(cosine, epochs=2.0)
    with pytest.raises(UserError, match=rf'epochs: 1.0 -> 2.0 .*--extend[\s\S]*--config.init.run={run} starts'):
        train.begin(longer, run, DEVICES)
    with caplog.at_level('INFO', 'absl'):
        found = train.begin(longer, run, DEVICES, extend=True)
    assert float(found.learning_rate(4)) == pytest.approx(0.01 * (1 + math.cos(math.pi * 4 / 6)) / 2)
    assert 'goes on from step 3 along the cosine of 2 epochs, at 0.005; along that of 1 it was at 0' in caplog.text


# ---- From another run


def test_another_run_gives_parameters_statistics_averages_and_momentum(settings, base, tmp_path):
    # Another batch and rate, as people want them.
    changed = _with(settings, 'optim', learning_rate=0.001)
    changed = dataclasses.replace(changed, batch_size=4, init=InitConfig(run=f'{base}@3'))
    found = train.begin(changed, tmp_path / 'new', DEVICES)
    saved, old = _parts(base)[1], found.state
    _same([old.params, old.batch_stats, old.ema], [saved['model'][name] for name in ('params', 'batch_stats', 'ema')])
    trace, schedule = old.opt_state[2]
    _same(trace.trace, saved['optimizer'][2][0]['trace'])
    assert np.abs(trace.trace['head']['kernel']).max() > 0
    assert isinstance(schedule, optax.ScaleByScheduleState) and schedule.count == 0 and old.step == 0
    origin = json.loads((tmp_path / 'new' / 'weights.json').read_text())
    assert origin == {
        'run': str(base), 'step': 3, 'config_sha256': hashlib.sha256((base / 'config.json').read_bytes()).hexdigest(),
        'loaded': len(jax.tree.leaves([old.params, old.batch_stats])), 'started': {}, 'unused': [],
        'optimizer': 'loaded', 'averaged_steps': 3,
    }  # fmt: skip


def test_a_path_of_init_is_one_however_it_is_spelled(settings, base, tmp_path, monkeypatch):
    monkeypatch.chdir(base)
    monkeypatch.setenv('HOME', str(base.parent))

    def kept(**init):
        return setup.open_data(_with(settings, 'init', **init), DEVICES)[0].init

    for spelling in (f'{base}@3', '../base@3', './x/../../base@3', '~/base@3'):
        assert kept(run=spelling).run == f'{base}@3'
    assert kept(weights='w.npz').weights == f'{base}/w.npz'
    for address in ('', 'hf://org/name', 'https://example.org/w.npz'):
        assert kept(weights=address).weights == address
    assert kept(weights='w.npz').run == ''


def test_averages_go_on_as_those_of_three_steps(settings, base, tmp_path):
    one = dataclasses.replace(settings, epochs=1 / 3, init=InitConfig(run=str(base)))
    train.train(one, tmp_path, DEVICES)
    before, after = _parts(base)[1]['model'], _parts(tmp_path)[1]['model']
    keep = (1 + 3) / (10 + 3)
    expected = lambda old, new: keep * old + (1 - keep) * new
    for part in ('params', 'batch_stats'):
        jax.tree.map(
            lambda old, new, found: np.testing.assert_allclose(found, expected(old, new), rtol=1e-5, atol=1e-6),
            before['ema'][part], after[part], after['ema'][part],
        )  # fmt: skip
    # A run that goes on knows it without the other run.
    longer = dataclasses.replace(one, epochs=1.0)
    assert train.begin(longer, tmp_path, DEVICES).averaged_steps == 3


def test_other_labels_start_a_classifier_and_the_optimizer_anew(settings, base, tmp_path, monkeypatch):
    opened = open_dataset(settings.data.dir)
    renamed = dataclasses.replace(opened, labels=(*opened.labels[1:], opened.labels[0]))  # as many, in another order
    monkeypatch.setattr(setup, 'open_dataset', lambda folder: renamed)
    found = train.begin(dataclasses.replace(settings, init=InitConfig(run=str(base))), tmp_path / 'new', DEVICES)
    scratch = train.begin(settings, tmp_path / 'scratch', DEVICES)
    saved = _parts(base)[1]['model']
    _same(found.state.params['backbone'], saved['params']['backbone'])
    _same(found.state.params['head'], scratch.state.params['head'])
    _same(found.state.opt_state, scratch.state.opt_state)
    _same(found.state.ema['params'], found.state.params)
    origin = json.loads((tmp_path / 'new' / 'weights.json').read_text())
    assert set(origin['started']) == {'head/kernel', 'head/bias'} and origin['averaged_steps'] == 0
    assert origin['optimizer'] == 'starts anew, as some parameters do'
    assert not (tmp_path / 'scratch' / 'weights.json').exists()


def test_another_optimizer_begins_anew(settings, base, tmp_path):
    adamw = dataclasses.replace(settings, optim=OptimConfig(name='adamw'), init=InitConfig(run=str(base)))
    found = train.begin(adamw, tmp_path / 'new', DEVICES)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(found.state.opt_state))
    _same(found.state.params, _parts(base)[1]['model']['params'])  # not the averages
    assert json.loads((tmp_path / 'new' / 'weights.json').read_text())['optimizer'] == 'starts anew, for that was sgd'


@pytest.mark.parametrize(
    ('where', 'model', 'message'),
    [
        ('{base}@4', {}, "no checkpoint '4'; there are best, latest and 3"),
        ('{base}/nowhere', {}, 'nowhere: no run here'),
        ('{base}', {'width': 8}, r'the parameters of .*base, which does not fit this TSN[\s\S]*allow_missing'),
    ],
)
def test_a_run_that_does_not_fit_leaves_no_work_directory(where, model, message, settings, base, tmp_path):
    wrong = dataclasses.replace(settings, init=InitConfig(run=where.format(base=base)))
    with pytest.raises(UserError, match=message):
        train.train(_with(wrong, 'model', **model), tmp_path / 'new' / 'run', DEVICES)
    assert not (tmp_path / 'new').exists()


# ---- Small datasets


def test_a_batch_of_more_clips_than_there_are_and_no_validation_are_said(config, tmp_path, monkeypatch, caplog):
    opened = open_dataset(config.data.dir)
    monkeypatch.setattr(
        setup, 'open_dataset', lambda folder: dataclasses.replace(opened, splits={'train': opened.splits['train'][:5]})
    )
    found = train.begin(dataclasses.replace(config, batch_size=16, epochs=6.0), tmp_path, DEVICES)
    assert found.num_steps == 2  # 6 x 5 clips are two batches of 16
    batch = next(pipeline.train_batches(found.dataset, found.config))
    assert sorted(np.unique(batch.clip, return_counts=True)[1]) == [3, 3, 3, 3, 4]
    data = workdir.load(tmp_path).config.data
    assert (data.train_split, data.validation_split) == ('train', '')
    assert '--config.batch_size=16 is more than the 5 clips of train' in caplog.text
    assert '--config.batch_size=4 fits' in caplog.text
    assert 'has no clips for validation beside train: training goes without' in caplog.text
