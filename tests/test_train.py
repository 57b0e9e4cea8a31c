"""The training loop on made clips: the same bits again, from any checkpoint, on any number of devices."""

import dataclasses
import itertools
import json
import os
import shutil
import signal

import jax
import numpy as np
import pytest

from vidcls import evaluate, train
from vidcls.config import EvalConfig, ModelConfig, OptimConfig, SamplingConfig
from vidcls.data.dataset import open_dataset
from vidcls.errors import UserError
from vidcls.models.configured import build_model
from vidcls.run import checkpoint, workdir
from vidcls.run.profile import Profile
from vidcls.run.signals import Interrupted
from vidcls.training import setup

TOLERANCE = 1e-5
TIMINGS = {'train/clips_per_second', 'train/data_wait'}


@pytest.fixture(scope='module')
def one_device(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp('runs') / 'one'
    scores = train.train(config, folder, jax.local_devices()[:1])
    return folder, scores


def _variables(folder):
    return checkpoint.restore_model(folder / 'checkpoints', 'latest')[1]


def _assert_same(ours, theirs, tolerance=0.0):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def test_the_work_directory_is_complete(one_device):
    folder, scores = one_device
    assert {p.name for p in folder.iterdir()} == {
        'config.json', 'labels.txt', 'frames.json', 'dataset.json', 'checkpoints', 'metrics.jsonl', 'tensorboard',
    }  # fmt: skip
    rows = [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
    assert rows[-1] == {'step': 3} | {f'validation/{name}': value for name, value in scores.items()}
    trained = [row for row in rows if 'train/loss' in row]
    assert trained[-1]['step'] == 3
    assert set(trained[0]) == {'step'} | {
        f'train/{name}'
        for name in ('loss', 'top1', 'top5', 'grad_norm', 'learning_rate', 'clips_per_second', 'data_wait')
    }


def test_the_same_seed_gives_the_same_bits(config, one_device, tmp_path):
    train.train(config, tmp_path, jax.local_devices()[:1])
    _assert_same(_variables(tmp_path), _variables(one_device[0]))


def test_another_loss_is_the_one_that_is_trained_with(config, tmp_path):
    seven = lambda logits, targets: 0 * logits.sum(-1) + 7
    train.train(config, tmp_path, jax.local_devices()[:1], loss=seven)
    rows = [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()]
    assert [row['train/loss'] for row in rows if 'train/loss' in row] == [7, 7]
    assert [row['train/grad_norm'] for row in rows if 'train/loss' in row] == [0, 0]


def test_eight_devices_give_the_parameters_of_one(config, one_device, tmp_path):
    train.train(config, tmp_path, jax.local_devices())
    _assert_same(_variables(tmp_path), _variables(one_device[0]), TOLERANCE)


def test_a_continued_run_ends_with_the_bits_of_an_uninterrupted_one(config, tmp_path, monkeypatch):
    longer = dataclasses.replace(config, epochs=2.0)
    whole, cut = tmp_path / 'whole', tmp_path / 'cut'
    train.train(longer, whole, jax.local_devices()[:1])

    def stop(self, step, *args):
        original(self, step, *args)
        raise KeyboardInterrupt

    original = train.Checkpoints.save
    with monkeypatch.context() as patched:
        patched.setattr(train.Checkpoints, 'save', stop)
        with pytest.raises(KeyboardInterrupt):
            train.train(longer, cut, jax.local_devices()[:1])
    assert checkpoint.restore_model(cut / 'checkpoints', 'latest')[0] == 3
    train.train(longer, cut, jax.local_devices()[:1])
    _assert_same(_variables(cut), _variables(whole))
    rows = [json.loads(line)['step'] for line in (cut / 'metrics.jsonl').read_text().splitlines()]
    assert rows == sorted(rows)


def test_a_signal_saves_the_step_that_ran_and_the_run_resumes(config, tmp_path, monkeypatch):
    longer = dataclasses.replace(config, epochs=2.0)
    whole, cut = tmp_path / 'whole', tmp_path / 'cut'
    train.train(longer, whole, jax.local_devices()[:1])
    steps = itertools.count(1)
    with monkeypatch.context() as patched:
        kill = lambda self: os.kill(os.getpid(), signal.SIGTERM) if next(steps) == 2 else None
        patched.setattr(train.RunLog, 'advance', kill)
        with pytest.raises(Interrupted, match='SIGTERM after step 2 of 6: saved') as stopped:
            train.train(longer, cut, jax.local_devices()[:1])
    assert stopped.value.signum == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert checkpoint.restore_model(cut / 'checkpoints', 'latest')[0] == 2
    train.train(longer, cut, jax.local_devices()[:1])
    _assert_same(_variables(cut), _variables(whole))


def _rows(folder):
    """Of metrics.jsonl, but for the times that were taken."""
    rows = [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
    return [{name: x for name, x in row.items() if name not in TIMINGS} for row in rows]


@pytest.fixture(scope='module')
def two_epochs(config, tmp_path_factory):
    """A run that nothing disturbs, its settings, and how it is told from another."""
    config = dataclasses.replace(config, epochs=2.0, test=EvalConfig(batch_size=2))
    folder = tmp_path_factory.mktemp('runs') / 'two'
    train.train(config, folder, jax.local_devices()[:1])

    def assert_as_undisturbed(other):
        _assert_same(_variables(other), _variables(folder))
        assert _rows(other) == _rows(folder)
        for which in ('best', 'latest'):
            found, expected = (checkpoint.restore_model(run / 'checkpoints', which)[0] for run in (other, folder))
            assert found == expected

    return config, assert_as_undisturbed


@pytest.mark.parametrize('validation', [1, 2])
def test_a_signal_ends_a_validation_and_the_next_run_makes_it(two_epochs, validation, tmp_path, monkeypatch):
    config, assert_as_undisturbed = two_epochs
    seen, saved = [], []
    eval_batches, save = evaluate.pipeline.eval_batches, train.Checkpoints.save

    def batches(*args):
        for batch in eval_batches(*args):
            seen.append(batch)
            if len(seen) == 4 * (validation - 1) + 2:
                os.kill(os.getpid(), signal.SIGINT)
            yield batch

    def saving(self, step, *args):
        saved.append(step)
        save(self, step, *args)

    with monkeypatch.context() as patched:
        patched.setattr(evaluate.pipeline, 'eval_batches', batches)
        patched.setattr(train.Checkpoints, 'save', saving)
        with pytest.raises(Interrupted, match=f'SIGINT after step {3 * validation} of 6: saved'):
            train.train(config, tmp_path, jax.local_devices()[:1])
    assert saved == [3, 6][:validation]
    assert len(seen) == 4 * (validation - 1) + 2  # of four batches, the third is not begun
    assert checkpoint.steps(tmp_path / 'checkpoints')[-1] == 3 * validation
    scores = train.train(config, tmp_path, jax.local_devices()[:1])
    assert _rows(tmp_path)[-1] == {'step': 6} | {f'validation/{name}': value for name, value in scores.items()}
    assert_as_undisturbed(tmp_path)


def test_a_validation_whose_scores_did_not_reach_the_checkpoint_is_made_again(two_epochs, tmp_path, monkeypatch):
    config, assert_as_undisturbed = two_epochs

    def killed(self, step, scores):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(train.Checkpoints, 'add_scores', killed)
        with pytest.raises(KeyboardInterrupt):
            train.train(config, tmp_path, jax.local_devices()[:1])
    train.train(config, tmp_path, jax.local_devices()[:1])
    assert_as_undisturbed(tmp_path)


def test_checkpoints_between_validations_change_no_bit_and_no_row(two_epochs, tmp_path, monkeypatch):
    config, assert_as_undisturbed = two_epochs
    config = dataclasses.replace(config, checkpoint_every_minutes=1e-9)
    saved, save = [], train.Checkpoints.save

    def saving(self, step, *args):
        save(self, step, *args)
        saved.append(step)
        if step == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(train.Checkpoints, 'save', saving)
        with pytest.raises(KeyboardInterrupt):
            train.train(config, tmp_path, jax.local_devices()[:1])
    assert saved == [2, 3, 4]  # logged, validated, logged
    train.train(config, tmp_path, jax.local_devices()[:1])
    assert_as_undisturbed(tmp_path)


def test_the_clock_goes_by_the_time_that_all_hosts_agree_on(monkeypatch):
    times = iter([100.0, 101.0, 159.0, 160.0, 161.0, 300.0, 301.0])
    monkeypatch.setattr(train.time, 'monotonic', lambda: next(times))
    clock = train.Clock(1.0, lambda period: period)
    assert [clock.is_over() for _ in range(6)] == [False, False, True, False, True, False]
    monkeypatch.undo()
    periods = iter([0, 1, 1, 3])  # another process's
    clock = train.Clock(1e6, lambda period: next(periods))
    assert [clock.is_over() for _ in range(4)] == [False, True, False, True]
    assert not train.Clock(0, lambda period: period).is_over()


def test_two_epochs_and_their_validations_compile_each_step_once(config, tmp_path):
    compiled = []

    def listen(name, *_, fun_name='', **__):
        if name.endswith('backend_compile_duration') and fun_name == 'jit(_fun)':  # pmap's name for all it is given
            compiled.append(fun_name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        train.train(dataclasses.replace(config, epochs=2.0), tmp_path, jax.local_devices()[:1])
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    rows = [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()]
    assert [row['step'] for row in rows if 'validation/top1' in row] == [3, 6]
    assert len(compiled) == 2  # training's and validation's


def test_best_and_latest_are_kept(config, tmp_path, monkeypatch):
    top1 = iter([0.2, 0.9, 0.1, 0.3])
    monkeypatch.setattr(train.metrics, 'summarize', lambda *args: {'top1': next(top1)})
    train.train(dataclasses.replace(config, epochs=4.0), tmp_path, jax.local_devices()[:1])
    folder = tmp_path / 'checkpoints'
    assert sorted(p.name for p in folder.iterdir()) == ['12', '6']
    assert checkpoint.restore_model(folder, 'best')[0] == 6
    assert checkpoint.restore_model(folder, 'latest')[0] == 12
    assert checkpoint.restore_model(folder, '6')[0] == 6
    with pytest.raises(UserError, match="no checkpoint '7'; there are best, latest and 6, 12"):
        checkpoint.restore_model(folder, '7')


def test_another_configuration_in_the_same_folder_is_refused(config, one_device):
    other = dataclasses.replace(config, optim=OptimConfig(learning_rate=0.5, schedule='cosine'))
    with pytest.raises(ValueError, match=r'another configuration[\s\S]*optim.learning_rate: 0.01 -> 0.5'):
        train.train(other, one_device[0])


def test_a_work_directory_of_another_model_or_other_labels_is_refused(config, one_device, monkeypatch):
    tiny = ModelConfig(name='timesformer_tiny', width=8, depth=1, num_heads=2, patch_size=8)
    with pytest.raises(ValueError, match=r"another configuration[\s\S]*model.name: 'tsn_micro' -> 'timesformer_tiny'"):
        train.train(dataclasses.replace(config, model=tiny), one_device[0], jax.local_devices()[:1])
    opened = open_dataset(config.data.dir)
    renamed = dataclasses.replace(opened, labels=('sideways', *opened.labels[1:]))
    monkeypatch.setattr(setup, 'open_dataset', lambda folder: renamed)
    with pytest.raises(ValueError, match='they differ in: .*, sideways$'):
        train.train(config, one_device[0], jax.local_devices()[:1])


def test_a_gpus_attention_is_refused_in_training_here_and_replaced_elsewhere(config, tmp_path):
    model = ModelConfig(name='timesformer_tiny', attention_implementation='cudnn', dtype='bfloat16')
    wrong = dataclasses.replace(config, model=model)
    with pytest.raises(ValueError, match='attention_implementation=cudnn: needs a GPU, and this is a cpu'):
        train.train(wrong, tmp_path / 'run', jax.local_devices()[:1])
    assert build_model(wrong, 8).attention_implementation is None


def test_a_trace_shows_its_steps_and_changes_no_bit(config, one_device, tmp_path):
    train.train(dataclasses.replace(config, profile_steps=(2, 3)), tmp_path, jax.local_devices()[:1])
    _assert_same(_variables(tmp_path), _variables(one_device[0]))
    assert list((tmp_path / 'profile').rglob('*.xplane.pb'))
    assert train.train(config, tmp_path, jax.local_devices()[:1]) == {}  # the same run without it


@pytest.mark.parametrize(('first', 'traced'), [(1, [2, 3]), (3, [3]), (4, [])])
def test_what_is_traced(first, traced, tmp_path, monkeypatch):
    running = []
    monkeypatch.setattr(jax.profiler, 'start_trace', running.append)
    monkeypatch.setattr(jax.profiler, 'stop_trace', running.clear)
    profile, found = Profile(tmp_path, (2, 3)), []
    for step in range(first, 6):
        profile.before(step, ())
        found += [step] if running else []
    assert found == traced


def test_before_its_first_checkpoint_a_run_takes_other_settings(one_device, tmp_path):
    run = workdir.load(one_device[0])
    for seed in (5, run.config.seed):
        workdir.create(workdir.check(tmp_path, dataclasses.replace(run.config, seed=seed), run.labels, run.frames))
    assert workdir.load(tmp_path).config == run.config


def test_a_dataset_that_moved_continues_the_run(config, one_device, motion_folder, tmp_path):
    run = tmp_path / 'run'
    shutil.copytree(one_device[0], run)
    moved = shutil.copytree(motion_folder, tmp_path / 'moved')
    data = dataclasses.replace(config.data, dir=str(moved))
    assert train.train(dataclasses.replace(config, data=data), run, jax.local_devices()[:1]) == {}  # nothing was left
    assert workdir.load(run).config.data.dir == str(moved)


def test_test_frames_that_the_network_cannot_take_are_refused_at_once(config, tmp_path):
    model = ModelConfig(name='timesformer_tiny', width=8, depth=1, num_heads=2, patch_size=8)
    wrong = dataclasses.replace(config, model=model, sampling=SamplingConfig(num_segments=2, test_segments=3))
    with pytest.raises(ValueError, match='--config.sampling.test_segments=3: timesformer_tiny'):
        train.train(wrong, tmp_path / 'run', jax.local_devices()[:1])
    assert not (tmp_path / 'run').exists()
    with pytest.raises(ValueError, match='sync_batch_norm=true: timesformer_tiny has no BatchNorm'):
        build_model(dataclasses.replace(wrong, model=dataclasses.replace(model, sync_batch_norm=True)), 8)


def test_a_signal_while_the_log_is_written_is_not_called_saved(config, tmp_path, monkeypatch):
    original = train.Meter.flush

    def flush(self, keep=0):
        original(self, keep)
        if keep:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(train.Meter, 'flush', flush)
    with pytest.raises(Interrupted, match='SIGTERM after step 3 of 6: saved'):  # step 2's row is written in step 3
        train.train(dataclasses.replace(config, epochs=2.0), tmp_path, jax.local_devices()[:1])
    assert checkpoint.restore_model(tmp_path / 'checkpoints', 'latest')[0] == 3


def test_an_empty_validation_split_names_the_remedy(config, tmp_path):
    data = dataclasses.replace(config.data, validation_split='none')
    with pytest.raises(ValueError, match="no split 'none'.*--config.data.validation_split= trains without"):
        train.train(dataclasses.replace(config, data=data), tmp_path, jax.local_devices()[:1])


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(config, one_device, tmp_path):
    broken = dataclasses.replace(
        config,
        epochs=3.0,
        eval_every_epochs=3.0,
        optim=OptimConfig(learning_rate=1e20, milestones=(), schedule='multi_step'),
    )
    with pytest.raises(train.Diverged, match=r'not finite at steps? \d.*learning_rate'):
        train.train(broken, tmp_path, jax.local_devices()[:1])
    assert list((tmp_path / 'checkpoints').iterdir()) == []


def test_a_state_ruined_by_its_last_update_is_not_saved():
    state = train.TrainState(np.int32(1), {'w': np.array([1.0, np.nan])}, {}, (), {})
    with pytest.raises(train.Diverged, match='parameters are not finite after step 7'):
        train.check_finite(state, 7)
    train.check_finite(state.replace(params={'w': np.zeros(2)}), 7)


def test_a_model_that_cannot_be_built_leaves_no_work_directory(config, tmp_path):
    wrong = dataclasses.replace(config, model=ModelConfig(name='tsn_resnet5'))
    with pytest.raises(ValueError, match="unknown model 'tsn_resnet5'"):
        train.train(wrong, tmp_path / 'run', jax.local_devices()[:1])
    assert not (tmp_path / 'run').exists()


def test_an_empty_split_is_named(config, tmp_path):
    data = dataclasses.replace(config.data, train_split='trian')
    with pytest.raises(
        ValueError, match="train_split=trian: .* no split 'trian' .did you mean train.*; it has test, train, validation"
    ):
        train.train(dataclasses.replace(config, data=data), tmp_path)


@pytest.mark.parametrize(
    ('interval', 'last', 'due'),
    [(2, 5, [2, 4, 5]), (2.5, 6, [3, 5, 6]), (10, 3, [3]), (0.5, 3, [1, 2, 3])],
)
def test_is_due(interval, last, due):
    assert [step for step in range(1, last + 1) if train.is_due(step, interval, last)] == due


def test_evaluation_writes_its_protocol_and_scores(one_device):
    run = workdir.load(one_device[0])
    result = evaluate.evaluate(run, 'validation', 'latest', clips=2, crops=3, devices=jax.local_devices())
    (path,) = (run.folder / 'eval').glob('motion-validation-*-step3-2x3.json')
    assert json.loads(path.read_text()) == result
    assert result['num_videos'] == 8
    assert (result['clips'], result['crops'], result['checkpoint_step']) == (2, 3, 3)
    saved = np.load(path.with_suffix('.npz'))
    assert saved['logits'].shape == (8, 6, 8)
    # The batch changes no score.
    seven = dataclasses.replace(run.config, test=EvalConfig(batch_size=7))
    again = evaluate.evaluate(dataclasses.replace(run, config=seven), 'validation', 'latest', clips=2, crops=3)
    assert again == result
    # One centre view is what training's own validation measured.
    centre = evaluate.evaluate(run, 'validation', 'latest', clips=1, crops=1, devices=jax.local_devices()[:1])
    assert centre['top1'] == one_device[1]['top1']
    assert centre['loss'] == pytest.approx(one_device[1]['loss'], rel=1e-4)


def test_either_parameters_or_their_averages_are_evaluated(config, one_device, tmp_path):
    """Averages change no step: the parameters beside them are those of the run without."""
    averaged = dataclasses.replace(config, optim=dataclasses.replace(config.optim, ema_decay=0.9))
    train.train(averaged, tmp_path / 'ema', jax.local_devices()[:1])
    plain, run = workdir.load(one_device[0]), workdir.load(tmp_path / 'ema')
    expected, averages, parameters = (
        evaluate.evaluate(which, 'test', 'latest', ema=ema) for which, ema in ((plain, True), (run, True), (run, False))
    )
    assert parameters == expected
    assert averages['ema'] and averages['loss'] != expected['loss']
    digest = averages['dataset_digest']
    names = {path.name for path in (run.folder / 'eval').glob('*.json')}
    assert names == {f'motion-test-{digest}-step3-1x1.json', f'motion-test-{digest}-step3-1x1-noema.json'}


def test_evaluation_refuses_a_dataset_of_other_labels(one_device, motion_folder, tmp_path):
    run = workdir.load(one_device[0])
    other = dataclasses.replace(run, labels=('a', *run.labels[1:]))
    with pytest.raises(ValueError, match='they differ in: a, '):
        evaluate.evaluate(other)
