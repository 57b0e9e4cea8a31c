"""Evaluating as one likes: other views than the run's, any batch, results side by side, and what is said of a broken network."""

import dataclasses
import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from data_prep import motion
from experiments import testing_flags
from experiments.evaluate import table
from tests import own_lines
from vidcls import evaluate, train
from vidcls.config import Config, EvalConfig, ModelConfig, SamplingConfig, for_testing
from vidcls.data.dataset import open_dataset
from vidcls.data.sampling import largest_divisor, views_at_once
from vidcls.distributed.devices import pmap, replicate
from vidcls.errors import UserError
from vidcls.models.configured import build_model, check_frames, make_predict_step
from vidcls.run import checkpoint, resource_errors, results, workdir


@pytest.fixture(scope='module')
def run(config, tmp_path_factory):
    """Trained on 2 segments, tested on 7."""
    folder = tmp_path_factory.mktemp('runs') / 'seven'
    sampling = SamplingConfig(num_segments=2, test_segments=7)
    train.train(dataclasses.replace(config, sampling=sampling, epochs=0.5), folder, jax.local_devices()[:1])
    return workdir.load(folder)


def _one(run, **settings):
    return evaluate.evaluate(run, checkpoint_name='latest', devices=jax.local_devices()[:1], **settings)


@pytest.mark.slow
def test_the_papers_25_segments_and_10_crops_are_one_command(run):
    done = _script('evaluate', run.folder, '--checkpoint=latest', '--crops=10', '--config.sampling.test_segments=25')
    assert done.returncode == 0, done.stderr
    (path,) = (run.folder / 'eval').glob('motion-test-*-1x10-test_segments=25.json')
    result = json.loads(path.read_text())
    assert (result['frames_per_clip'], result['clips'], result['crops']) == (25, 1, 10)
    assert np.load(path.with_suffix('.npz'))['logits'].shape == (8, 10, 8)
    # Standard output is the table, and nothing stands on standard error but lines of ours.
    assert done.stdout == table(result) + '\n'
    assert own_lines.foreign(done.stderr) == []


@pytest.mark.slow
def test_training_writes_lines_of_ours_on_standard_error_and_nothing_else(motion_folder, tmp_path):
    done = _script(
        'tsn_motion', tmp_path, f'--config.data.dir={motion_folder}', '--config.model.name=tsn_micro', '--config.batch_size=8',
        '--config.model.width=4', '--config.sampling.num_segments=2', '--config.augment.short_side=32',
        '--config.augment.crop_size=24', '--config.epochs=0.4', '--config.optim.schedule=cosine',
    )  # fmt: skip
    assert (done.returncode, done.stdout, own_lines.foreign(done.stderr)) == (0, '', [])
    assert 'step 1/1 validation: loss' in done.stderr


def _script(name, folder, *arguments):
    """An experiment as a user runs it: without the suite's own environment for TensorFlow."""
    plain = {key: value for key, value in os.environ.items() if not key.startswith('TF_')}
    command = [sys.executable, '-m', f'experiments.{name}', f'--workdir={folder}', *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=plain)


@pytest.mark.parametrize('level', ['', 'no'])
def test_libraries_speak_with_debug_alone(level):
    code = (
        'import logging, warnings\nfrom absl import logging as ours\nfrom experiments import launch\n'
        "def work(argv):\n  warnings.warn('a'); logging.getLogger('jax').warning('b'); ours.error('c')\n"
        "launch.run(work, '')"
    )
    command = [sys.executable, '-c', code, f'--{level}debug']
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    lines = [line for line in done.stderr.splitlines() if line[-1] in 'ab']
    assert len(lines) == (0 if level else 2), done.stderr


def test_a_setting_that_belongs_to_the_run_is_refused_with_those_that_may_be_given(run, monkeypatch):
    for argument in ('--config.model.width=8', '--config.sampling.num_segments=3'):
        monkeypatch.setattr(sys, 'argv', ['evaluate', argument])
        with pytest.raises(SystemExit, match=rf'{argument.split("=")[0]}: .*may be given: .*test_segments'):
            testing_flags.define()
    with pytest.raises(UserError, match='config.seed: the run has its own; these may be given: --config.test.clips'):
        _one(run, settings={'seed': 1})
    with pytest.raises(UserError, match='test.crops=5: must be one of 1, 3, 10'):
        _one(run, settings={'test.crops': 5})
    with pytest.raises(UserError, match='test_short_side=20: must be at least the crop, 24'):
        _one(run, settings={'augment.test_short_side': 20})


def test_settings_are_in_protocol_and_name(run):
    settings = {'augment.test_short_side': 28, 'test.average': 'logits', 'test.clips': 2, 'test.batch_size': 3}
    result = _one(run, settings=settings)
    found = tuple(result[name] for name in ('short_side', 'average', 'clips', 'crops'))
    assert found == (28, 'logits', 2, 1)
    name = f'motion-test-{result["dataset_digest"]}-step2-2x1-average=logits-test_short_side=28.json'
    assert json.loads((run.folder / 'eval' / name).read_text()) == result


def test_neither_batch_nor_devices_change_a_logit(run):
    dataset = open_dataset(run.config.data.dir)
    variables = checkpoint.restore_model(run.checkpoints, 'latest')[1]
    found = []
    # All at once; two moments of ten crops each on three devices, the last batch not full; five of ten crops at a time.
    for batch_size, num_devices in ((0, 1), (20, 3), (6, 2)):
        config = for_testing(run.config, {'test.batch_size': batch_size})
        devices = jax.local_devices()[:num_devices]
        step = pmap(make_predict_step(build_model(config, 8), config), devices)
        found.append(
            evaluate.predict_split(step, replicate(variables, devices), dataset, config, 'test', 2, 10, devices)
        )
    assert found[0].logits.shape == (8, 20, 8)
    assert found[0].ids.tolist() == dataset.index.ids[dataset.clips('test')].tolist()
    for other in found[1:]:
        assert other.ids.tolist() == found[0].ids.tolist()
        np.testing.assert_allclose(other.logits, found[0].logits, atol=1e-6)


def test_by_default_a_device_holds_as_many_pixels_whatever_the_network():
    for segments, size, views in ((25, 224, 2), (3, 224, 21), (8, 224, 8), (96, 224, 1), (16, 448, 1), (7, 112, 36)):
        config = Config(sampling=SamplingConfig(num_segments=segments))
        config.augment.crop_size = size
        assert views_at_once(config) == views
    assert views_at_once(Config(test=EvalConfig(batch_size=3))) == 3
    assert [largest_divisor(10, limit) for limit in (0, 1, 3, 5, 9, 99)] == [1, 1, 2, 5, 5, 10]


@pytest.mark.parametrize(
    ('name', 'segments', 'taken', 'refused', 'message'),
    [
        ('tsn_tiny', 2, (1, 25), (), ''),
        ('eco_tiny', 4, (8, 16), (6,), '6 segments: ECO halves their number twice and needs a multiple of 4'),
        ('timesformer_tiny', 4, (), (8,), 'made for t, h, w'),
    ],
)
def test_other_numbers_of_segments_are_taken_or_refused_in_words(name, segments, taken, refused, message):
    config = Config(model=ModelConfig(name=name), sampling=SamplingConfig(num_segments=segments))
    config.augment.crop_size = config.augment.short_side = 32
    model = build_model(config, 8)
    video = jax.ShapeDtypeStruct((1, segments, 32, 32, 3), np.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), video)
    for number in (*taken, *refused):
        other = for_testing(config, {'sampling.test_segments': number})
        if number in taken:
            check_frames(other, build_model(other, 8), variables)
            continue
        with pytest.raises(UserError, match=rf'test_segments={number}: {name} as trained .*num_segments.*{message}'):
            check_frames(other, build_model(other, 8), variables)


def test_no_result_is_overwritten_but_by_the_same_evaluation(run, tmp_path):
    def results():
        return {path.name: path.read_text() for path in (run.folder / 'eval').glob('motion-test-*-3x1*.json')}

    _one(run, clips=3)
    first = results()
    _one(run, clips=3)
    assert results() == first
    # Another dataset of the same name and labels.
    other = motion.make(tmp_path, motion.Look(clips_per_class=5, size=32, frames=9))
    _one(run, clips=3, data_dir=str(other))
    # A run whose own way of averaging was changed since: no setting was given that could be in the name.
    changed = dataclasses.replace(run, config=dataclasses.replace(run.config, test=EvalConfig(average='logits')))
    _one(changed, clips=3)
    last = results()
    assert len(last) == 3 and last.items() > first.items()
    (name,) = first
    assert f'{name.removesuffix(".json")}-2.json' in last


def test_accuracy_of_each_class_and_the_documented_file(run):
    result = _one(run, clips=2, crops=3)
    by_class = result['class_accuracy']
    assert sorted(by_class) == sorted(run.labels)
    assert sum(hits for hits, _ in by_class.values()) == round(8 * result['top1'])
    assert sum(clips for _, clips in by_class.values()) == 8
    lines = table(result).splitlines()
    hits, clips = by_class['left']
    assert f'{"left":22} {100 * hits / clips:.2f} %, {hits} of {clips}' in lines
    many = result | {'class_accuracy': {f'class{n}': [1, 2] for n in range(21)}}
    assert not any(line.startswith('class') for line in table(many).splitlines())
    # The example of the docstring, run: the ids of the videos that it gets wrong.
    (path,) = (run.folder / 'eval').glob('motion-test-*-2x3.npz')
    example = results.__doc__.split("by the mean of their views' logits:\n")[1]
    lines = ['import numpy as np', f'path = {str(path)!r}', *(line.strip() for line in example.splitlines())]
    done = subprocess.run([sys.executable, '-c', '\n'.join(lines)], capture_output=True, text=True, check=True)
    saved = np.load(path)
    assert {name: saved[name].dtype for name in ('labels', 'logits')} == {'labels': np.int32, 'logits': np.float32}
    wrong = saved['ids'][saved['logits'].mean(axis=1).argmax(axis=-1) != saved['labels']]
    assert done.stdout == f'{wrong}\n'


def test_a_network_that_is_broken_says_so(run, monkeypatch, caplog):
    def broken(variables, clips):
        return np.full((1, clips.canvas.shape[1], 8), np.nan, np.float32)

    monkeypatch.setattr(evaluate, 'pmap', lambda *args: broken)
    result = _one(run, settings={'sampling.test_segments': 3})
    assert '8 of 8 clips have logits that are not finite' in caplog.text
    assert (result['top1'], result['loss']) == (0, None)
    assert f'{"loss":22} not finite' in table(result)


def test_too_little_memory_names_what_takes_less(run, monkeypatch):
    def full(*args):
        raise jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory allocating 98765 bytes.')

    monkeypatch.setattr(evaluate, 'predict_split', full)
    with pytest.raises(
        resource_errors.OutOfMemory, match=r'98765 bytes.*test.batch_size \(now 8 views at once; it changes no'
    ):
        _one(run)
    with pytest.raises(resource_errors.OutOfMemory, match=r'Lower --config.sampling.test_segments \(now 7') as found:
        _one(run, settings={'test.batch_size': 1})
    assert 'batch_size' not in str(found.value)
