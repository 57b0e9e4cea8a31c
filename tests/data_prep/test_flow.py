"""Flow beside the frames of a dataset: computed at conversion, taken from published pictures, or added later."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import tensorflow_datasets as tfds

from data_prep import add_flow, folder, published_flow
from data_prep.convert import convert
from data_prep.options import Options
from tests.made_videos import grey_levels, moving, turn_clockwise, write_video
from vidcls.data import flow, flow_jpeg, frame_index
from vidcls.data.dataset import Dataset, open_dataset
from vidcls.data.flow import FlowSettings
from vidcls.data.frame_storage import FrameStorage
from vidcls.errors import UserError

FAST = FlowSettings('dis', 'fast')
FRAME = simplejpeg.encode_jpeg(moving((3, -2), 1)[0])
STILL = flow_jpeg.encode(np.full((96, 128, 2), 128, np.uint8))[0]
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


def test_flow_is_added_as_conversion_makes_it(made, videos, tmp_path):
    plain = convert(folder.read(videos), tmp_path, dataclasses.replace(OPTIONS, storage=FrameStorage()))
    before = open_dataset(plain)
    assert add_flow.add_flow(tmp_path, FAST, workers=1) == plain
    for file in made.iterdir():
        if file.suffix not in ('.npz', '.json'):
            assert file.read_bytes() == (plain / file.name).read_bytes(), file.name
    for name in ('features.json', 'metadata.json', 'dataset_info.json'):
        assert json.loads((made / name).read_text()) == json.loads((plain / name).read_text())
    assert sorted(file.name for file in plain.iterdir()) == sorted(file.name for file in made.iterdir())
    after = open_dataset(plain)
    assert after.index.ids.tolist() == before.index.ids.tolist()
    assert after.digest('train') == before.digest('train')
    assert [path.name for path in tmp_path.iterdir()] == ['clips']
    frames = stored(after, 'a/moved')[0]
    add_flow.add_flow(plain, FlowSettings(bound=4.0), workers=1)
    again = open_dataset(plain)
    assert again.flow == FlowSettings(bound=4.0)
    assert stored(again, 'a/moved')[0] == frames
    assert flow_jpeg.decode(stored(again, 'a/moved')[1])[0, 48, 64] == pytest.approx((223, 64), abs=4)  # (3, -2) of 4


def test_a_broken_frame_is_named_and_the_dataset_stays(made, tmp_path):
    copy = Path(shutil.copytree(made, tmp_path / 'clips' / '1.0.0'))
    index = open_dataset(copy).index
    clip = index.ids.tolist().index('a/moved')
    row = int(index.first[clip]) + 2
    with open(copy / index.shards[index.shard[clip]], 'r+b') as file:
        file.seek(index.offset[row] + 20)
        file.write(bytes(60))
    with pytest.raises(UserError, match="frame 2 of clip 'a/moved': a broken JPEG"):
        add_flow.add_flow(copy, FlowSettings(bound=4.0), workers=1)
    assert open_dataset(copy).flow == FAST
    assert [path.name for path in tmp_path.iterdir()] == ['clips']


@pytest.fixture(scope='module')
def published(tmp_path_factory) -> Path:
    """Frames and the flow of each pair as mmaction2 has them, and the same of denseflow, counted from 0."""
    root = tmp_path_factory.mktemp('published') / 'frames'
    for name, names, first in (('one', ('flow_x', 'flow_y'), 1), ('other', ('x', 'y'), 0)):
        clip = root / 'a' / name
        clip.mkdir(parents=True)
        for number, frame in enumerate(moving((3, -2), 4)):
            (clip / f'img_{number + first:05d}.jpg').write_bytes(simplejpeg.encode_jpeg(frame))
        for number in range(3):
            flow_of_frame = np.full((96, 128, 2), (10 * number + 3, 10 * number + 4), np.uint8)
            for axis, picture in zip(names, flow_jpeg.encode(flow_of_frame)):
                (clip / f'{axis}_{number + first:05d}.jpg').write_bytes(picture)
    return root


TVL1 = Options(FrameStorage(flow=FlowSettings('tvl1')), workers=1)


def test_published_pictures_are_taken_byte_for_byte(published, tmp_path):
    data = open_dataset(convert(folder.read(published), tmp_path, dataclasses.replace(TVL1, flow_from=published)))
    assert data.flow == FlowSettings('tvl1')
    for name, names, first in (('a/one', ('flow_x', 'flow_y'), 1), ('a/other', ('x', 'y'), 0)):
        frames, pictures = stored(data, name)
        assert len(frames) == 4
        files = [published / name / f'{axis}_{number + first:05d}.jpg' for number in (0, 1, 2, 2) for axis in names]
        assert pictures == [file.read_bytes() for file in files]


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        (lambda clip: (clip / 'flow_y_00002.jpg').unlink(), r'must have the numbers 0, 1, 2\.\.\. or 1, 2, 3'),
        (lambda clip: (clip / 'flow_y_00002.jpg').write_bytes(b'no'), 'flow_y_00002.jpg: a broken JPEG'),
        (
            lambda clip: (clip / 'flow_y_00002.jpg').write_bytes(flow_jpeg.encode(np.zeros((90, 128, 2), np.uint8))[1]),
            'flow_y_00002.jpg: has 128 x 90 pixels, and the frames have 128 x 96',
        ),
        (
            lambda clip: [file.unlink() for file in clip.glob('flow_*')],
            'has flow pictures of 0 frames, and the clip has 4',
        ),
        (
            lambda clip: [(clip / f'img_{number:05d}.jpg').write_bytes(FRAME) for number in range(5, 10)],
            'of 3 frames, and',
        ),
        (shutil.rmtree, 'one: no such folder of flow pictures'),
    ],
)
def test_published_pictures_that_do_not_fit_are_refused(published, tmp_path, change, reason):
    clip = Path(shutil.copytree(published / 'a' / 'one', tmp_path / 'one'))
    change(clip)
    frames = [file.read_bytes() for file in sorted(clip.glob('img_*'))]
    with pytest.raises(UserError, match=reason):
        published_flow.read(clip, frames)


def test_published_pictures_of_about_as_many_frames(published):
    clip = published / 'a' / 'one'
    expected = [(clip / f'flow_{axis}_{number:05d}.jpg').read_bytes() for number in (1, 2, 3) for axis in 'xy']
    assert published_flow.read(clip, [FRAME] * 2) == expected[:4]
    assert published_flow.read(clip, [FRAME] * 6) == expected + 3 * expected[4:]
    assert published_flow.read(published, [FRAME]) == [STILL, STILL]  # one frame has no pair


def test_published_pictures_go_with_every_frame_of_a_video(videos, tmp_path):
    options = Options(FrameStorage(fps=5.0, flow=FlowSettings('tvl1')), flow_from=tmp_path)
    with pytest.raises(UserError, match='--fps=5: published flow pictures are of every frame'):
        convert(folder.read(videos), tmp_path, options)


def test_an_algorithm_that_is_not_installed_is_said_before_any_work(videos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'cv2', None)
    with pytest.raises(UserError, match=r"pip install 'vidcls\[flow\]'"):
        convert(folder.read(videos), tmp_path, OPTIONS)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_beam_makes_the_same_records(made, videos, tmp_path):
    pytest.importorskip('apache_beam')
    other = convert(folder.read(videos), tmp_path, dataclasses.replace(OPTIONS, beam_runner='DirectRunner'))
    one, two = open_dataset(made), open_dataset(other)
    assert one.flow == two.flow
    for name in one.index.ids.tolist():
        assert stored(one, name) == stored(two, name)


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, '-m', *arguments], check=False, capture_output=True, text=True)


def test_published_pictures_need_their_algorithm(published, tmp_path):
    done = run('data_prep.folder', f'--videos={published}', f'--out={tmp_path}', f'--flow_from={published}')
    assert (done.returncode, '--flow_from: say by --flow how' in done.stderr) == (1, True)


@pytest.mark.slow
def test_flags(made, tmp_path):
    copy = shutil.copytree(made, tmp_path / 'clips' / '1.0.0')
    done = run('data_prep.add_flow', f'--dataset={tmp_path}', '--flow_preset=ultrafast', '--flow_bound=32')
    assert done.returncode == 0, done.stderr
    assert open_dataset(copy).flow == FlowSettings('dis', 'ultrafast', 32.0)
