"""Settings: what is refused, and that a work directory keeps all of them."""

import dataclasses
import json

import pytest

from vidcls import config as config_lib
from vidcls.config import AugmentConfig, Config, EvalConfig, InitConfig, ModelConfig, OptimConfig, SamplingConfig
from vidcls.settings import Limits, setting


def test_saved_and_loaded_is_the_same(tmp_path):
    config = Config(
        model=ModelConfig(name='tsn_tiny', dropout=0.25),
        optim=OptimConfig(milestones=(1.5, 3.0)),
        augment=AugmentConfig(scales=(1.0, 0.5)),
    )
    config_lib.save(config, tmp_path / 'config.json')
    assert config_lib.load(tmp_path / 'config.json') == config


@pytest.mark.parametrize(('parts', 'batch_size', 'at_once'), [(16, 64, 4), (2, 32, 16), (1, 32, 0), (3, 10, 3)])
def test_an_earlier_run_has_its_parts_as_clips_at_once(tmp_path, parts, batch_size, at_once):
    path = tmp_path / 'config.json'
    path.write_text(json.dumps({'batch_size': batch_size, 'optim': {'accumulation': parts, 'learning_rate': 0.5}}))
    expected = OptimConfig(learning_rate=0.5, clips_per_device=at_once)
    assert config_lib.load(path) == Config(batch_size=batch_size, optim=expected)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('{"optim": {"accumulation": 0}, "batch_size": 8}', "unknown setting 'accumulation'"),
        ('{"epoch": 3}', r"unknown setting 'epoch' \(did you mean epochs\?\)"),
        ('{"optim": {"lr": 0.1}}', "unknown setting 'lr'"),
        ('{"batch_size": "8"}', 'batch_size=.8.: must be of type int'),
        ('{"optim": {"nesterov": 1}}', 'nesterov=1: must be of type bool'),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, text, message):
    (tmp_path / 'config.json').write_text(text)
    with pytest.raises(ValueError, match=message):
        config_lib.load(tmp_path / 'config.json')


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (Config(batch_size=0), 'batch_size=0: must be greater than 0'),
        (Config(augment=AugmentConfig(crop='fixed')), "crop='fixed': must be one of multi_scale, random"),
        (Config(sampling=SamplingConfig(view_offset='end')), "view_offset='end': must be one of centre, start"),
        (Config(augment=AugmentConfig(short_side=200)), 'short_side=200: must be at least the crop, 224'),
        (Config(augment=AugmentConfig(short_side_max=320)), 'scale jitter goes with'),
        (Config(augment=AugmentConfig(scales=(1.0, 1.2))), r'scales=\(1.0, 1.2\): must be at most 1'),
        (Config(augment=AugmentConfig(scales=(1.0, float('nan')))), 'scales=.*: must be finite'),
        (Config(optim=OptimConfig(label_smoothing=1.0)), 'label_smoothing'),
        (Config(optim=OptimConfig(milestones=('',))), 'milestones=.*must be numbers'),
        (Config(model=ModelConfig(dtype='float16')), 'model.dtype'),
        (Config(model=ModelConfig(dropout=1.0)), r'model.dropout=1.0: must be in \[0, 1\)'),
        (Config(augment=AugmentConfig(scales=())), 'scales=.*: must be one or more numbers'),
        (Config(augment=AugmentConfig(std=(1.0, 0.0, 1.0))), 'std=.*greater than 0'),
        (
            Config(augment=AugmentConfig(mean=(0.5, 0.5))),
            'mean=.*: must be one number, or 3, one for each channel of rgb',
        ),
        (
            Config(sampling=SamplingConfig(modality='flow'), augment=AugmentConfig(std=(0.5,) * 3)),
            'std=.*: must be one number, or 2, one for each channel of flow',
        ),
        (Config(sampling=SamplingConfig(modality='depth')), "modality='depth': must be one of rgb, flow, rgbdiff"),
        (Config(epochs=float('inf')), 'epochs=inf: must be finite'),
        (Config(init=InitConfig(freeze='(')), r"init.freeze='\(': must be a regular expression"),
        (Config(init=InitConfig(weights='w.npz', run='runs/a')), 'a run starts from one of them'),
        (Config(init=InitConfig(head_multiplier=0.0)), 'head_multiplier=0.0: must be greater than 0'),
        (
            Config(model=ModelConfig(attention_implementation='cudnn')),
            'cudnn: needs a GPU and --config.model.dtype=bfloat16',
        ),
        (Config(profile_steps=(5, 3)), r'profile_steps=\(5, 3\): must be the first and the last step'),
        (Config(profile_steps=(5,)), r'profile_steps=\(5,\): must be'),
        (Config(seed=-1), 'seed=-1: must be at least 0'),
        (Config(seed=2**32), 'seed=4294967296: must be at most 4294967295'),
        (Config(sampling=SamplingConfig(test_segments=-7)), 'test_segments=-7: must be at least 0'),
    ],
)
def test_values_that_cannot_work_are_refused_by_name(config, message):
    with pytest.raises(ValueError, match=message):
        config_lib.validate(config)


def test_every_default_is_allowed():
    config_lib.validate(Config())


def test_limits_stand_beside_the_defaults():
    fields = {field.name: field for field in dataclasses.fields(EvalConfig)}
    assert fields['crops'].default == 1 and fields['crops'].metadata['limits'] == Limits(choices=(1, 3, 10))
    with pytest.raises(TypeError, match='atleast'):
        setting(1, atleast=0)


def test_every_setting_reaches_the_flags():
    flat = config_lib.flatten(Config())
    assert flat['optim.momentum'] == 0.9
    assert len(flat) == sum(
        len(dataclasses.fields(part)) if dataclasses.is_dataclass(part) else 1 for part in vars(Config()).values()
    )


@pytest.mark.parametrize(
    ('modality', 'given', 'mean', 'shape'),
    [
        ('rgb', (), (0.485, 0.456, 0.406), (15, 224, 224, 3)),
        ('flow', (), (128 / 255, 128 / 255), (15, 224, 224, 2)),
        ('flow', (0.5,), (0.5, 0.5), (15, 224, 224, 2)),
        ('rgbdiff', (), (0.0, 0.0, 0.0), (15, 224, 224, 3)),
        ('rgbdiff', (0.1, 0.2, 0.3), (0.1, 0.2, 0.3), (15, 224, 224, 3)),
    ],
)
def test_channels_follow_the_modality(modality, given, mean, shape):
    sampling = SamplingConfig(modality=modality, num_segments=3, test_segments=7, seg_len=5)
    config = Config(sampling=sampling, augment=AugmentConfig(mean=given))
    config_lib.validate(config)
    assert config.channels.mean == mean and len(config.channels.std) == len(mean)
    assert config.video_shape() == shape and config.video_shape(training=False) == (35, *shape[1:])
