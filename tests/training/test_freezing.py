"""What moves and what does not: gradients, statistics, optimizer, and a run that starts from a file."""

import dataclasses
import hashlib
import json
import re

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from data_prep import convert
from data_prep import folder as folder_source
from tests.pretrained import full_size_golden as golden
from vidcls import models, pretrained, train
from vidcls.config import (
    AugmentConfig,
    Config,
    DataConfig,
    EvalConfig,
    InitConfig,
    ModelConfig,
    OptimConfig,
    SamplingConfig,
)
from vidcls.data.dataset import open_dataset
from vidcls.data.frame_storage import FrameStorage
from vidcls.data.pipeline import Batch
from vidcls.data.transform import Views
from vidcls.distributed.devices import place, pmap, replicate, shard, unreplicate
from vidcls.models.configured import build_model
from vidcls.run import checkpoint, workdir
from vidcls.training import freezing
from vidcls.training.optimizer import make_optimizer
from vidcls.training.step import init_state, make_train_step

CONFIG = Config(
    model=ModelConfig(name='tsn_micro'),
    sampling=SamplingConfig(num_segments=2),
    augment=AugmentConfig(crop='random', short_side=32, crop_size=24, flip=False),
    optim=OptimConfig(learning_rate=0.1, momentum=0.9, weight_decay=0.01),
)


def small(**settings):
    return models.build('tsn_micro', 3, dropout=0.0, **settings)


def after_two_steps(init, model=None, **optim_settings):
    """Variables before and after, joined paths -> arrays."""
    config = dataclasses.replace(CONFIG, init=init, optim=dataclasses.replace(CONFIG.optim, **optim_settings))
    model = model or small()
    rate = optax.constant_schedule(config.optim.learning_rate)
    optimizer = make_optimizer(config.optim, rate, init)
    first = init_state(model, optimizer, config)
    # From scratch the last scale of a block is zero, and nothing in the block would move.
    params = flax.traverse_util.path_aware_map(lambda p, x: np.ones_like(x) if p[-1] == 'scale' else x, first.params)
    state = first = first.replace(params=params)
    devices = jax.local_devices()[:1]
    run = pmap(make_train_step(model, optimizer, rate, config), devices)
    random = np.random.default_rng(0)
    clips = Views(
        random.integers(0, 256, (4, 2, 24, 24, 3), dtype=np.uint8),
        np.tile(np.array([0, 0, 24, 24, 0], np.int32), (4, 1, 1)),
    )
    batch = Batch(clips, np.array([0, 1, 2, 0], np.int32), np.arange(4), np.ones(4, bool))
    state = replicate(state, devices)
    for _ in range(2):
        state, measured = run(state, place(shard(batch, 1), devices))
    flat = lambda state: {
        '/'.join(key): np.asarray(value)
        for tree in (state.params, state.batch_stats)
        for key, value in flax.traverse_util.flatten_dict(tree).items()
    }
    return flat(first), flat(unreplicate(state)), unreplicate(measured)


def moved(init, **settings):
    before, after, _ = after_two_steps(init, **settings)
    return {path for path in before if np.any(before[path] != after[path])}, set(before)


def test_without_settings_all_moves():
    changed, every = moved(InitConfig())
    assert changed == every


@pytest.mark.parametrize('name', ['sgd', 'adamw'])
def test_what_is_frozen_stays_with_its_statistics(name):
    changed, every = moved(InitConfig(freeze='backbone/layer1|backbone/conv1'), name=name)
    assert changed == {path for path in every if not re.search('layer1|backbone/conv1', path)}
    assert 'backbone/bn1/mean' in changed and 'backbone/layer1_0/bn1/mean' not in changed


@pytest.mark.parametrize('remat', [False, True])
def test_partial_bn_leaves_the_first_norm(remat):
    changed, every = moved(InitConfig(partial_bn=True), model=small(remat=remat))
    norms = {path for path in every if re.search(r'/(bn\d|downsample_1)/', path)}
    assert norms - changed == {path for path in norms if not path.startswith('backbone/bn1/')}
    assert every - norms <= changed


def test_norms_that_stay_use_their_running_statistics():
    """In training as at evaluation, where every norm stays and nothing is dropped."""
    model = small()
    video = jnp.asarray(np.random.default_rng(0).normal(size=(2, 1, 32, 32, 3)), jnp.float32)
    variables = jax.jit(model.init)(jax.random.key(0), video)

    @jax.jit
    def both(variables):
        with freezing.hold_statistics(InitConfig(freeze='backbone')):
            held, updated = model.apply(variables, video, True, mutable=['batch_stats'])
        with freezing.hold_statistics(InitConfig(partial_bn=True)):
            first_alone, partly = model.apply(variables, video, True, mutable=['batch_stats'])
        return held, updated, model.apply(variables, video), first_alone, partly

    held, updated, evaluated, first_alone, partly = both(variables)
    np.testing.assert_allclose(held, evaluated, rtol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, updated['batch_stats'], variables['batch_stats'])
    assert np.abs(first_alone - evaluated).max() > 1e-6
    changed = {
        path
        for path, leaf in flax.traverse_util.flatten_dict(partly['batch_stats'], sep='/').items()
        if np.any(leaf != flax.traverse_util.flatten_dict(variables['batch_stats'], sep='/')[path])
    }
    assert changed == {f'backbone/bn1/{name}' for name in ('mean', 'var')}


@pytest.mark.parametrize('name', ['tsn_bninception', 'eco_full'])
def test_the_first_norm_of_bn_inception(name):
    video = jnp.zeros((1, 4, 32, 32, 3))
    params = jax.eval_shape(lambda: models.build(name, 3, width=4).init(jax.random.key(0), video))['params']
    stay = flax.traverse_util.flatten_dict(freezing.frozen(InitConfig(partial_bn=True), params), sep='/')
    norms = {path.rpartition('/')[0] for path in stay if path.endswith('scale')}
    moving = {path.rpartition('/')[0] for path, stays in stay.items() if not stays}
    assert norms & moving == {'backbone/conv1_7x7_s2_bn'} and len(norms) > 60


def test_multipliers_by_hand():
    init = InitConfig(head_multiplier=10, bias_multiplier=2, first_multiplier=5)
    params = {
        'backbone': {
            'conv1_7x7_s2': {'kernel': 1.0, 'bias': 1.0}, 'conv': {'kernel': 1.0, 'bias': 1.0},
            'bn': {'scale': 1.0, 'bias': 1.0},
        },
        'head': {'kernel': 1.0, 'bias': 1.0},
    }  # fmt: skip
    params = jax.tree.map(jnp.float32, params)
    optimizer = make_optimizer(OptimConfig(momentum=0.9, weight_decay=0.0), lambda step: 0.5, init)
    state = optimizer.init(params)
    for momentum in (1.0, 1.9):
        updates, state = optimizer.update(jax.tree.map(jnp.ones_like, params), state, params)
        step = -0.5 * momentum
        expected = {
            'backbone': {
                'conv1_7x7_s2': {'kernel': 5 * step, 'bias': 10 * step}, 'conv': {'kernel': step, 'bias': 2 * step},
                'bn': {'scale': step, 'bias': step},
            },
            'head': {'kernel': 10 * step, 'bias': 20 * step},
        }  # fmt: skip
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), updates, expected)


def test_what_stays_has_no_part_in_the_clipped_norm():
    params = {'backbone': {'kernel': jnp.ones(4)}, 'head': {'kernel': jnp.ones(4)}}
    config = OptimConfig(momentum=0.0, weight_decay=0.0, clip_norm=1.0)
    optimizer = make_optimizer(config, lambda step: 1.0, InitConfig(freeze='^backbone'))
    grads = {'backbone': {'kernel': jnp.full(4, 100.0)}, 'head': {'kernel': jnp.full(4, 3.0)}}
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    np.testing.assert_allclose(updates['head']['kernel'], -0.5)
    assert not updates['backbone']['kernel'].any()


def test_no_gradient_goes_into_what_stays():
    params = {'backbone': {'kernel': jnp.ones(2), 'bias': jnp.ones(2)}, 'head': {'kernel': jnp.ones(2)}}
    total = lambda params: sum(
        leaf.sum() for leaf in jax.tree.leaves(freezing.hold(InitConfig(freeze='kernel'), params))
    )
    grads = flax.traverse_util.flatten_dict(jax.grad(total)(params), sep='/')
    assert {path for path, leaf in grads.items() if leaf.any()} == {'backbone/bias'}


@pytest.mark.parametrize(
    'init, batch_stats, message',
    [
        (InitConfig(freeze='bakbone'), {}, "freeze='bakbone' matches no parameter; they are head/kernel"),
        (InitConfig(freeze='.'), {}, 'leaves no parameter to train'),
        (InitConfig(partial_bn=True), {}, 'has no BatchNorm'),
    ],
)
def test_settings_that_do_not_fit_are_refused(init, batch_stats, message):
    with pytest.raises(ValueError, match=message):
        freezing.check(init, {'params': {'head': {'kernel': np.zeros(2)}}, 'batch_stats': batch_stats})


# ---- From a file


@pytest.fixture(scope='module')
def config(motion_folder):
    return dataclasses.replace(
        CONFIG,
        data=DataConfig(dir=str(motion_folder)),
        test=EvalConfig(batch_size=8),
        batch_size=8,
        epochs=1.0,
    )


@pytest.fixture(scope='module')
def weights(config, tmp_path_factory):
    """torchvision's names, a classifier of 5 classes; the motion dataset has 8."""
    model = build_model(config, 5)
    shapes = jax.eval_shape(lambda: {**model.init(jax.random.key(0), jnp.zeros((1, 2, 24, 24, 3)))})
    random = np.random.default_rng(0)
    drawn = lambda leaf: (0.1 * random.normal(size=leaf.shape) + (leaf.ndim == 1)).astype(np.float32)
    variables = jax.tree.map(drawn, shapes)
    path = tmp_path_factory.mktemp('weights') / 'resnet.safetensors'
    pretrained.save(path, pretrained.export(variables, model, 'torchvision'))
    return path, variables


def test_a_run_starts_from_the_file_and_what_is_frozen_stays(config, weights, tmp_path):
    path, published = weights
    config = dataclasses.replace(config, init=InitConfig(weights=str(path), freeze='^backbone', head_multiplier=2))
    train.train(config, tmp_path, jax.local_devices()[:1])
    variables = checkpoint.restore_model(tmp_path / 'checkpoints', 'latest')[1]
    for collection in ('params', 'batch_stats'):
        jax.tree.map(
            np.testing.assert_array_equal, variables[collection]['backbone'], published[collection]['backbone']
        )
    assert variables['params']['head']['kernel'].shape[-1] == 8
    origin = json.loads((tmp_path / 'weights.json').read_text())
    assert origin['file'] == str(path) and origin['layout'] == 'ResNet of torchvision or timm'
    assert origin['sha256'] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert set(origin['started']) == {'head/kernel', 'head/bias'} and not origin['unused']
    # The file isn't read again where there is a checkpoint to resume from.
    path.rename(path.with_suffix('.gone'))
    try:
        assert train.train(config, tmp_path, jax.local_devices()[:1]) == {}
    finally:
        path.with_suffix('.gone').rename(path)


def test_a_wrong_file_leaves_no_work_directory(config, weights, tmp_path):
    wrong = dataclasses.replace(
        config, init=InitConfig(weights=str(weights[0])), model=ModelConfig(name='tsn_micro', width=8)
    )
    with pytest.raises(ValueError, match='resnet.safetensors: recognised as ResNet of torchvision'):
        train.train(wrong, tmp_path / 'run', jax.local_devices()[:1])
    assert not (tmp_path / 'run').exists()
    allowed = dataclasses.replace(wrong.init, allow_missing='backbone/layer|backbone/conv1|backbone/bn1')
    with pytest.raises(ValueError, match='nothing of it has a place'):
        train.train(dataclasses.replace(wrong, init=allowed), tmp_path / 'run', jax.local_devices()[:1])


def test_a_run_begun_anew_from_nothing_keeps_no_origin(tmp_path):
    run = workdir.check(tmp_path, CONFIG, ('a',), FrameStorage(32, None))
    workdir.create(run)
    workdir.save_origin(run, {'file': 'w.npz'})
    assert json.loads((tmp_path / 'weights.json').read_text()) == {'file': 'w.npz'}
    workdir.save_origin(run, None)
    assert not (tmp_path / 'weights.json').exists()


# ---- On real clips


@pytest.fixture(scope='module')
def archery_and_others(shared_data, tmp_path_factory):
    """Three classes of UCF101, four clips each."""
    folder = tmp_path_factory.mktemp('real')
    for group in sorted((shared_data / 'ucf101').iterdir())[:3]:
        (folder / 'videos' / group.name).mkdir(parents=True)
        for file in sorted(group.glob('*.avi'))[:4]:
            (folder / 'videos' / group.name / file.name).symlink_to(file)
    source = folder_source.read(folder / 'videos', name='real')
    return convert.convert(source, folder, convert.Options(storage=FrameStorage(short_side=64), workers=1))


@pytest.mark.parametrize('init', [InitConfig(freeze='^backbone'), InitConfig(partial_bn=True)])
def test_published_names_on_real_clips(init, archery_and_others, tmp_path):
    """Three steps from a file of torchvision's names, with a classifier of 400 classes."""
    config = dataclasses.replace(
        CONFIG,
        model=ModelConfig(name='tsn_micro', width=8),
        data=DataConfig(dir=str(archery_and_others), validation_split=''),
        augment=AugmentConfig(short_side=64, crop_size=32),
        optim=OptimConfig(learning_rate=0.01),
        init=dataclasses.replace(init, weights=str(tmp_path / 'resnet.safetensors')),
        batch_size=2,
    )
    clips = len(open_dataset(archery_and_others).clips('train'))
    config = dataclasses.replace(config, epochs=3 * config.batch_size / clips)
    published = seeded_resnet(build_model(config, 400))
    pretrained.save(config.init.weights, published)
    train.train(config, tmp_path / 'run', jax.local_devices()[:1])

    variables = checkpoint.restore_model(tmp_path / 'run' / 'checkpoints', 'latest')[1]
    trained = pretrained.export(variables, build_model(config, 3), 'torchvision')
    assert trained['fc.weight'].shape == (3, 32) and set(trained) == set(published)
    stayed = {name for name, array in trained.items() if np.array_equal(array, published[name])}
    if init.partial_bn:
        norms = {name for name in trained if re.search(r'(^|\.)bn\d|downsample\.1', name)}
        assert stayed == norms - {f'bn1.{leaf}' for leaf in ('weight', 'bias', 'running_mean', 'running_var')}
    else:
        assert stayed == set(trained) - {'fc.weight', 'fc.bias'}
        assert np.abs(trained['fc.bias']).max() > 0


def seeded_resnet(model):
    shapes = jax.eval_shape(lambda: {**model.init(jax.random.key(0), jnp.zeros((1, 1, 32, 32, 3)))})
    names = pretrained.export(jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes), model, 'torchvision')
    return {name: golden.drawn(name, array.shape) for name, array in names.items()}
