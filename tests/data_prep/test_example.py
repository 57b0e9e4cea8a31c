"""The hand-written wire format, against TensorFlow's own parser."""

import numpy as np
import tensorflow as tf

from data_prep import example
from data_prep.source import Clip
from tests.made_videos import grey_levels, write_video
from vidcls.data import video
from vidcls.data.frame_storage import FrameStorage


def test_tensorflow_reads_what_is_written():
    # Lengths on both sides of 127 and 16383, where a varint grows; a label of two bytes.
    jpegs = [b'a' * 127, b'b' * 128, b'', b'c' * 16384, b'd' * 3_000_000]
    flow = [b'x' * 200, b'y' * 100]
    record, _ = example.serialize({'video': jpegs, 'flow': flow}, label=300, id='wave/ä b', fps=29.97)
    feature = tf.train.Example.FromString(record).features.feature
    assert set(feature) == {'video', 'flow', 'label', 'id', 'fps'}
    assert list(feature['video'].bytes_list.value) == jpegs
    assert list(feature['flow'].bytes_list.value) == flow
    assert list(feature['label'].int64_list.value) == [300]
    assert list(feature['id'].bytes_list.value) == ['wave/ä b'.encode()]
    assert list(feature['fps'].float_list.value) == [tf.constant(29.97).numpy()]


def test_a_clip_of_label_nought():
    record, _ = example.serialize({'video': [b'x']}, 0, 'i', 1.0)
    feature = tf.train.Example.FromString(record).features.feature
    assert list(feature['label'].int64_list.value) == [0]


def test_where_the_pictures_lie():
    pictures = {'video': [b'a' * 127, b'b' * 128, b'c' * 16384, b'd' * 3_000_000], 'flow': [b'e' * 5, b'f' * 300]}
    record, places = example.serialize(pictures, label=1, id='x', fps=1.0)
    for name, jpegs in pictures.items():
        found = [record[o : o + n] for o, n in zip(*places[name], strict=True)]
        assert found == jpegs
        assert (places[name].offsets.dtype, places[name].lengths.dtype) == (np.int64, np.int32)


def test_convert_clip(tmp_path):
    path = write_video(tmp_path / 'c.mp4', grey_levels((10, 100, 200)))
    clip = Clip('c', 1, 'train', (path,))
    result = example.convert_clip(clip, FrameStorage(), tmp_path)
    assert result.problem == ''
    feature = tf.train.Example.FromString(result.record.file.read_bytes()).features.feature
    jpegs = video.encode(path)[1]
    assert list(feature['video'].bytes_list.value) == jpegs
    assert list(feature['fps'].float_list.value) == [10.0]
    layout = result.record.layout
    assert (layout.height, layout.width) == (32, 48)
    assert layout.places['video'].lengths.tolist() == [len(jpeg) for jpeg in jpegs]


def test_convert_clip_tells_why_not(tmp_path):
    clip = Clip('c', 1, 'train', (tmp_path / 'absent.mp4',))
    result = example.convert_clip(clip, FrameStorage(), tmp_path)
    assert (result.record, result.problem) == (None, 'no such file')
    assert not list(tmp_path.iterdir())
