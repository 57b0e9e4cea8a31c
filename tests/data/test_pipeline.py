"""Order, resuming, sharding and exactly-once, on made clips; pixels against another decoder."""

import dataclasses
import itertools
import shutil

import numpy as np
import pytest
import simplejpeg

from data_prep import convert
from data_prep import folder as folder_source
from vidcls.config import AugmentConfig, Config, SamplingConfig
from vidcls.data import pipeline
from vidcls.data.dataset import open_dataset
from vidcls.data.sampling import Sampler
from vidcls.data.windows import bounding_window, draw_window, view_windows
from vidcls.errors import UserError

AUGMENT = AugmentConfig(crop='random', short_side=32, crop_size=24)


def _config(**settings) -> Config:
    return Config(sampling=SamplingConfig(num_segments=3), augment=AUGMENT, **settings)


def _take(batches, count):
    return list(itertools.islice(batches, count))


def _assert_same(one, other):
    for a, b in zip((*one.views, *one[1:]), (*other.views, *other[1:]), strict=True):
        np.testing.assert_array_equal(a, b)


def test_every_epoch_has_every_clip_once_and_its_own_order(motion_dataset):
    config = _config(batch_size=5)
    clips = motion_dataset.clips('train')
    seen = np.concatenate([b.clip for b in _take(pipeline.train_batches(motion_dataset, config), 10)])
    first, second = seen[: len(clips)], seen[len(clips) : 2 * len(clips)]
    assert len(clips) == 24  # no multiple of the batch: batches run across the end of the epoch
    assert sorted(first) == sorted(second) == sorted(clips)
    assert first.tolist() != second.tolist()


def test_starting_later_is_the_same_as_skipping(motion_dataset):
    config = _config(batch_size=4)
    whole = _take(pipeline.train_batches(motion_dataset, config), 9)
    late = _take(pipeline.train_batches(motion_dataset, config, start_step=7), 2)
    _assert_same(whole[7], late[0])
    _assert_same(whole[8], late[1])


def test_another_seed_is_another_order_and_other_windows(motion_dataset):
    one, other = (next(pipeline.train_batches(motion_dataset, _config(batch_size=8, seed=s))) for s in (0, 1))
    assert one.clip.tolist() != other.clip.tolist()


def test_a_large_batch_is_read_in_equal_pieces(motion_dataset, monkeypatch):
    clip = 8 * 240 * 240 * 3  # 1.4 MB, of 25 MB a piece
    sizes = (1, 16, 18, 19, 32, 36)
    assert [pipeline._num_pieces(size, clip) for size in sizes] == [1, 1, 1, 19, 2, 2]
    assert pipeline._num_pieces(3, 10**9) == 3
    config = _config(batch_size=6)
    whole = _take(pipeline.train_batches(motion_dataset, config), 2)
    monkeypatch.setattr(pipeline, '_PIECE_BYTES', 3 * whole[0].views.canvas[0].nbytes)
    assert pipeline._num_pieces(6, whole[0].views.canvas[0].nbytes) == 2
    for one, other in zip(whole, _take(pipeline.train_batches(motion_dataset, config), 2)):
        _assert_same(one, other)


def test_processes_share_the_global_batch(motion_dataset):
    config = _config(batch_size=8)
    whole = _take(pipeline.train_batches(motion_dataset, config), 2)
    parts = [_take(pipeline.train_batches(motion_dataset, config, process=p, num_processes=2), 2) for p in range(2)]
    for step in range(2):
        joined = np.concatenate([parts[process][step].views.canvas for process in range(2)])
        np.testing.assert_array_equal(whole[step].views.canvas, joined)


def test_processes_together_see_every_clip_of_an_epoch_once(motion_dataset):
    config = _config(batch_size=6)  # four steps an epoch
    processes = [_take(pipeline.train_batches(motion_dataset, config, process=p, num_processes=3), 8) for p in range(3)]
    for epoch in (np.s_[:4], np.s_[4:]):
        seen = np.concatenate([batch.clip for process in processes for batch in process[epoch]])
        assert sorted(seen) == motion_dataset.clips('train').tolist()


def test_pixels_are_those_of_the_window_of_the_chosen_frames(motion_dataset):
    config = _config(batch_size=2)
    batch = _take(pipeline.train_batches(motion_dataset, config), 3)[2]
    reader, sampler = motion_dataset.reader(), Sampler(config.sampling, training=True)
    for place in range(2):
        clip = int(batch.clip[place])
        rng = pipeline.generator(config.seed, 1, 2 * 2 + place)
        frames = sampler.draw(8, 16.0, rng)
        window = draw_window(32, 32, AUGMENT, rng)
        assert batch.views.windows[place].tolist() == [[0, 0, 24, 24, window.flip]]
        for frame, jpeg in zip(batch.views.canvas[place], reader.read(clip, frames), strict=True):
            whole = simplejpeg.decode_jpeg(jpeg)
            cut = whole[window.top : window.top + 24, window.left : window.left + 24]
            # Colour is smoothed across pixels, and the window's edge has no neighbours there.
            np.testing.assert_array_equal(frame[1:23, 1:23], cut[1:23, 1:23])
            assert (frame[24:] == 0).all()
            assert (frame[:, 24:] == 0).all()


@pytest.mark.parametrize(('batch_size', 'processes'), [(1, 1), (3, 1), (5, 1), (40, 1), (6, 2), (6, 3)])
def test_evaluation_sees_every_clip_once(motion_dataset, batch_size, processes):
    batches = [
        list(pipeline.eval_batches(motion_dataset, _config(), 'test', batch_size, 1, 1, process, processes))
        for process in range(processes)
    ]
    assert len({len(process) for process in batches}) == 1  # all processes make as many steps
    seen = [clip for process in batches for batch in process for clip in batch.clip[batch.mask]]
    assert sorted(seen) == motion_dataset.clips('test').tolist()


@pytest.mark.parametrize(
    ('damage', 'found'),
    [
        (lambda shard, start, end: shard[: end - 1], 'bytes at byte'),
        (lambda shard, start, end: shard[:start] + b'\0\0' + shard[start + 2 :], 'no JPEG at byte'),
        (lambda shard, start, end: shard[: start + 2] + bytes(end - start - 2) + shard[end:], 'a broken JPEG'),
    ],
)
@pytest.mark.parametrize('pieces', [1, 4])
def test_a_frame_that_cannot_be_decoded_is_named(motion_folder, tmp_path, monkeypatch, damage, found, pieces):
    data = open_dataset(shutil.copytree(motion_folder, tmp_path / '1.0.0'))
    index, clip = data.index, int(data.clips('test')[5])
    path = data.folder / index.shards[index.shard[clip]]
    start, length = int(index.offset[index.first[clip]]), int(index.length[index.first[clip]])
    path.write_bytes(damage(path.read_bytes(), start, start + length))
    monkeypatch.setattr(pipeline, '_num_pieces', lambda size, clip_bytes: pieces)
    # The first of a clip's 8 moments has its first frame.
    batches = pipeline.eval_batches(data, _config(), 'test', 4, clips=8)
    with pytest.raises(UserError, match=f'{path}: frame 0 of clip {str(index.ids[clip])!r}: .*{found}'):
        list(batches)


def test_a_frame_of_another_size_is_named(motion_dataset):
    wrong = dataclasses.replace(motion_dataset.index, height=motion_dataset.index.height + 40)
    data = dataclasses.replace(motion_dataset, index=wrong)
    with pytest.raises(UserError, match='frame . of clip .*: 32 x 32 pixels, not 32 x 72'):
        list(pipeline.eval_batches(data, _config(), 'test', 4, crops=3))


def test_moments_follow_each_other_and_crops_share_a_canvas(motion_dataset):
    wide = dataclasses.replace(AUGMENT, crop_size=20, short_side=32)
    config = dataclasses.replace(_config(), augment=wide)
    batch = next(pipeline.eval_batches(motion_dataset, config, 'test', 4, clips=2, crops=10))
    first, second = motion_dataset.clips('test')[:2]
    assert batch.clip.tolist() == [first, first, second, second]
    assert batch.views.canvas.shape == (4, 3, 32, 32, 3)
    places = [(0, 0), (0, 12), (12, 0), (12, 12), (6, 6)]
    ten = [[*place, 20, 20, flip] for flip in (0, 1) for place in places]
    assert batch.views.windows.tolist() == [ten] * 4
    reader, sampler = motion_dataset.reader(), Sampler(config.sampling, training=False)
    for place, moment in ((0, 0), (1, 1)):
        jpegs = reader.read(int(first), sampler.view(8, 16.0, moment, 2))
        whole = np.stack([simplejpeg.decode_jpeg(jpeg) for jpeg in jpegs])
        np.testing.assert_array_equal(batch.views.canvas[place], whole)


def test_each_frame_is_decoded_once_for_ten_crops(motion_dataset, monkeypatch):
    import tensorflow as tf

    decoded = []
    original = tf.io.decode_and_crop_jpeg
    count = lambda *args, **kwargs: decoded.append(1) or original(*args, **kwargs)
    monkeypatch.setattr(tf.io, 'decode_and_crop_jpeg', count)  # once for each in the graph of a clip
    next(pipeline.eval_batches(motion_dataset, _config(), 'test', 1, clips=1, crops=10))
    assert len(decoded) == 3


def test_ten_crops_of_real_clips_are_the_windows_that_were_decoded_by_themselves(shared_data, tmp_path):
    """But for the colour at a window's edges, which a window decoded alone takes from no neighbour."""
    videos = tmp_path / 'videos'
    for group in sorted((shared_data / 'ucf101').iterdir())[:3]:
        (videos / group.name).mkdir(parents=True)
        file = min(group.glob('*.avi'))
        (videos / group.name / file.name).symlink_to(file)
    source = folder_source.read(videos, name='real', seed=0)
    dataset = open_dataset(convert.convert(source, tmp_path, convert.Options()))
    config = Config(sampling=SamplingConfig(num_segments=2), augment=AugmentConfig(short_side=128, crop_size=112))
    split = '+'.join(name for name, clips in dataset.splits.items() if len(clips))
    reader, sampler = dataset.reader(), Sampler(config.sampling, training=False)
    for batch in pipeline.eval_batches(dataset, config, split, 1, clips=1, crops=10):
        clip = int(batch.clip[0])
        num_frames, fps = dataset.index.num_frames(clip), float(dataset.index.fps[clip])
        windows = view_windows(240, 320, config.augment, 10)
        box = bounding_window(windows)
        assert batch.views.canvas.shape[2:4] == (box.height, box.width) == (240, 315)
        for jpeg, whole in zip(reader.read(clip, sampler.view(num_frames, fps)), batch.views.canvas[0], strict=True):
            for given, (top, left, height, width, flip) in zip(batch.views.windows[0], windows, strict=True):
                assert given.tolist() == [top, left, height, width, flip]
                alone = _decode(jpeg, (top, left, height, width))
                cut = whole[top : top + height, left : left + width]
                np.testing.assert_array_equal(cut[1:-1, 1:-1], alone[1:-1, 1:-1])


def _decode(jpeg: bytes, window: tuple[int, int, int, int]) -> np.ndarray:
    import tensorflow as tf

    return tf.io.decode_and_crop_jpeg(jpeg, window, channels=3, dct_method='INTEGER_ACCURATE').numpy()
