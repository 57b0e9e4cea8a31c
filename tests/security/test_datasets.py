"""Hostile datasets: refused with a reason, or indexed anew, and none of them runs anything or reads elsewhere."""

import io
import json
import os
import shutil
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.security.confined import attack, check_refused
from vidcls.data import dataset as dataset_lib
from vidcls.data import frame_index

TRAIN = 'motion-train.tfrecord-00000-of-00001'


@pytest.fixture
def folder(motion_folder, tmp_path) -> Path:
    return shutil.copytree(motion_folder, tmp_path / 'motion' / '1.0.0')


def open_and_read(folder: Path) -> None:
    data = dataset_lib.open_dataset(folder)
    reader = data.reader()
    for clip in range(len(data.index)):
        reader.check(clip, [0, data.index.num_frames(clip) - 1])


def open_from_above(folder: Path) -> None:
    os.chdir(folder.parent.parent)
    sys.path.insert(0, '')  # as `python -m` has it
    dataset_lib.open_dataset(folder)


def edit(path: Path, change) -> None:
    """Reads JSON, lets `change` edit it in place or return another value, and writes it."""
    value = json.loads(path.read_text())
    changed = change(value)
    path.write_text(json.dumps(value if changed is None else changed))


def features(change):
    return lambda folder: edit(folder / 'features.json', lambda tree: change(tree, tree['featuresDict']['features']))


def info(change):
    return lambda folder: edit(folder / 'dataset_info.json', lambda tree: change(tree, tree['splits'][1]))


def metadata(**values):
    return lambda folder: edit(folder / 'metadata.json', lambda tree: tree.update(values))


def written(name: str, text: str, times: int = 1, end: str = ''):
    return lambda folder: (folder / name).write_text(text * times + end)


def replaced(name: str, make):
    def change(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return change


@pytest.mark.parametrize('key', ['pythonClassName', 'type'])
@pytest.mark.parametrize('where', ['top', 'label', 'within video'])
def test_a_module_that_the_dataset_brings_along_is_not_run(folder, where, key):
    evil = folder.parent / 'evil.py'
    evil.write_text(f'open({str(folder / "ran")!r}, "w").close()\nclass X: pass\n')

    def change(tree, parts):
        node = {'top': tree, 'label': parts['label'], 'within video': parts['video']['sequence']['feature']}[where]
        node[key] = 'motion.evil.X'
        node['content'] = {}

    features(change)(folder)
    outcome = attack(open_from_above, folder)
    check_refused(outcome)
    assert 'features.json: the class' in outcome.message
    assert not (folder / 'ran').exists()


ATTACKS = {
    'an unknown feature': (features(lambda tree, parts: parts.update(more=parts['id'])), 'features.json: an example must'),
    'features of another order': (
        features(lambda tree, parts: parts.update(fps=parts['label'], label=parts['fps'])), 'features.json: label must',
    ),
    '10^9 classes': (
        features(lambda tree, parts: parts['label'].update(classLabel={'numClasses': '1000000000'})),
        "states '1000000000' classes, and label.labels.txt has 8",
    ),
    'no number of classes': (features(lambda tree, parts: parts['label'].update(classLabel=[])), 'features.json: None'),
    'nested features': (written('features.json', '{"a":', 50_000), 'features.json: is nested'),
    'broken features': (written('features.json', '{"featuresDict": '), 'features.json: is no JSON'),
    'features as a list': (written('features.json', '[]'), 'features.json: must be a JSON object'),
    'large features': (written('features.json', ' ', 5 << 20), 'features.json: has more than 4,194,304 bytes'),
    'features that are a pipe': (replaced('features.json', os.mkfifo), 'features.json: must be a file'),
    'no features at all': (features(lambda tree, parts: tree.pop('featuresDict') and None), 'features.json: an example'),
    'shards above': (info(lambda tree, split: split.update(filepathTemplate='../{SPLIT}')), "'../{SPLIT}' must name files"),
    'absolute shards': (info(lambda tree, split: split.update(filepathTemplate='/etc/passwd')), 'must name files in the'),
    'a template of 4 GB': (
        info(lambda tree, split: split.update(filepathTemplate='{SPLIT:>4000000000}')), 'must name files in the folder',
    ),
    'a long template': (info(lambda tree, split: split.update(filepathTemplate='{SPLIT}' * 9000)), 'is no text of a file'),
    'one name for all shards': (
        info(lambda tree, split: split.update(filepathTemplate='x', shardLengths=['12', '12'])), 'several shards have one',
    ),
    'a dataset named ..': (info(lambda tree, split: tree.update(name='../motion')), "the name '../motion' must be"),
    'a split named /': (info(lambda tree, split: split.update(name='/')), "the split name '/' must be"),
    '3 M shards': (info(lambda tree, split: split.update(shardLengths=[1] * 1_500_000)), 'more than 4,194,304 bytes'),
    '1 M shards': (info(lambda tree, split: split.update(shardLengths=[1] * 1_000_000)), 'the limits are 100,000 and'),
    'a negative number of clips': (info(lambda tree, split: split.update(shardLengths=['-24'])), "'-24' must be a number"),
    'a clip more than there are': (info(lambda tree, split: split.update(shardLengths=['25'])), 'has 24 clips, and dataset'),
    'a number of 5,000 digits': (
        lambda folder: written(
            'dataset_info.json', (folder / 'dataset_info.json').read_text().replace('"24"', '1' * 5000)
        )(folder),
        'dataset_info.json: is no JSON',
    ),
    'splits as a number': (info(lambda tree, split: tree.update(splits=3)), 'splits must be a list'),
    'no splits': (info(lambda tree, split: tree.update(splits=[])), 'the dataset has no clips'),
    'another format': (info(lambda tree, split: tree.update(fileFormat='array_record')), 'only tfrecord is read'),
    'infinity': (written('dataset_info.json', '{"name": Infinity}'), 'Infinity is not a number'),
    'no UTF-8': (lambda folder: (folder / 'dataset_info.json').write_bytes(b'{"name": "\xff"}'), 'is no UTF-8 text'),
    'a shard that is a pipe': (replaced(TRAIN, os.mkfifo), f'{TRAIN}: must be a file'),
    'a shard that is a device': (replaced(TRAIN, lambda path: path.symlink_to('/dev/zero')), f'{TRAIN}: must be a file'),
    'a shard that is a folder': (replaced(TRAIN, Path.mkdir), f'{TRAIN}: must be a file'),
    'a shard that lies elsewhere': (
        replaced(TRAIN, lambda path: path.symlink_to('/etc/passwd')), 'is a link to /etc/passwd, outside its folder',
    ),
    'labels that lie elsewhere': (
        replaced('label.labels.txt', lambda path: path.symlink_to('/etc/passwd')), 'outside its folder',
    ),
    'labels without end': (replaced('label.labels.txt', lambda path: path.symlink_to('/dev/zero')), 'must be a file'),
    'labels that are a pipe': (replaced('label.labels.txt', os.mkfifo), 'must be a file'),
    'a label that moves the cursor': (written('label.labels.txt', 'up\x1b[2J\n' * 8), 'line 1'),
    'a label of one blank': (written('label.labels.txt', 'up\n \ndown\n'), "line 2: the class name ' ' is not one printable line"),
    'a label twice': (written('label.labels.txt', 'up\ndown\nup\n'), "has the label 'up' twice"),
    '10^6 labels': (written('label.labels.txt', 'x\n', 10**6), 'has 1,000,000 labels; the limit'),
    '10^7 empty labels': (written('label.labels.txt', '\n', 20 << 20), 'label.labels.txt: has more than'),
    'a short side of 0': (metadata(short_side=0), 'short_side=0: must be from 16 to 4320'),
    'a short side of 10^9': (metadata(short_side=10**9), 'short_side=1000000000: must be from 16 to 4320'),
    'a short side below the frames': (metadata(short_side=16), 'has frames whose short side is 32 pixels, over 16'),
    '10^9 frames a second': (metadata(fps=1e9), 'fps=1000000000.0: must be more than 0'),
    'a split of nothing': (metadata(splits={'train': 'train+none'}), "the split 'train' names 'none'"),
    'a sum that is none': (metadata(splits={'train': 3}), 'splits must be an object'),
}  # fmt: skip


@pytest.mark.parametrize('name', ATTACKS)
def test_a_hostile_description_is_refused(folder, name):
    change, message = ATTACKS[name]
    change(folder)
    (folder / frame_index.FILENAME).unlink()
    outcome = attack(dataset_lib.open_dataset, folder)
    check_refused(outcome)
    assert message in outcome.message


def record(size: int, payload: bytes = b'') -> bytes:
    return struct.pack('<QI', size, 0) + payload + bytes(4)


def example(label: int = 0, frame: bytes = b'', fps: tuple[float, ...] = (25.0,), name: bytes = b'x') -> bytes:
    import tensorflow as tf

    values = {
        'video': tf.train.Feature(bytes_list=tf.train.BytesList(value=[frame])),
        'label': tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
        'id': tf.train.Feature(bytes_list=tf.train.BytesList(value=[name])),
        'fps': tf.train.Feature(float_list=tf.train.FloatList(value=fps)),
    }
    data = tf.train.Example(features=tf.train.Features(feature=values)).SerializeToString()
    return record(len(data), data)


def jpeg(size: int = 32) -> bytes:
    import simplejpeg

    return simplejpeg.encode_jpeg(np.zeros((size, size, 3), np.uint8))


SHARDS = {
    'a record of 2^63 bytes': (lambda: record(2**63), 'cut off in the record at byte 12'),
    'a record of 2^64 - 1 bytes': (lambda: record(2**64 - 1), 'cut off in the record at byte 12'),
    'no record': (lambda: b'\xff' * 7, 'cut off in the record'),
    'no example': (lambda: record(9, b'\xff' * 9), 'an example that cannot be parsed'),
    'a label of 2^40': (lambda: example(2**40, jpeg()), 'has the label 1099511627776'),
    'a frame that is no JPEG': (lambda: example(frame=b'GIF89a'), 'is not as data_prep writes it'),
    'an empty frame': (lambda: example(frame=b''), 'is not as data_prep writes it'),
    'a frame of 5,000 pixels': (lambda: example(frame=jpeg(5000)), 'short side is 5000 pixels, over 256'),
    'no rate': (lambda: example(frame=jpeg(), fps=()), 'must be one value each'),
    'a rate that is no number': (lambda: example(frame=jpeg(), fps=(float('nan'),)), 'fps must be numbers greater'),
    'an id that is no text': (lambda: example(frame=jpeg(), name=b'\xff'), 'is not as data_prep writes it'),
}


@pytest.mark.parametrize('name', SHARDS)
def test_a_hostile_shard_is_refused(folder, name):
    content, message = SHARDS[name]
    (folder / frame_index.FILENAME).unlink()
    (folder / TRAIN).write_bytes(content())
    edit(folder / 'dataset_info.json', lambda tree: tree['splits'][1].update(shardLengths=['1']))
    outcome = attack(dataset_lib.open_dataset, folder)
    check_refused(outcome)
    assert message in outcome.message


def test_a_record_over_2_gib_is_refused(folder):
    (folder / frame_index.FILENAME).unlink()
    with open(folder / TRAIN, 'wb') as file:
        file.write(record(3 << 30))
        file.truncate(4 << 30)
    outcome = attack(dataset_lib.open_dataset, folder)
    check_refused(outcome)
    assert 'has 3,221,225,472 bytes' in outcome.message


def changed(**values):
    """Saves the index with other arrays: a value, or a function of the old one."""

    def change(folder: Path) -> None:
        index = vars(frame_index.FrameIndex.load(folder))
        new = {name: value(index[name].copy()) if callable(value) else value for name, value in values.items()}
        np.savez(folder / frame_index.FILENAME, **(index | new))

    return change


def put(position: int, value):
    def change(array: np.ndarray) -> np.ndarray:
        array[position] = value
        return array

    return change


def bomb(folder: Path) -> None:
    np.savez_compressed(folder / frame_index.FILENAME, **(vars(frame_index.FrameIndex.load(folder))))


def header(shape: tuple[int, ...]):
    """Replaces an array's header by one of a shape that the file does not hold."""

    def change(folder: Path) -> None:
        path = folder / frame_index.FILENAME
        with zipfile.ZipFile(path) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
        buffer = io.BytesIO()
        np.lib.format.write_array_header_1_0(buffer, {'descr': '<i8', 'fortran_order': False, 'shape': shape})
        files['offset.npy'] = buffer.getvalue()
        with zipfile.ZipFile(path, 'w') as archive:
            for name, data in files.items():
                archive.writestr(name, data)

    return change


INDICES = {
    'shard -1': changed(shard=lambda shard: shard - shard - 1),
    'a shard beyond the last': changed(shard=put(3, 3)),
    'clips of another shard': changed(shard=lambda shard: shard * 0),
    'labels too few': changed(labels=lambda labels: labels[:-1]),
    'labels as text': changed(labels=lambda labels: labels.astype(str)),
    'labels as objects': changed(labels=lambda labels: labels.astype(object)),
    'wide labels': changed(labels=lambda labels: labels.astype(np.int64)),
    'frames of 10^9 pixels': changed(height=put(0, 10**9)),
    'frames of 60,000 pixels': changed(height=put(0, 60_000), width=put(0, 60_000)),
    'frames of -1 pixels': changed(width=put(0, -1)),
    'a rate that is no number': changed(fps=put(2, np.nan)),
    'a rate without end': changed(fps=put(2, np.inf)),
    'a rate of -5': changed(fps=put(2, -5)),
    'a negative offset': changed(offset=put(0, -1)),
    'an offset beyond the file': changed(offset=put(0, 2**40)),
    'an offset at the end of numbers': changed(offset=put(0, 2**63 - 1)),
    'a negative length': changed(length=put(0, -1)),
    'a length of nothing': changed(length=put(0, 0)),
    'a length beyond the file': changed(length=put(0, 2**31 - 1)),
    'clips that go back': changed(first=put(3, 0)),
    'clips that end late': changed(first=put(-1, 10**9)),
    'clips that begin late': changed(first=put(0, 1)),
    'an array that is packed': bomb,
    'an array of 8 TB': header((10**12,)),
    'an array of negative length': header((-1,)),
    'an array of a long shape': header((2**62,) * 20),
    'an array missing': lambda folder: np.savez(folder / frame_index.FILENAME, shard=np.zeros(3, np.int32)),
    'an array more': changed(more=np.zeros(3)),
    'no zip file': lambda folder: (folder / frame_index.FILENAME).write_bytes(b'PK\3\4' * 9),
    'larger than its shards': lambda folder: os.truncate(folder / frame_index.FILENAME, 10 << 30),
    'a pipe': replaced(frame_index.FILENAME, os.mkfifo),
    'a device': replaced(frame_index.FILENAME, lambda path: path.symlink_to('/dev/zero')),
    'a link to elsewhere': replaced(frame_index.FILENAME, lambda path: path.symlink_to('/etc/passwd')),
    'absolute shards': changed(shards=lambda shards: np.array(['/etc/passwd', *shards[1:]])),
}


@pytest.mark.parametrize('name', INDICES)
def test_a_hostile_index_is_made_anew(folder, motion_dataset, name):
    INDICES[name](folder)
    outcome = attack(open_and_read, folder)
    assert outcome.error == '' and outcome.status == 0, outcome
    assert outcome.seconds < 5 and outcome.peak_bytes < 2 << 30
    again = frame_index.FrameIndex.load(folder)
    for field, array in vars(motion_dataset.index).items():
        np.testing.assert_array_equal(getattr(again, field), array)


def test_a_folder_that_is_a_link_and_links_within_it_are_read(folder, tmp_path):
    (folder / TRAIN).rename(folder / 'moved')
    (folder / TRAIN).symlink_to('moved')
    (tmp_path / 'link').symlink_to(folder)
    assert len(dataset_lib.open_dataset(tmp_path / 'link').index) == 40
