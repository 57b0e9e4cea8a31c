"""What is found on disk, and the frame index against TFDS's own reading."""

import concurrent.futures
import contextlib
import dataclasses
import json
import os
import resource
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from vidcls.data import dataset as dataset_lib
from vidcls.data import description, frame_index, frame_reader
from vidcls.data.dataset import open_dataset
from vidcls.errors import UserError


@pytest.fixture
def copied(motion_folder, tmp_path):
    return shutil.copytree(motion_folder, tmp_path / 'motion' / '1.0.0')


def test_the_index_finds_the_frames_that_tfds_reads(motion_folder, motion_dataset):
    builder = tfds.builder_from_directory(motion_folder)
    reader, index = motion_dataset.reader(), motion_dataset.index
    numbers = {clip_id: number for number, clip_id in enumerate(index.ids.tolist())}
    seen = set()
    for split in builder.info.splits:
        for example in tfds.as_numpy(builder.as_dataset(split=split, decoders={'video': tfds.decode.SkipDecoding()})):
            clip = numbers[example['id'].decode()]
            frames = list(example['video'])
            assert reader.read(clip, range(len(frames))) == frames
            assert reader.read(clip, [7, 0, 0]) == [frames[7], frames[0], frames[0]]
            assert index.num_frames(clip) == len(frames) == 8
            assert index.labels[clip] == example['label']
            assert index.fps[clip] == example['fps']
            seen.add(clip)
    assert seen == set(range(len(index))) == set(range(40))
    assert (index.height == 32).all()
    assert (index.width == 32).all()


def test_splits_are_sums_of_parts(motion_dataset):
    train, validation, test = (set(motion_dataset.clips(name)) for name in ('train', 'validation', 'test'))
    assert len(train) + len(validation) + len(test) == 40
    assert not train & validation
    assert not train & test
    assert set(motion_dataset.clips('train+validation')) == train | validation
    labels = motion_dataset.index.labels[sorted(test)]
    assert sorted(set(labels)) == list(range(8))  # every class in every split


def test_an_unknown_split_names_those_there_are(motion_dataset):
    with pytest.raises(ValueError, match="no split 'val'; it has test, train, validation"):
        motion_dataset.clips('val')


def test_an_empty_split_is_named(motion_dataset):
    none = dataclasses.replace(motion_dataset, splits=motion_dataset.splits | {'none': np.array([], np.int64)})
    with pytest.raises(ValueError, match="split 'none' of motion 1.0.0 in .* is empty"):
        none.clips('none')


@pytest.mark.parametrize('label', [-1, 8])
def test_a_label_out_of_range_is_named(copied, label):
    index = frame_index.FrameIndex.load(copied)
    index.labels[5] = label
    index.save(copied)
    message = f'1 of 40 clips have a label that is not one of the 8, 0 to 7: {index.ids[5]} has {label}; convert'
    with pytest.raises(ValueError, match=message):
        open_dataset(copied)


def test_a_dataset_is_found_at_any_of_its_levels(copied):
    for path in (copied, copied.parent, copied.parent.parent):
        assert dataset_lib.find_folder(path) == copied


def test_no_dataset_and_several_datasets_are_errors(copied):
    with pytest.raises(UserError, match='no dataset'):
        dataset_lib.find_folder(copied.parent.parent / 'nothing')
    other = shutil.copytree(copied, copied.parent.parent / 'other' / '1.0.0')
    with pytest.raises(UserError, match=f'several datasets, name one of {copied}, {other}'):
        dataset_lib.find_folder(copied.parent.parent)


def test_a_missing_shard_is_named(copied):
    shard = next(copied.glob('*.tfrecord*'))
    shard.unlink()
    with pytest.raises(UserError, match=shard.name):
        open_dataset(copied)


def test_a_missing_or_stale_index_is_made_again(copied, motion_dataset):
    (copied / frame_index.FILENAME).unlink()
    again = open_dataset(copied)
    assert (copied / frame_index.FILENAME).exists()
    stale = frame_index.FrameIndex.load(copied)
    np.savez(copied / frame_index.FILENAME, **(vars(stale) | {'shard_bytes': stale.shard_bytes + 1}))
    for found in (again, open_dataset(copied)):
        for name, array in vars(motion_dataset.index).items():
            np.testing.assert_array_equal(getattr(found.index, name), array)


def test_a_cut_off_shard_is_named(tmp_path):
    path = tmp_path / 'cut'
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(b'x' * 100)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ValueError, match='cut off in the record at byte 12'):
        frame_index.build(tmp_path, ['cut'])


def test_a_foreign_record_is_named(tmp_path):
    with tf.io.TFRecordWriter(str(tmp_path / 'foreign')) as writer:
        writer.write(tf.train.Example().SerializeToString())
    with pytest.raises(ValueError, match="foreign: an example without .*'video'"):
        frame_index.build(tmp_path, ['foreign'])


def test_a_damaged_index_is_made_again(motion_folder, motion_dataset, tmp_path):
    folder = shutil.copytree(motion_folder, tmp_path / 'copy')
    file = folder / frame_index.FILENAME
    whole = file.read_bytes()
    for damaged in (b'', whole[: len(whole) // 2], b'not a zip file'):
        file.write_bytes(damaged)
        assert open_dataset(folder).index.ids.tolist() == motion_dataset.index.ids.tolist()
        assert file.stat().st_size == len(whole)


@pytest.mark.parametrize(
    'template',
    ['', '{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}', '{SPLIT}_{SHARD_INDEX}.{FILEFORMAT}', 'x.{SHARD_X_OF_Y}'],
)
def test_the_description_is_what_tfds_reads(motion_folder, tmp_path, template):
    info = tfds.builder_from_directory(motion_folder).info
    splits = [
        tfds.core.SplitInfo(
            name=name,
            shard_lengths=[3] * shards,
            num_bytes=7,
            filename_template=tfds.core.ShardedFileTemplate(
                dataset_name='motion',
                data_dir=tmp_path,
                split=name,
                filetype_suffix='tfrecord',
                template=template and f'{name}{template}',
            ),
        )
        for name, shards in (('train', 12), ('a-2.part', 1), ('none', 0))
    ]
    info.set_splits(tfds.core.splits.SplitDict(splits))
    info.write_to_directory(tmp_path)
    theirs = tfds.builder_from_directory(tmp_path).info
    ours = description.read_parts(tmp_path)[2]
    assert {part: list(shards) for part, shards in ours.items()} == {
        name: split.filenames for name, split in theirs.splits.items() if split.num_examples
    }
    assert [list(shards.values()) for shards in ours.values()] == [[3] * 12, [3]]


def test_a_dataset_of_tfds_own_has_its_labels_and_storage(motion_folder):
    theirs, ours = tfds.builder_from_directory(motion_folder).info, description.read(motion_folder)
    assert (ours.name, ours.version) == (theirs.name, str(theirs.version)) == ('motion', '1.0.0')
    assert list(ours.labels) == theirs.features['label'].names
    assert {split: '+'.join(parts) for split, parts in ours.splits.items()} == theirs.metadata['splits']
    assert (ours.short_side, ours.fps) == (theirs.metadata['short_side'], theirs.metadata['fps']) == (256, None)


def _many_shards(folder, count: int) -> frame_index.FrameIndex:
    """An index of `count` shards, each with a clip of one frame that tells its number."""
    for number in range(count):
        (folder / f'{number}').write_bytes(b'\xff\xd8%06d' % number)
    ones, zeros = np.ones(count, np.int32), np.zeros(count, np.int32)
    numbers = np.arange(count, dtype=np.int32)
    return frame_index.FrameIndex(
        shards=numbers.astype(str), shard_bytes=ones.astype(np.int64) * 8, shard=numbers, ids=numbers.astype(str),
        labels=zeros, fps=ones.astype(np.float32), height=ones, width=ones, first=np.arange(count + 1, dtype=np.int64),
        offset=zeros.astype(np.int64), length=ones * 8,
    )  # fmt: skip


@contextlib.contextmanager
def _descriptors(count: int):
    """Leaves room for `count` more open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = {int(name) for name in os.listdir('/proc/self/fd')}
    free = [number for number in range(count + len(used) + 1) if number not in used]
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[count], hard))  # the limit is on a descriptor's number
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _read_from_threads(folder, index: frame_index.FrameIndex, threads: int) -> int:
    """Reads frames of all shards in a drawn order; returns how many descriptors are open at the end."""
    reader = frame_reader.FrameReader(folder, index)

    def read(seed: int) -> None:
        for clip in np.random.default_rng(seed).integers(0, len(index), 3000).tolist():
            assert reader.read(clip, [0, 0]) == [b'\xff\xd8%06d' % clip] * 2

    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        list(pool.map(read, range(threads)))
    return len(os.listdir('/proc/self/fd'))


@pytest.mark.parametrize('most', [frame_reader.MAX_OPEN, 2])
def test_more_shards_than_descriptors_are_read_from_many_threads(tmp_path, monkeypatch, most):
    monkeypatch.setattr(frame_reader, 'MAX_OPEN', most)
    index, threads = _many_shards(tmp_path, most + 200), 8
    index.check(tmp_path)
    before = len(os.listdir('/proc/self/fd'))
    with _descriptors(most + 2 * threads):
        assert _read_from_threads(tmp_path, index, threads) <= before + most
    assert len(os.listdir('/proc/self/fd')) <= before


def test_a_frame_that_cannot_be_read_is_named(copied):
    data = open_dataset(copied)
    clip = int(np.flatnonzero(data.index.shard == 1)[2])
    row = data.index.first[clip] + 3
    path = copied / data.index.shards[1]
    whole = path.read_bytes()
    middle = int(data.index.offset[row]) + int(data.index.length[row]) // 2
    for damaged, found in (
        (whole[:middle], f'{data.index.length[row] // 2} of {data.index.length[row]} bytes'),
        (whole[: data.index.offset[row]] + bytes(len(whole) - data.index.offset[row]), 'no JPEG at byte'),
    ):
        path.write_bytes(damaged)
        data.reader().read(clip, [0, 2])
        with pytest.raises(UserError, match=f'{path}: frame 3 of clip {str(data.index.ids[clip])!r}: {found}'):
            data.reader().read(clip, [0, 3])


GOOD = {'algorithm': 'dis', 'preset': 'fast', 'bound': 20.0, 'rounding': 'half_to_even'}


@pytest.mark.parametrize(
    ('flow', 'message'),
    [
        ('dis', "metadata.json: flow='dis': must have algorithm, preset, bound, and rounding='half_to_even'"),
        (GOOD | {'rounding': 'down'}, 'must have algorithm, preset, bound, and rounding'),
        (GOOD | {'more': 1}, 'must have algorithm, preset, bound, and rounding'),
        (GOOD | {'algorithm': ['dis']}, r"metadata.json: flow algorithm \['dis'\]: must be one of"),
        (GOOD | {'preset': 'x' * 10_000}, r"metadata.json: flow preset 'x{79}: must be one of"),
        (GOOD | {'bound': 1e9}, r'metadata.json: flow bound 1000000000.0: must be more than 0 and at most 1000 pixels'),
        (GOOD | {'bound': True}, 'metadata.json: flow bound True'),
        (GOOD, 'features.json lacks flow, and metadata.json says how it was computed'),
    ],
)
def test_a_description_of_flow_that_is_not_so_is_refused(copied, flow, message):
    path = copied / 'metadata.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | {'flow': flow}))
    with pytest.raises(UserError, match=message):
        description.read(copied)


def test_flow_that_nothing_describes_is_refused(copied):
    path = copied / 'features.json'
    tree = json.loads(path.read_text())
    features = tree['featuresDict']['features']
    features['flow'] = features['video']
    path.write_text(json.dumps(tree))
    with pytest.raises(UserError, match='features.json has flow, and metadata.json does not say how it was computed'):
        description.read(copied)
    features['flow'] = features['label']
    path.write_text(json.dumps(tree))
    with pytest.raises(UserError, match='features.json: flow must be of the class'):
        description.read(copied)
