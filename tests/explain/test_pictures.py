"""What the strip and the film show, and where."""

import dataclasses

import matplotlib
import numpy as np
import pytest

from tests.explain.explained import explained
from vidcls.data.windows import Window
from vidcls.explain import pictures


@pytest.fixture
def lower_left():
    """Two grey frames. The map is the lower left quarter of the window; of the first frame it is too small to be seen.

    The second frame has a black square, in the window at rows 5 to 10 and columns 25 to 30.
    """
    values = np.zeros((2, 40, 40), np.float32)
    values[:, 20:, :20] = [[[0.05]], [[1]]]
    grey = np.full((2, 48, 64, 3), 128, np.uint8)
    grey[1, 4 + 5 : 4 + 10, 10 + 25 : 10 + 30] = 0
    return dataclasses.replace(explained(frames=2), frames=grey, map=values, smooth=False)


def coloured(picture: np.ndarray) -> list[int]:
    """Left, top, right and bottom of what is neither grey nor black nor white, in pixels."""
    rows, columns = np.nonzero(np.ptp(picture.astype(int), axis=2) > 50)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if len(rows) else []


def black(picture: np.ndarray) -> list[int]:
    """Left, top, right and bottom of what is black, in pixels."""
    rows, columns = np.nonzero(picture.max(axis=2) < 15)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if len(rows) else []


def test_the_strip_lays_each_map_over_its_frame(lower_left):
    picture = np.asarray(pictures.strip(lower_left))
    top, side = 2 * pictures.MARGIN + pictures.TITLE + pictures.CAPTION + 16, 670  # two frames in 1400 pixels
    left = pictures.MARGIN + side + pictures.GAP
    frames = picture[top : top + side]
    np.testing.assert_allclose(coloured(frames), [left, side / 2, left + side / 2, side], atol=1)
    square = np.array([25, 5, 30, 10]) * side / 40 + [left, 0, left, 0]
    np.testing.assert_allclose(black(frames), square, atol=12)  # its edge is smooth


def test_the_film_lays_the_map_into_the_window_at_its_moment(lower_left):
    paint = pictures.Painter(lower_left, (48, 64), lower_left.times)
    first, second = (paint(frame, time) for frame, time in zip(lower_left.frames, lower_left.times))
    # Ten pixels of the film for one of the frame; the window begins at row 4 and column 10. Below is the bar of time.
    frames = slice(paint.TEXT + 16, paint.TEXT + 16 + 480)
    np.testing.assert_allclose(coloured(second[frames]), [100, 240, 300, 440], atol=1)
    np.testing.assert_allclose(black(second[frames]), [350, 90, 400, 140], atol=5)
    assert coloured(first[frames]) == black(first[frames]) == []
    # The bar of the second frame, at the end, is high; that of the first, which has no weight, is two pixels.
    bars = np.flatnonzero((np.ptp(first[frames.stop :].astype(int), axis=2) > 50).sum(axis=0) > 10)
    assert 600 < bars.min() and bars.max() < 640


def test_the_colours_are_those_of_matplotlib():
    """A hand computation: nothing up to a tenth of the maximum, 0.7 of the colour from 0.7 on, half of that at 0.4."""
    share = np.array([0, 0.1, 0.4, 0.7, 1])
    found = pictures.blend(np.full((5, 3), 100.0), share)
    opacity = np.array([0, 0, 0.35, 0.7, 0.7])[:, None]
    colours = 255 * matplotlib.colormaps['inferno'](0.25 + 0.75 * share)[:, :3]
    np.testing.assert_allclose(found, (1 - opacity) * 100 + opacity * colours, atol=1.5)


@pytest.mark.parametrize('size', [(40, 40), (44, 400), (400, 50)])
def test_pictures_of_every_shape(size):
    explanation = explained(frames=1, size=size)
    explanation = dataclasses.replace(explanation, window=Window(0, 0, 40, 40), map=np.zeros((1, 40, 40), np.float32))
    assert pictures.strip(explanation).width == pictures.WIDTH
    paint = pictures.Painter(explanation, size, explanation.times)
    picture = paint(explanation.frames[0], 0.0)
    assert picture.shape == (*paint.size[::-1], 3) and not any(side % 2 for side in paint.size)


def test_the_map_of_a_film_is_interpolated_in_time():
    explanation = dataclasses.replace(explained(frames=2), map=np.stack([np.full((40, 40), 2), np.full((40, 40), 6)]))
    paint = pictures.Painter(explanation, (48, 64), np.linspace(0, 0.2, 5))
    found = [paint.map_at(time)[0, 0] for time in (-1, 0, 0.025, 0.1, 0.5)]
    np.testing.assert_allclose(found, [2, 2, 3, 6, 6])


def test_the_map_of_a_film_follows_the_times_of_frames_that_overlap():
    """Stacked frames of a short clip: the third one lies between the others."""
    levels = np.stack([np.full((40, 40), level) for level in (2, 6, 4)])
    explanation = dataclasses.replace(explained(frames=3), map=levels, times=np.array([0.0, 0.2, 0.1]))
    paint = pictures.Painter(explanation, (48, 64), np.linspace(0, 0.2, 5))
    np.testing.assert_allclose([paint.map_at(time)[0, 0] for time in (0, 0.05, 0.1, 0.15, 0.3)], [2, 3, 4, 5, 6])
