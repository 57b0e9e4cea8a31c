"""Exported folders of all formats: what they give, run by label.py in processes without vidcls, and what is left of failures."""

import dataclasses
import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from tests.export import small_runs
from tests.made_videos import scenery, write_video
from vidcls.errors import UserError
from vidcls.export import folder, formats
from vidcls.export.network import Network
from vidcls.predict import Classifier
from vidcls.run import workdir
from vidcls.runtimes import description
from vidcls.stream import Stream

# Family and format, and the settings of its test; TFLite and ONNX take one crop.
EXPORTS = {
    'timesformer-stablehlo': {},
    'tsn-onnx': {'clips': 2, 'average': 'logits'},
}
SLOW_EXPORTS = {
    'tsn-stablehlo': {},
    'tsn-savedmodel': {},
    'tsn-tflite': {'crops': 1},
    'eco-stablehlo': {},
    'eco-savedmodel': {},
    'eco-tflite': {'crops': 1},
    'timesformer-savedmodel': {'crops': 3, 'clips': 2},
    'timesformer-tflite': {'crops': 1},
    'timesformer-onnx': {'clips': 2, 'average': 'logits'},
}
WITHOUT_US = """
import runpy, sys
sys.argv = ['label.py', {video!r}]
found = runpy.run_path('label.py', run_name='__main__')
ours = [name for name in sys.modules if name.split('.')[0] in ('vidcls', 'flax')]
assert not ours, ours
found['np'].save({result!r}, found['run'](found['read']({video!r})[None]))
"""


@pytest.fixture(
    scope='module', params=[*EXPORTS, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW_EXPORTS)]
)
def exported(request, tmp_path_factory):
    """(format, the run, the exported folder)."""
    family, format = request.param.split('-')
    place = tmp_path_factory.mktemp(request.param)
    run = small_runs.make(place / 'run', family, **(EXPORTS | SLOW_EXPORTS)[request.param])
    folder.export(run, format, place / 'out', batch=3)
    return format, run, place / 'out'


@pytest.fixture(scope='module')
def video(tmp_path_factory):
    """30 frames of 64 x 80: no larger than the runs store them."""
    return write_video(tmp_path_factory.mktemp('video') / 'moving.mp4', scenery(30, (64, 80)))


def test_the_classifier_is_the_same(exported, video):
    format, run, out = exported
    ours, theirs = Classifier.load(run.folder), Classifier.load(out)
    # Frames of the crop's size are rounded to whole grey levels.
    limit = 1e-5 if format in ('stablehlo', 'savedmodel') else 5e-3
    right = ours.probabilities(video)
    assert np.ptp(right) > 0.05  # not all alike, so that an error would show
    np.testing.assert_allclose(theirs.probabilities(video), right, atol=limit)
    assert [label for label, _ in theirs.classify(video)] == [label for label, _ in ours.classify(video)]


def test_label_runs_without_us(exported, video, tmp_path):
    _, run, out = exported
    code = WITHOUT_US.format(video=str(video), result=str(tmp_path / 'probabilities.npy'))
    environment = {'PATH': os.environ['PATH'], 'HOME': str(tmp_path), 'JAX_PLATFORMS': 'cpu'}
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=out, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    classifier = Classifier.load(run.folder)
    right = classifier.probabilities(video)
    found = np.load(tmp_path / 'probabilities.npy')
    assert found.dtype == np.float32 and found.shape == (1, 5)
    np.testing.assert_allclose(found[0], right, atol=0.03)  # without the JPEG's loss
    assert done.stdout.splitlines()[1].split('%')[1].strip() == classifier.classify(video)[0][0]


@pytest.mark.slow
def test_any_number_of_clips(exported):
    format, run, out = exported
    network = Network(folder.for_others(run.config), _variables(run), 5)
    whole = format in ('stablehlo', 'savedmodel')
    program = Classifier.load(out)._exported
    for clips in (1, 2, 4):
        frames = folder._made(clips, network.frames, *((70, 50) if whole else (32, 32)))
        limit = 1e-5 if whole else 5e-5
        np.testing.assert_allclose(program(frames), folder.expected(network, frames, whole), atol=limit)


def _variables(run):
    from vidcls.run import checkpoint

    return checkpoint.restore_model(run.checkpoints, 'best')[1]


@pytest.mark.slow
def test_what_a_format_cannot_express_leaves_nothing(tmp_path):
    """tf2onnx 1.17 does not know an operation that TFLite has for ECO's pools."""
    eco = small_runs.make(tmp_path / 'run', 'eco', crops=1)
    with pytest.raises(UserError, match='onnx can not express this network: .*; take another format'):
        folder.export(eco, 'onnx', tmp_path / 'out')
    assert [path.name for path in tmp_path.iterdir()] == ['run']


def test_what_stands_beside(exported):
    _, run, out = exported
    described = description.read(out)
    again = workdir.load(out)
    assert (again.labels, again.frames) == (run.labels, run.frames)
    assert again.config.sampling == run.config.sampling and again.config.test == run.config.test
    assert described.checkpoint['step'] == 7
    part = run.checkpoints / '7' / 'model'
    command = 'find * -type f | LC_ALL=C sort | xargs sha256sum | sha256sum'
    shell = subprocess.run(command, shell=True, cwd=part, capture_output=True, text=True, check=True)
    assert described.checkpoint['sha256'] == shell.stdout.split()[0]
    for name, digest in described.files.items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest
    readme = (out / 'README.md').read_text()
    assert described.checkpoint['sha256'] in readme and 'label.py' in readme
    assert str(run.folder) not in ''.join(path.read_text(errors='replace') for path in out.iterdir() if path.is_file())
    assert not list(out.parent.glob('.partial*'))


def test_streams_and_settings_name_the_work_directory(exported):
    _, _, out = exported
    classifier = Classifier.load(out)
    with pytest.raises(UserError, match='work directory of the run'):
        Stream(classifier)
    with pytest.raises(UserError, match='fixed when it was exported'):
        Classifier.load(out, clips=3)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    return small_runs.make(tmp_path_factory.mktemp('wrong') / 'run', 'tsn', clips=1)


def test_a_wrong_file_is_not_kept(run, tmp_path, monkeypatch):
    """A converter that loses the deviation of the pixels is found out."""
    chosen = formats.FORMATS['stablehlo']

    def wrong(network, batch, path):
        augment = dataclasses.replace(network.config.augment, std=(0.23, 0.224, 0.225))
        chosen.write(
            dataclasses.replace(network, config=dataclasses.replace(network.config, augment=augment)), batch, path
        )

    monkeypatch.setitem(formats.FORMATS, 'stablehlo', chosen._replace(write=wrong))
    with pytest.raises(UserError, match='where 1e-05 is accepted'):
        folder.export(run, 'stablehlo', tmp_path / 'out')
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_not_replaced(run, tmp_path):
    (tmp_path / 'out').mkdir()
    with pytest.raises(UserError, match='is there already'):
        folder.export(run, 'stablehlo', tmp_path / 'out')


def test_what_a_format_can_not_express_is_said_first(run, tmp_path):
    three = dataclasses.replace(
        run, config=dataclasses.replace(run.config, test=dataclasses.replace(run.config.test, crops=3))
    )
    with pytest.raises(UserError, match='--crops=1'):
        folder.export(three, 'tflite', tmp_path / 'out')
    assert list(tmp_path.iterdir()) == []


def test_a_missing_library_is_one_line(run, tmp_path, monkeypatch):
    monkeypatch.setitem(formats.FORMATS, 'onnx', formats.FORMATS['onnx']._replace(needs=('not_installed',)))
    with pytest.raises(UserError, match=r"onnx needs not_installed: pip install 'vidcls\[export\]'"):
        folder.export(run, 'onnx', tmp_path / 'out')
