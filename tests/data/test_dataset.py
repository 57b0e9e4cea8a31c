"""What is found on disk, and the frame index against TFDS's own reading."""

import dataclasses
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from vidcls.data import dataset as dataset_lib
from vidcls.data import frame_index
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
