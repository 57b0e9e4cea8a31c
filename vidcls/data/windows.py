"""Chooses the window that is seen of a clip: a rectangle that is the same in all frames of the clip.

Windows are whole pixels of the stored frames, so that the host decodes a window and nothing else; `transform` resizes
the window on the device. The papers give sizes for a frame that was scaled to a given short side ("group scale"). Here
these sizes are mapped back to the stored frame.

Sources: multi-scale crop, TSN (Wang et al. 2016, section 3.2) and its code for the 13 offsets; scale jitter, Simonyan &
Zisserman 2014, section 3.1, with TimeSformer's 256 to 320; 10 crops, TSN section 4.1; 3 crops, SlowFast section 4.
docs/protocols.md compares the pixels with those of the published code.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vidcls.config import AugmentConfig

SNAP = 3  # pixels: a multi-scale size this near the output size becomes the output size (TSN's code)
MAX_DISTORT = 1  # steps of scale by which height and width may differ (TSN's code)


class Window(NamedTuple):
    """A rectangle of the stored frame, in pixels, and whether it is mirrored."""

    top: int
    left: int
    height: int
    width: int
    flip: bool = False


def multi_scale_sizes(base: int, size: int, scales: tuple[float, ...]) -> list[tuple[int, int]]:
    """The sizes (height, width) of all crops of multi-scale cropping, in pixels of a frame whose short side is `base`.

    Args:
      size: the output's side, pixels.
      scales: sides of crops, as fractions of `base`.
    """
    sides = [int(base * scale) for scale in scales]
    sides = [size if abs(side - size) < SNAP else side for side in sides]
    return [
        (height, width) for i, height in enumerate(sides) for j, width in enumerate(sides) if abs(i - j) <= MAX_DISTORT
    ]


def fixed_offsets(height: int, width: int, crop_height: int, crop_width: int) -> list[tuple[int, int]]:
    """The places (top, left) of the 13 fixed crops.

    They are the corners, the centre, the middles of the edges, and the places half-way from the centre to the corners.
    """
    down, right = (height - crop_height) // 4, (width - crop_width) // 4
    places = [(0, 0), (0, 4), (4, 0), (4, 4), (2, 2), (2, 0), (2, 4), (4, 2), (0, 2)]
    places += [(1, 1), (1, 3), (3, 1), (3, 3)]
    return [(y * down, x * right) for y, x in places]


def scaled_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """The size (height, width) of a frame that is scaled to the short side `short_side`, with its aspect kept."""
    short = min(height, width)
    return round(height * short_side / short), round(width * short_side / short)


def draw_window(height: int, width: int, config: AugmentConfig, rng: np.random.Generator) -> Window:
    """A random window for training. `height` and `width` are the stored frame's, in pixels."""
    short_side = config.short_side
    if config.short_side_max:
        short_side = int(rng.integers(short_side, config.short_side_max + 1))
    scaled = scaled_size(height, width, short_side)
    if config.crop == 'multi_scale':
        sizes = multi_scale_sizes(short_side, config.crop_size, config.scales)
        size = sizes[rng.integers(len(sizes))]
        offsets = fixed_offsets(*scaled, *size)
        top, left = offsets[rng.integers(len(offsets))]
    else:
        size = (config.crop_size, config.crop_size)
        # Here the last offset can be drawn too; the published crop never draws it.
        top, left = (int(rng.integers(full - part + 1)) for full, part in zip(scaled, size))
    flip = config.flip and bool(rng.integers(2))
    return _to_stored(height, width, short_side, Window(top, left, *size, flip))


def view_windows(height: int, width: int, config: AugmentConfig, crops: int) -> list[Window]:
    """The fixed windows of testing, one for each view in space.

    Args:
      height, width: of the stored frame, pixels.
      crops: the number of windows. 1: the centre. 3: the start, the centre and the end of the long side. 10: the four
        corners, the centre, and the mirror images of these five.
    """
    short_side = config.test_short_side or config.short_side
    scaled = scaled_size(height, width, short_side)
    size = config.crop_size
    down, right = scaled[0] - size, scaled[1] - size
    centre = (round(down / 2), round(right / 2))
    if crops == 1:
        places = [centre]
    elif crops == 3:
        centre = (-(-down // 2), -(-right // 2))  # rounded up, as in the code of SlowFast and of TimeSformer
        places = (
            [(0, centre[1]), centre, (down, centre[1])]
            if height > width
            else [(centre[0], 0), centre, (centre[0], right)]
        )
    elif crops == 10:
        # As in TSN's code, whose corners lie on the grid of quarters too, up to 3 pixels short of the frame's edge.
        places = fixed_offsets(*scaled, size, size)[:5]
    else:
        raise ValueError(f'{crops} crops: must be 1, 3 or 10')
    flips = (False, True) if crops == 10 else (False,)
    return [
        _to_stored(height, width, short_side, Window(top, left, size, size, flip))
        for flip in flips
        for top, left in places
    ]


def bounding_window(windows: Sequence[Window]) -> Window:
    """The smallest rectangle that contains all the windows."""
    top, left = min(window.top for window in windows), min(window.left for window in windows)
    bottom = max(window.top + window.height for window in windows)
    right = max(window.left + window.width for window in windows)
    return Window(top, left, bottom - top, right - left)


def _to_stored(height: int, width: int, short_side: int, window: Window) -> Window:
    """Maps a window of the scaled frame to pixels of the stored frame: at least one pixel, and inside the frame."""
    ratio = min(height, width) / short_side
    rows = min(max(round(window.height * ratio), 1), height)
    columns = min(max(round(window.width * ratio), 1), width)
    top = min(round(window.top * ratio), height - rows)
    left = min(round(window.left * ratio), width - columns)
    return Window(top, left, rows, columns, window.flip)
