"""The examples of docs/extending.md, run as they stand there, on a small dataset."""

import re
import runpy
from pathlib import Path

import jax
import numpy as np
import pytest

from data_prep.convert import Options, convert
from tests.made_videos import scenery, write_video
from vidcls import models, train
from vidcls.config import AugmentConfig, ModelConfig, OptimConfig
from vidcls.data import sampling
from vidcls.data.dataset import open_dataset
from vidcls.training import optimizer

PAGE = Path(__file__).resolve().parents[1] / 'docs' / 'extending.md'
EXAMPLES = dict(re.findall(r'```python\n# (\w+)\.py.*?\n(.*?)```', PAGE.read_text(), flags=re.DOTALL))


@pytest.fixture
def load(tmp_path):
    """What an example defines, by its name; its script does not run."""

    def run(name: str) -> dict:
        path = tmp_path / f'{name}.py'
        path.write_text(EXAMPLES[name])
        return runpy.run_path(str(path), run_name=name)

    return run


@pytest.mark.parametrize('name', EXAMPLES)
def test_an_example_is_short(name):
    assert len(EXAMPLES[name].splitlines()) < 40


def test_a_network(load, config, tmp_path, monkeypatch):
    monkeypatch.setattr(models, 'MODELS', dict(models.MODELS))
    ours = load('my_network')['config']()
    ours.data, ours.augment, ours.test = config.data, AugmentConfig(short_side=32, crop_size=24), config.test
    scores = train.train(ours, tmp_path, jax.local_devices()[:1])
    assert 0 <= scores['top1'] <= 1
    variables = models.build('mean_colours', 3).init(jax.random.key(0), np.zeros((1, 2, 8, 8, 3)))
    assert variables['params']['hidden']['kernel'].shape == (3, 32)


def test_a_dataset(load, tmp_path):
    for number, name in enumerate(['a_run', 'c_run', 'c_sit', 'b_sit', 'd_sit']):
        write_video(tmp_path / 'videos' / f'{name}.mp4', scenery(2 + number))
    source = load('my_dataset')['read'](tmp_path / 'videos')
    dataset = open_dataset(convert(source, tmp_path / 'out', Options(workers=1)))
    assert dataset.labels == ('run', 'sit')
    assert {split: len(dataset.clips(split)) for split in ('train', 'test')} == {'train': 3, 'test': 2}


def test_a_sampler(load, config, monkeypatch):
    monkeypatch.setattr(sampling, 'SCHEMES', dict(sampling.SCHEMES))
    load('my_sampler')
    settings = type(config.sampling)(scheme='first', num_segments=3, test_segments=5)
    sampler = sampling.Sampler(settings, training=True)
    assert sampler.draw(2, 25.0, np.random.default_rng(0)).tolist() == [0, 1, 1]
    assert sampling.Sampler(settings, training=False).view(9, 25.0).tolist() == [0, 1, 2, 3, 4]


def test_a_schedule(load, config, monkeypatch):
    monkeypatch.setattr(optimizer, 'SCHEDULES', dict(optimizer.SCHEDULES))
    load('my_schedule')
    settings = OptimConfig(learning_rate=0.2, schedule='restarts', warmup_epochs=0.4)
    rate = optimizer.make_schedule(settings, steps_per_epoch=10, num_steps=44)
    found = [float(rate(step)) for step in (0, 3, 4, 9, 14, 19, 24, 34, 43)]
    assert found == pytest.approx([0.05, 0.2, 0.2, 0.1, 0.2, 0.1, 0.2, 0.2, 0.2 * (1 + np.cos(0.9 * np.pi)) / 2])


def test_a_loss(load, config, tmp_path, monkeypatch):
    example = load('my_loss')
    logits, targets = np.log([[0.5, 0.25, 0.25]]), np.array([[1.0, 0.0, 0.0]])
    np.testing.assert_allclose(example['focal'](logits, targets), [-0.25 * np.log(0.5)], rtol=1e-6)
    small = lambda: type(config)(
        model=ModelConfig(name='tsn_micro'), data=config.data, sampling=config.sampling, augment=config.augment,
        test=config.test, batch_size=8, epochs=0.4,
    )  # fmt: skip
    monkeypatch.setattr(example['tsn_folder'], 'config', small)
    assert 0 <= example['run'](config.data.dir, str(tmp_path))['top1'] <= 1
