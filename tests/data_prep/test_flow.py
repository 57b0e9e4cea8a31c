"""Flow beside the frames of a dataset: computed at conversion, taken from published pictures, or added later."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import tensorflow_datasets as tfds

from data_prep import folder
from data_prep.convert import convert
from data_prep.options import Options
from tests.made_videos import grey_levels, moving, turn_clockwise, write_video
from vidcls.data import flow, flow_jpeg, frame_index
from vidcls.data.dataset import Dataset, open_dataset
from vidcls.data.flow import FlowSettings
from vidcls.data.frame_storage import FrameStorage
from vidcls.errors import UserError

FAST = FlowSettings('dis', 'fast')
OPTIONS = Options(FrameStorage(flow=FAST), workers=1)


@pytest.fixture(scope='module')
def videos(tmp_path_factory):
    root = tmp_path_factory.mktemp('flow') / 'clips'
    write_video(root / 'a' / 'moved.mp4', moving((3, -2), 4))
    write_video(root / 'a' / 'ten_bits.mkv', moving((3, -2), 3), pixels='yuv420p10le')
    write_video(root / 'a' / 'still.mp4', grey_levels([90, 90, 90]))
    write_video(root / 'b' / 'one.mp4', moving((3, -2), 1))
    turn_clockwise(write_video(root / 'b' / 'turned.mp4', moving((3, -2), 3)))
    write_video(root / 'b' / 'cut.mp4', np.concatenate([moving((3, -2), 3), moving((-4, 1), 3)[:, ::-1]]))
    return root


@pytest.fixture(scope='module')
def made(videos, tmp_path_factory) -> Path:
    return convert(folder.read(videos), tmp_path_factory.mktemp('out'), OPTIONS)


def stored(data: Dataset, name: str) -> tuple[list[bytes], list[bytes]]:
    """The JPEGs of a clip's frames, and of its flow."""
    clip = data.index.ids.tolist().index(name)
    index, reader = data.pictures('flow')
    return data.reader().read(clip, range(data.index.num_frames(clip))), reader.read(
        clip, range(index.num_frames(clip))
    )


def motion(data: Dataset, name: str) -> np.ndarray:
    """The mean stored motion of each frame away from the border, float[t 2], pixels a frame."""
    found = flow_jpeg.decode(stored(data, name)[1])[:, 16:-16, 16:-16].mean((1, 2))
    return found * 2 * flow.BOUND / 255 - flow.BOUND


def test_the_stored_flow_is_the_motion_of_the_clip(made):
    data = open_dataset(made)
    for name, expected in {
        'a/moved': [(3, -2)] * 4,
        'a/ten_bits': [(3, -2)] * 3,
        'b/turned': [(2, 3)] * 3,  # a quarter to the right: what went up goes right, what went right goes down
        'b/cut': [(3, -2)] * 2 + [None] + [(-4, -1)] * 3,
    }.items():
        found = motion(data, name)
        assert len(found) == len(expected)
        for one, other in zip(found, expected):
            assert other is None or np.abs(one - other).max() < 0.3
    for name in ('a/still', 'b/one'):
        assert (flow_jpeg.decode(stored(data, name)[1]) == 128).all()


def test_the_stored_flow_is_that_of_the_stored_frames(made):
    data = open_dataset(made)
    for name in data.index.ids.tolist():
        frames, pictures = stored(data, name)
        computed = flow.compute(np.stack([simplejpeg.decode_jpeg(jpeg) for jpeg in frames]), FAST)
        assert flow_jpeg.decode(pictures).shape == computed.shape
        assert [one for pair in map(flow_jpeg.encode, computed) for one in pair] == pictures
        # What the JPEG loses is less than what the 8 bits have lost.
        assert np.abs(flow_jpeg.decode(pictures).astype(int) - computed).mean() < 1


def test_tfds_reads_it(made):
    data = open_dataset(made)
    builder = tfds.builder_from_directory(made)
    for example in tfds.as_numpy(builder.as_dataset(split='train+validation+test')):
        frames, height, width, _ = example['video'].shape
        assert example['flow'].shape == (2 * frames, height, width, 1)
        expected = flow_jpeg.decode(stored(data, example['id'].decode())[1]).astype(int)
        for channel in range(2):  # TFDS decodes with a faster, rougher transform
            assert np.abs(example['flow'][channel::2, ..., 0] - expected[..., channel]).max() <= 2


def test_how_it_was_computed_is_said(made):
    metadata = json.loads((made / 'metadata.json').read_text())
    assert metadata['flow'] == {'algorithm': 'dis', 'preset': 'fast', 'bound': 20.0, 'rounding': 'half_to_even'}
    data = open_dataset(made)
    assert data.flow == FAST
    assert data.storage == data.stored('rgb') == FrameStorage()
    assert data.stored('flow') == FrameStorage(flow=FAST)
    data.pictures('flow', expected=FAST)
    with pytest.raises(
        UserError, match='flow is .*flow_bound=20, and the run was trained on .*flow_bound=32; python -m'
    ):
        data.pictures('flow', expected=FlowSettings(bound=32.0))


def test_the_frames_are_those_without_flow(made, videos, tmp_path):
    plain = open_dataset(convert(folder.read(videos), tmp_path, dataclasses.replace(OPTIONS, storage=FrameStorage())))
    data = open_dataset(made)
    assert data.digest('train') == plain.digest('train')
    index, reader = data.pictures('rgb')
    for clip in range(len(index)):
        frames = range(index.num_frames(clip))
        assert reader.read(clip, frames) == plain.reader().read(clip, frames)
    with pytest.raises(UserError, match=f'has no flow; python -m data_prep.add_flow --dataset={plain.folder} adds it'):
        plain.pictures('flow')


def test_an_index_of_flow_that_is_missing_or_does_not_fit_is_made_again(made, tmp_path, caplog):
    data = open_dataset(made)
    index = data.pictures('flow')[0]
    file = made / frame_index.FLOW.filename
    for change in (Path.unlink, lambda file: file.write_bytes((made / frame_index.FILENAME).read_bytes())):
        change(file)
        again = open_dataset(made).pictures('flow')[0]
        for name, array in vars(index).items():
            np.testing.assert_array_equal(getattr(again, name), array)
    assert "the flow doesn't fit the frames: first differs" in caplog.text


def test_processes_change_nothing(made, videos, tmp_path):
    other = convert(folder.read(videos), tmp_path, dataclasses.replace(OPTIONS, workers=2))
    for file in made.iterdir():
        if file.suffix != '.npz':  # a zip file holds the time of day
            assert file.read_bytes() == (other / file.name).read_bytes(), file.name
