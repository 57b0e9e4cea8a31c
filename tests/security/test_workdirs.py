"""Hostile work directories: refused with a reason, in time and memory, and nothing read beside them."""

import json
import os
import re
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.security.confined import attack, check_refused
from vidcls.data.frame_storage import FrameStorage
from vidcls.errors import UserError
from vidcls.models.configured import build_model
from vidcls.predict import Classifier
from vidcls.run import checkpoint, lock, workdir


@pytest.fixture(scope='module')
def whole(config, tmp_path_factory) -> Path:
    """A work directory as training leaves it."""
    folder = tmp_path_factory.mktemp('whole') / 'run'
    run = workdir.check(folder, config, tuple('abcdefgh'), FrameStorage(256, None))
    workdir.create(run)
    model = build_model(config, 8)
    variables = jax.device_get(model.init(jax.random.key(0), np.zeros((1, 2, 24, 24, 3), np.float32), train=False))
    checkpoints = checkpoint.Checkpoints(run.checkpoints)
    checkpoints.save(3, variables, {'count': np.int32(3)})
    checkpoints.add_scores(3, {'top1': 0.5})
    checkpoints.close()
    return folder


@pytest.fixture
def folder(whole, tmp_path) -> Path:
    return shutil.copytree(whole, tmp_path / 'run')


def load(folder: Path) -> None:
    Classifier.load(folder)


def restore(folder: Path) -> None:
    checkpoint.restore_model(folder / 'checkpoints', 'best')


def settings(part: str = '', **values):
    def change(folder: Path) -> None:
        config = json.loads((folder / 'config.json').read_text())
        (config[part] if part else config).update(values)
        (folder / 'config.json').write_text(json.dumps(config))

    return change


def text(name: str, content: str, times: int = 1):
    return lambda folder: (folder / name).write_text(content * times)


def replaced(name: str, make):
    def change(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return change


def linked(name: str, target: str):
    return replaced(name, lambda path: path.symlink_to(target))


def grown(name: str, size: int):
    return lambda folder: os.truncate(folder / name, size)


FILES = {
    '10^9 segments': (settings('sampling', num_segments=10**9), 'config.json: --config.sampling.num_segments=1000000000'),
    '10^9 test segments': (settings('sampling', test_segments=10**9), '--config.sampling.test_segments=1000000000: must be'),
    '4,096 segments of 4,096 frames': (
        settings('sampling', num_segments=4096, seg_len=4096), '9,663,676,416 pixels of a video; the limit is 1,073,741,824',
    ),
    '10^9 views': (settings('test', clips=10**9), '--config.test.clips=1000000000: must be at most 4096'),
    '4,096 views of 2 frames in 10 crops': (settings('test', clips=4096, crops=10, batch_size=8), ''),
    '7 crops': (settings('test', crops=7), '--config.test.crops=7: must be one of 1, 3, 10'),
    'a rate of -5': (settings('sampling', sampling_rate=-5), '--config.sampling.sampling_rate=-5: must be greater than 0'),
    'a learning rate of -5': (settings('optim', learning_rate=-5), 'learning_rate=-5.0: must be greater than 0'),
    'a crop of 10^6 pixels': (
        settings('augment', crop_size=10**6, short_side=10**6), '--config.augment.short_side=1000000: must be at most 4320',
    ),
    'a batch of 10^12': (settings('test', batch_size=10**12), 'test.batch_size=1000000000000: must be at most'),
    'a network of 10^9 channels': (settings('model', width=10**9), 'model.width=1000000000: must be at most'),
    'a number of 400 digits': (settings('optim', learning_rate=10**400), 'must be of type float'),
    'an integer of 400 digits': (settings(seed=10**400), 'seed=1000000'),
    '10^5 milestones': (settings('optim', milestones=[1.0] * 10**5), 'milestones=.*: is too long'),
    'milestones of lists': (settings('optim', milestones=[[1.0]]), 'milestones=.*: must be numbers'),
    'milestones as a number': (settings('optim', milestones=3), 'milestones=3: must be of type tuple'),
    'a part that is a list': (settings(model=[]), 'model=.*: must be an object'),
    'a long pattern': (settings('init', freeze='(a+)+' * 1000), 'init.freeze=.*: '),
    'slow classes in a pattern': (settings('init', freeze='(?i)' + '[\x01-\U0010ffff]' * 195), 'at most 200 characters'),
    'a setting that is none': (settings(code='import os'), "unknown setting 'code'"),
    'not a number': (text('config.json', '{"epochs": NaN}'), 'config.json: is no JSON: NaN is not a number'),
    'a list': (text('config.json', '[]'), 'config.json: must be a JSON object'),
    'nested settings': (text('config.json', '[', 10**5), 'config.json: is nested too deeply'),
    'settings of 1 GB': (grown('config.json', 1 << 30), 'config.json: has more than 1,048,576 bytes'),
    'settings that are a device': (linked('config.json', '/dev/zero'), 'config.json: must be a file'),
    'settings that lie elsewhere': (linked('config.json', '/etc/passwd'), 'outside its folder'),
    '10^9 frames a second': (
        text('frames.json', '{"short_side": 256, "fps": 1e9}'), 'fps=1000000000.0: must be more than 0 and at most 1000',
    ),
    '-5 frames a second': (text('frames.json', '{"short_side": 256, "fps": -5}'), 'fps=-5: must be more than 0'),
    'a short side of 0': (text('frames.json', '{"short_side": 0, "fps": null}'), 'short_side=0: must be from 16 to 4320'),
    'a short side of -5': (text('frames.json', '{"short_side": -5, "fps": null}'), 'short_side=-5: must be from 16'),
    'a short side of text': (text('frames.json', '{"short_side": "9", "fps": null}'), "short_side='9': must be from 16"),
    'frames and more': (text('frames.json', '{"short_side": 9, "fps": null, "x": 1}'), 'must have short_side and fps and'),
    'frames that are a pipe': (replaced('frames.json', os.mkfifo), 'frames.json: must be a file'),
    'labels without end': (linked('labels.txt', '/dev/zero'), 'labels.txt: must be a file'),
    'labels that are a pipe': (replaced('labels.txt', os.mkfifo), 'labels.txt: must be a file'),
    'labels that lie elsewhere': (linked('labels.txt', '/etc/passwd'), 'is a link to /etc/passwd, outside its folder'),
    'labels of 8 GB': (grown('labels.txt', 8 << 30), 'labels.txt: has more than 16,777,216 bytes'),
    'a label that writes the title': (text('labels.txt', 'a\x1b]0;x\x07\n'), r"line 1: the class name 'a\\x1b\]0;x\\x07' is not one printable"),
    'no label': (text('labels.txt', ''), "labels.txt, line 1: the class name '' is not one printable line"),
    'a label twice': (text('labels.txt', 'a\n', 2), "has the label 'a' twice"),
}  # fmt: skip


@pytest.mark.parametrize('name', FILES)
def test_a_hostile_file_is_refused(folder, name):
    change, message = FILES[name]
    change(folder)
    outcome = attack(workdir.load, folder)
    if not message:  # much, and within the limits
        assert outcome.error == '' and outcome.seconds < 5, outcome
        return
    check_refused(outcome)
    assert str(folder) in outcome.message
    assert re.search(message, outcome.message)


@pytest.mark.parametrize('pattern', ['(a+)+$', '(.*)*x', '(?:.|.)' * 28 + '$', '.*' * 60 + 'x'])
def test_a_slow_pattern_is_never_matched(folder, pattern):
    settings('init', freeze=pattern)(folder)
    outcome = attack(load, folder)
    assert outcome.error == '' and outcome.seconds < 30, outcome


def metadata(old: str, new: str):
    path = 'checkpoints/3/model/_METADATA'

    def change(folder: Path) -> None:
        before = (folder / path).read_text()
        assert old in before
        (folder / path).write_text(before.replace(old, new))

    return change


def array(**values):
    """Lets the checkpoint state another shape, or chunks, of one of its arrays."""

    def change(folder: Path) -> None:
        import tensorstore

        store = tensorstore.KvStore.open({'driver': 'ocdbt', 'base': f'file://{folder}/checkpoints/3/model/'}).result()
        name = next(key for key in store.list().result() if key.endswith(b'kernel/.zarray'))
        store.write(name, json.dumps(json.loads(store.read(name).result().value) | values)).result()

    return change


MODEL = 'checkpoints/3/model'
CHECKPOINTS = {
    'a broken manifest': (text(f'{MODEL}/manifest.ocdbt', 'http://127.0.0.1:1/x'), 'cannot be restored'),
    'an empty manifest': (text(f'{MODEL}/manifest.ocdbt', ''), 'cannot be restored'),
    'no manifest': (lambda folder: (folder / MODEL / 'manifest.ocdbt').unlink(), 'cannot be restored'),
    'no numbers': (lambda folder: shutil.rmtree(folder / MODEL / 'd'), 'cannot be restored'),
    'no model': (lambda folder: shutil.rmtree(folder / MODEL), 'cannot be restored'),
    'broken names': (text(f'{MODEL}/_METADATA', '{'), '_METADATA: is no JSON'),
    'names as a list': (text(f'{MODEL}/_METADATA', '[]'), '_METADATA: must be a JSON object'),
    'nested names': (text(f'{MODEL}/_METADATA', '[', 10**5), '_METADATA: is nested too deeply'),
    'names without end': (linked(f'{MODEL}/_METADATA', '/dev/zero'), '_METADATA: must be a file or a folder'),
    'names that are a pipe': (replaced(f'{MODEL}/_METADATA', os.mkfifo), '_METADATA: must be a file or a folder'),
    'an absolute name': (metadata('"head"', '"/etc"'), "'/etc' is no name of a parameter"),
    'a name above': (metadata('"head"', '"../../../x"'), 'is no name of a parameter'),
    'a name of the net': (metadata('"head"', '"http://127.0.0.1/x"'), 'is no name of a parameter'),
    'files of arrays': (metadata('"use_ocdbt": true', '"use_ocdbt": false'), 'is not of the form that training saves'),
    'arrays of text': (metadata('np.ndarray', 'os.system'), 'cannot be restored'),
    'an array of 4 TB': (array(shape=[1 << 20, 1 << 20, 1, 1]), 'states arrays of 4,398,'),
    'a chunk of 4 TB': (array(chunks=[1 << 20, 1 << 20, 1, 1]), 'states chunks of arrays of 4,398,'),
    'a manifest that lies elsewhere': (linked(f'{MODEL}/manifest.ocdbt', '/etc/passwd'), 'must be a file or a folder'),
    'a broken score': (text('checkpoints/3/metrics/metrics', '['), 'cannot be restored'),
    'a score that is none': (text('checkpoints/3/metrics/metrics', '[3]'), 'cannot be restored'),
}


@pytest.mark.parametrize('name', CHECKPOINTS)
def test_a_hostile_checkpoint_is_refused(folder, name):
    change, message = CHECKPOINTS[name]
    change(folder)
    outcome = attack(restore, folder)
    check_refused(outcome)
    assert message in outcome.message
    assert str(folder) in outcome.message


def test_classes_that_a_checkpoint_names_are_not_used(folder):
    text('checkpoints/3/_CHECKPOINT_METADATA', '{"item_handlers": {"model": "os.system"}}')(folder)
    assert attack(restore, folder).error == ''


def test_a_folder_of_checkpoints_that_is_a_link_is_read(folder, tmp_path):
    (folder / 'checkpoints').rename(tmp_path / 'elsewhere')
    (folder / 'checkpoints').symlink_to(tmp_path / 'elsewhere')
    assert checkpoint.restore_model(folder / 'checkpoints', 'best')[0] == 3


@pytest.mark.parametrize('name', ['lock', '.partial-config.json', 'metrics.jsonl', 'history.jsonl', 'eval'])
def test_a_run_writes_through_no_link(tmp_path, name):
    victim = tmp_path / 'victim'
    victim.write_text('mine')
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / name).symlink_to(victim)
    with pytest.raises(UserError, match='is a link, a device or a pipe'), lock.held(tmp_path / 'run'):
        pass
    assert victim.read_text() == 'mine'
