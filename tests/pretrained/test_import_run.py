"""A work directory from weights: what it says, and that a video gets the logits of the network it came from."""

import hashlib
import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from tests.pretrained import published
from vidcls import models, pretrained
from vidcls.data.sampling import Sampler
from vidcls.errors import UserError
from vidcls.models.configured import build_model
from vidcls.predict import Classifier
from vidcls.pretrained import import_run
from vidcls.run import checkpoint, workdir


def labels(tmp_path, count=3):
    path = tmp_path / 'names.txt'
    path.write_text(''.join(f'class {i}\n' for i in range(count)))
    return path


def weights(tmp_path, name, layout, frames, **settings):
    """A file of small random weights, and the variables in it."""
    model = models.build(name, 3, **settings)
    start = published.variables(model, frames, 224, 224, 3)
    random = np.random.default_rng(0)
    drawn = lambda leaf: (0.1 * random.normal(size=leaf.shape) + (leaf.ndim == 1)).astype(np.float32)
    variables = jax.tree.map(drawn, start)
    path = tmp_path / 'weights.safetensors'
    pretrained.save(path, pretrained.export(variables, model, layout))
    return path, model, variables


def test_a_resnet_becomes_a_run(tmp_path, motion_folder):
    path, _, variables = weights(tmp_path, 'tsn_tiny', 'mmaction2', 1)
    command = [sys.executable, '-m', 'experiments.import_weights', f'--weights={path}', '--model=tsn_tiny',
               f'--labels={labels(tmp_path)}', f'--workdir={tmp_path / "run"}']  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    run = workdir.load(tmp_path / 'run')
    assert run.labels == ('class 0', 'class 1', 'class 2')
    assert (run.config.sampling.test_segments, run.config.test.crops) == (25, 10)
    assert run.config.augment.mean == (0.485, 0.456, 0.406)
    origin = json.loads((tmp_path / 'run' / 'weights.json').read_text())
    assert origin['layout'] == 'TSN of mmaction2' and len(origin['sha256']) == 64 and not origin['started']
    step, saved = checkpoint.restore_model(run.checkpoints, 'best')
    assert step == 0
    jax.tree.map(np.testing.assert_array_equal, saved['params'], variables['params'])
    video = next((motion_folder.parents[1] / 'motion_videos').rglob('*.mp4'))
    found = Classifier.load(tmp_path / 'run', clips=1, crops=1).classify(video)
    assert {label for label, _ in found} == set(run.labels)
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 1 and 'holds a run already' in again.stderr


@pytest.mark.parametrize('attention', ['divided', 'joint', 'space'])
def test_a_timesformers_sizes_are_read_from_its_arrays(tmp_path, attention):
    settings = {'attention': attention, 'num_frames': 4, 'image_size': 16}
    model = models.build('timesformer_tiny', 3, **settings)
    arrays = pretrained.export(published.variables(model, 4, 16, 16, 3), model, 'huggingface')
    pretrained.save(tmp_path / 'w.safetensors', arrays)
    run = import_run.import_run(tmp_path / 'w.safetensors', 'timesformer_tiny', labels(tmp_path), tmp_path / 'run')
    config = run.config
    assert config.model.attention == attention and config.augment.crop_size == 16
    assert config.sampling.num_segments == (8 if attention == 'space' else 4)
    assert (config.test.crops, config.test.average, config.augment.test_short_side) == (3, 'logits', 16)
    assert config.augment.mean == (0.45,) * 3
    build_model(config, 3)


@pytest.mark.parametrize(
    ('frames', 'channels', 'sampling', 'mean'),
    [(5, 2, ('flow', 5, 25), (0.5, 0.5)), (5, 3, ('rgbdiff', 5, 25), (0.0, 0.0, 0.0))],
)
def test_the_first_convolution_says_what_the_network_looks_at(tmp_path, frames, channels, sampling, mean):
    model = models.build('tsn_tiny', 3, seg_len=frames)
    start = published.variables(model, frames, 32, 32, channels)
    pretrained.save(tmp_path / 'w.safetensors', pretrained.export(start, model, 'tsn-pytorch'))
    run = import_run.import_run(tmp_path / 'w.safetensors', 'tsn_tiny', labels(tmp_path), tmp_path / 'run')
    config = workdir.load(tmp_path / 'run').config
    assert (config.sampling.modality, config.sampling.seg_len, config.sampling.test_segments) == sampling
    assert config.augment.mean == mean and run.config == config


@pytest.mark.parametrize('name, shape', [('time', (1, 100_000, 96)), ('position', (1, 1 + 500**2, 1))])
def test_embeddings_for_more_than_any_network_takes_are_refused(tmp_path, name, shape):
    model = models.build('timesformer_tiny', 3, num_frames=4, image_size=16)
    arrays = pretrained.export(published.variables(model, 4, 16, 16, 3), model, 'huggingface')
    arrays[f'timesformer.embeddings.{name}_embeddings'] = np.zeros(shape, np.float32)
    pretrained.save(tmp_path / 'w.safetensors', arrays)
    with pytest.raises(UserError, match='embeddings for .*: at most 512 and 1024 are taken'):
        import_run.import_run(tmp_path / 'w.safetensors', 'timesformer_tiny', labels(tmp_path), tmp_path / 'run')


# Bertasius et al.'s code starts at the beginning and sums logits, Hugging Face's weights are theirs, PaddleVideo's code is
# theirs; mmaction2's takes frames 32 apart from the middle and averages probabilities. 300 frames, 30 a second.
AUTHORS = ('linspace', 'start', 'logits', [0, 36, 72, 109, 145, 182, 218, 255])


@pytest.mark.parametrize(
    ('layout', 'expected'),
    [
        ('facebookresearch', AUTHORS),
        ('huggingface', AUTHORS),
        ('paddlevideo', AUTHORS),
        ('mmaction2', ('dense', 'centre', 'probabilities', [37, 69, 101, 133, 165, 197, 229, 261])),
    ],
)
def test_a_timesformers_view_is_its_authors(layout, expected):
    model = models.build('timesformer_tiny', 3, image_size=16)
    arrays = pretrained.export(published.variables(model, 8, 16, 16, 3), model, layout)
    config = import_run.configuration('timesformer_tiny', arrays, import_run.recognise(arrays))
    frames = Sampler(config.sampling, training=False).view(300, 30.0, 0, config.test.clips)
    found = (config.sampling.scheme, config.sampling.view_offset, config.test.average, frames.tolist())
    assert found == expected and config.test.crops == 3


@pytest.mark.parametrize(('frames', 'distance'), [(8, 32), (16, 16), (96, 4)])
def test_a_timesformers_frames_are_as_far_apart_as_published(frames, distance):
    model = models.build('timesformer_tiny', 3, image_size=16, num_frames=frames)
    arrays = pretrained.export(published.variables(model, frames, 16, 16, 3), model, 'facebookresearch')
    sampling = import_run.configuration('timesformer_tiny', arrays, import_run.recognise(arrays)).sampling
    assert (sampling.num_frames, sampling.sampling_rate, sampling.target_fps) == (frames, distance, 30)


@pytest.mark.parametrize(
    ('name', 'layout', 'views'),
    [
        ('tsn_tiny', 'mmaction2', (25, 10)),
        ('tsn_tiny', 'tsn-pytorch', (25, 10)),
        ('tsn_tiny', 'paddlevideo', (25, 10)),
        ('tsn_bninception', 'bn-inception', (25, 10)),
        ('eco_tiny', 'eco-pytorch', (16, 1)),
    ],
)
def test_tsn_and_eco_are_scored_by_the_mean_of_logits(name, layout, views):
    model = models.build(name, 3, width=4)
    arrays = pretrained.export(published.variables(model, 4, 32, 32, 3), model, layout)
    config = import_run.configuration(name, arrays, import_run.recognise(arrays))
    assert config.test.average == 'logits'
    assert (Sampler(config.sampling, training=False).num_frames, config.test.crops) == views


def test_an_address_and_the_sha256_are_kept(tmp_path, monkeypatch):
    """From a cache that was laid out; no network."""
    model = models.build('timesformer_tiny', 3, num_frames=4, image_size=16)
    address = 'https://example.invalid/timesformer.safetensors'
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    cache = tmp_path / 'vidcls' / 'weights'
    cache.mkdir(parents=True)
    path = cache / f'{hashlib.sha256(address.encode()).hexdigest()[:16]}-timesformer.safetensors'
    pretrained.save(path, pretrained.export(published.variables(model, 4, 16, 16, 3), model, 'huggingface'))
    import_run.import_run(address, 'timesformer_tiny', labels(tmp_path), tmp_path / 'run')
    origin = json.loads((tmp_path / 'run' / 'weights.json').read_text())
    assert origin['file'] == address and origin['sha256'] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_blue_first_networks_read_red_first_images(tmp_path):
    path, model, variables = weights(tmp_path, 'eco_tiny', 'eco-pytorch', 4, width=4)
    arrays = pretrained.read(path)
    converted = pretrained.convert(arrays, model, published.variables(model, 4, 224, 224, 3))
    kernel = converted.variables['params']['backbone']['conv1_7x7_s2']['kernel']
    flipped = converted.for_rgb()['params']['backbone']['conv1_7x7_s2']['kernel']
    np.testing.assert_array_equal(flipped, kernel[:, :, ::-1])
    np.testing.assert_array_equal(kernel, variables['params']['backbone']['conv1_7x7_s2']['kernel'])
    # (value - 104) of blue, in values to 255.
    inputs = converted.layout.inputs
    assert (0.5 - inputs.mean[2]) / inputs.std[2] == pytest.approx(127.5 - 104)


def test_labels_may_begin_with_a_mark_and_end_lines_with_two(tmp_path):
    path, _, _ = weights(tmp_path, 'tsn_tiny', 'mmaction2', 1)
    (tmp_path / 'names.txt').write_bytes('\ufeffa\r\n b\r\né\n\n'.encode())
    assert import_run.import_run(path, 'tsn_tiny', tmp_path / 'names.txt', tmp_path / 'run').labels == ('a', 'b', 'é')
    (tmp_path / 'names.txt').write_bytes('é\n'.encode('latin1'))
    with pytest.raises(ValueError, match='names.txt: is no UTF-8 text'):
        import_run.import_run(path, 'tsn_tiny', tmp_path / 'names.txt', tmp_path / 'another')


def test_labels_of_another_number_and_image_weights_are_refused(tmp_path):
    model = models.build('timesformer_tiny', 3, attention='space', image_size=16)
    arrays = pretrained.export(published.variables(model, 8, 16, 16, 3), model, 'huggingface')
    pretrained.save(tmp_path / 'w.safetensors', arrays)
    with pytest.raises(ValueError, match='no classifier of 4 classes.*3 classes there, 4 here'):
        import_run.import_run(tmp_path / 'w.safetensors', 'timesformer_tiny', labels(tmp_path, 4), tmp_path / 'run')
    alone = models.build('tsn_bninception', 3, width=16)
    names = pretrained.export(published.variables(alone, 1, 32, 32, 3), alone, 'cadene')
    pretrained.save(tmp_path / 'b.safetensors', {name: x for name, x in names.items() if 'linear' not in name})
    with pytest.raises(ValueError, match='no classifier of 3 classes|lacks'):
        import_run.import_run(tmp_path / 'b.safetensors', 'eco_tiny', labels(tmp_path), tmp_path / 'run')
    (tmp_path / 'twice.txt').write_text('a\na \n')
    with pytest.raises(ValueError, match='twice'):
        import_run.import_run(tmp_path / 'w.safetensors', 'timesformer_tiny', tmp_path / 'twice.txt', tmp_path / 'run')
    assert not (tmp_path / 'run').exists()
