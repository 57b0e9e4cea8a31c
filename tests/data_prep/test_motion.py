"""The made clips: reversed pairs, real videos, and the dataset made of them."""

import dataclasses

import numpy as np
import pytest

from data_prep import motion
from data_prep.convert import Options
from vidcls.data import dataset, video
from vidcls.errors import UserError

LOOK = motion.Look(clips_per_class=10, size=32, frames=6, seed=1)
PAIRS = [
    ('right', 'left'),
    ('down', 'up'),
    ('clockwise', 'counter_clockwise'),
    ('growing', 'shrinking'),
]


@pytest.mark.parametrize('pair', PAIRS)
def test_a_reversed_clip_is_a_clip_of_the_partner(pair):
    forward, backward = (list(motion.CLASSES).index(name) for name in pair)
    kind = motion.CLASSES[pair[0]][0]
    # What is drawn with the partner's numbers in forward motion, played backwards, is the partner.
    rng = np.random.default_rng([LOOK.seed, backward, 5])
    drawn = motion.draw_motion(kind, rng, LOOK.size, LOOK.frames)
    assert np.array_equal(motion.render(pair[1], 5, LOOK), drawn[::-1])
    rng = np.random.default_rng([LOOK.seed, forward, 5])
    drawn = motion.draw_motion(kind, rng, LOOK.size, LOOK.frames)
    assert np.array_equal(motion.render(pair[0], 5, LOOK), drawn)


def shape_mask(clip: np.ndarray) -> np.ndarray:
    """Pixels that some frame shows differently than most frames; bool[t h w]."""
    background = np.median(clip, axis=0)
    return np.abs(clip - background).max(axis=-1) > 30


@pytest.mark.parametrize(('name', 'axis', 'sign'), [('right', 2, 1), ('left', 2, -1), ('down', 1, 1), ('up', 1, -1)])
def test_shapes_go_where_the_class_says(name, axis, sign):
    look = motion.Look(size=64, frames=9)
    for number in range(5):
        mask = shape_mask(motion.render(name, number, look))
        place = [np.nonzero(frame)[axis - 1].mean() for frame in mask[[0, -1]]]
        assert sign * (place[1] - place[0]) > 8


def test_growing_grows():
    look = motion.Look(size=64, frames=9)
    for number in range(5):
        clip = motion.render('growing', number, look).astype(int)
        # The first frame against the last: what changed lies outside the small shape.
        steps = [np.abs(clip[t] - clip[0]).max(axis=-1) > 30 for t in (2, 8)]
        assert steps[1].sum() > steps[0].sum()


def test_clockwise_turns_clockwise():
    """A point of the shape's own axes goes from the right to below: rows count downwards."""
    u, v = motion._shape_coordinates(
        101, np.full((2, 2), 0.5, np.float32), np.array([0, np.pi / 2]), np.full(2, 0.4, np.float32)
    )
    tip = [np.unravel_index(np.hypot(u[t] - 1, v[t]).argmin(), u[t].shape) for t in (0, 1)]
    assert tip == [(50, 90), (90, 50)]  # row, column


@pytest.mark.parametrize(('name', 'sign'), [('clockwise', 1), ('counter_clockwise', -1)])
def test_shapes_go_round_as_the_class_says(name, sign):
    look = motion.Look(size=64, frames=9)
    for number in range(5):
        mask = shape_mask(motion.render(name, number, look))
        x, y = np.array([np.mean(np.nonzero(frame)[::-1], axis=1) for frame in mask[[0, 4, 8]]]).T
        # Three points in clockwise order, y downwards, have a positive cross product.
        assert sign * ((x[1] - x[0]) * (y[2] - y[1]) - (y[1] - y[0]) * (x[2] - x[1])) > 20


def test_clips_differ():
    clips = [motion.render(name, n, LOOK) for name in ('left', 'right') for n in range(3)]
    first = {clip[0].tobytes() for clip in clips} | {clip[-1].tobytes() for clip in clips}
    assert len(first) == 12


def test_make(tmp_path):
    made = motion.make(tmp_path, LOOK, Options(workers=1))
    assert made == tmp_path / 'motion' / '1.0.0'
    data = dataset.open_dataset(tmp_path)
    assert data.labels == tuple(sorted(motion.CLASSES))
    assert {name: len(clips) for name, clips in data.splits.items()} == {
        'train': 64, 'validation': 8, 'test': 8,
    }  # fmt: skip
    assert set(np.diff(data.index.first)) == {6}
    assert set(data.index.fps) == {motion.RATE}
    file = tmp_path / 'motion_videos' / 'up' / 'up_00003.mp4'
    decoded = video.read_frames(file, range(6)).astype(int)
    assert np.abs(decoded - motion.render('up', 3, LOOK)).mean() < 8  # H.264 and 4:2:0
    assert sorted(p.name for p in tmp_path.iterdir()) == ['motion', 'motion_videos']
    before = file.stat().st_mtime_ns
    with pytest.raises(UserError, match='--overwrite replaces it'):
        motion.make(tmp_path, LOOK, Options(workers=1))
    assert file.stat().st_mtime_ns == before  # nothing was done in vain
    (tmp_path / 'motion').rename(tmp_path / 'elsewhere')
    with pytest.raises(UserError, match='motion_videos exists; --overwrite'):
        motion.make(tmp_path, LOOK, Options(workers=1))
    assert file.stat().st_mtime_ns == before
    motion.make(tmp_path, dataclasses.replace(LOOK, clips_per_class=3), Options(workers=1, overwrite=True))
    assert not file.exists() and len(list((tmp_path / 'motion_videos').rglob('*.mp4'))) == 24
    assert sorted(p.name for p in tmp_path.iterdir()) == ['elsewhere', 'motion', 'motion_videos']


def test_an_odd_size_is_refused(tmp_path):
    with pytest.raises(UserError, match='--size=33'):
        motion.make(tmp_path, motion.Look(size=33))
