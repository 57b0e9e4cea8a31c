"""Chooses frames of a clip, by its number of frames and by where to look: int64[t], ascending.

A clip shorter than what is asked for repeats frames, in order: segments shrink below one frame, and an index past the
end becomes the last frame.

A scheme is a small class in `SCHEMES`; a scheme of one's own is one more entry there (docs/extending.md).

Sources: TSN (Wang et al. 2016, section 3.1) for segments; TimeSformer's frames, `sampling_rate` apart (Bertasius et al.
2021, section 4), for strided frames. docs/protocols.md compares the rules with those of the published code.
"""

import dataclasses
from collections.abc import Callable
from typing import Protocol

import numpy as np

from vidcls.config import Config, SamplingConfig
from vidcls.data.modality import MODALITIES
from vidcls.errors import UserError
from vidcls.text import spelling

_PIXELS_AT_ONCE = 64 * 224 * 224


class Scheme(Protocol):
    """A rule for choosing frames: `draw` for training, `view` for testing."""

    def draw(self, num_frames: int, fps: float, rng: np.random.Generator) -> np.ndarray:
        """Random frames of a clip of `num_frames` frames, `fps` a second: int64[t], ascending."""

    def view(self, num_frames: int, fps: float, view: int, views: int) -> np.ndarray:
        """The fixed frames of view number `view` of `views`: int64[t], ascending."""


class Segments:
    """`seg_len` consecutive frames out of each of `num_segments` equal parts of the clip (TSN)."""

    def __init__(self, config: SamplingConfig):
        self._config = config

    def draw(self, num_frames: int, fps: float, rng: np.random.Generator) -> np.ndarray:
        count = self._config.num_segments
        return segments(num_frames, count, self._config.seg_len, rng.random(count))

    def view(self, num_frames: int, fps: float, view: int, views: int) -> np.ndarray:
        return segments(num_frames, self._config.num_segments, self._config.seg_len, (view + 0.5) / views)


class Dense:
    """Frames `sampling_rate` apart, whatever the clip's rate; a draw starts at a whole frame."""

    def __init__(self, config: SamplingConfig):
        self._config = config
        self._extent = (config.num_frames - 1) * config.sampling_rate  # from the first to the last of them

    def draw(self, num_frames: int, fps: float, rng: np.random.Generator) -> np.ndarray:
        free = num_frames - 1 - self._extent
        start = int(rng.integers(max(free, 0) + 1))
        return strided(num_frames, self._config.num_frames, self._extent, start)

    def view(self, num_frames: int, fps: float, view: int, views: int) -> np.ndarray:
        start = view_start(num_frames - 1 - self._extent, view, views, self._config.view_offset)
        return strided(num_frames, self._config.num_frames, self._extent, start)


class Linspace:
    """Frames `sampling_rate` apart at `target_fps`, whatever the clip's rate (TimeSformer's reader)."""

    def __init__(self, config: SamplingConfig):
        self._config = config

    def draw(self, num_frames: int, fps: float, rng: np.random.Generator) -> np.ndarray:
        span = self._span(fps)
        start = rng.uniform(0, max(num_frames - span, 0))
        return strided(num_frames, self._config.num_frames, span - 1, start)

    def view(self, num_frames: int, fps: float, view: int, views: int) -> np.ndarray:
        span = self._span(fps)
        start = view_start(num_frames - span, view, views, self._config.view_offset)
        return strided(num_frames, self._config.num_frames, span - 1, start)

    def _span(self, fps: float) -> float:
        """The length of all strides together, in frames of the clip. The last frame has a stride too, as in TimeSformer's reader."""
        return self._config.sampling_rate * self._config.num_frames * fps / self._config.target_fps


# Name in `--config.sampling.scheme` -> what makes the scheme of the settings. `Sampler` puts the number of test segments in
# place of `num_segments` for testing, and the frames that are read of a segment in place of `seg_len`, so that `num_frames` of
# the settings is t.
SCHEMES: dict[str, Callable[[SamplingConfig], Scheme]] = {'segments': Segments, 'dense': Dense, 'linspace': Linspace}


class Sampler:
    """The frames that are read of a clip under a configuration; `num_frames` is their number t.

    Args:
      config: names the scheme, and has its settings.
      training: takes `num_segments`; else `test_segments`, where the configuration has them.

    Raises:
      UserError: `SCHEMES` has no such scheme.
    """

    def __init__(self, config: SamplingConfig, training: bool):
        if config.scheme not in SCHEMES:
            near, known = spelling.hint(config.scheme, SCHEMES), ', '.join(SCHEMES)
            raise UserError(f'--config.sampling.scheme={config.scheme!r}: must be one of {known}{near}')
        self.num_segments = config.num_segments if training else config.test_segments or config.num_segments
        length = config.seg_len + MODALITIES[config.modality].beyond
        self.num_frames = self.num_segments * length
        settings = dataclasses.replace(config, num_segments=self.num_segments, seg_len=length)
        self._scheme = SCHEMES[config.scheme](settings)

    def draw(self, num_frames: int, fps: float, rng: np.random.Generator) -> np.ndarray:
        """int64[t]: random frames of a clip of `num_frames` frames, for training."""
        return self._scheme.draw(num_frames, fps, rng)

    def view(self, num_frames: int, fps: float, view: int = 0, views: int = 1) -> np.ndarray:
        """int64[t]: the fixed frames of view number `view` of `views`, for testing."""
        return self._scheme.view(num_frames, fps, view, views)


def segments(num_frames: int, num_segments: int, seg_len: int, where: np.ndarray | float) -> np.ndarray:
    """`seg_len` consecutive frames out of each of `num_segments` equal parts.

    Args:
      where: in [0, 1), one for each segment or one for all: how far into its segment the snippet starts. 0.5 is the
        centre; uniform draws are the training of TSN. (TSN's code divides in whole frames, which never draws the
        last few; here every frame can be drawn.)
    """
    places = max(num_frames - seg_len + 1, 1)
    # Multiplied before it is divided, as in `strided`: a place that is a whole number must not come out just below it.
    starts = np.floor(places * (np.arange(num_segments) + where) / num_segments).astype(np.int64)
    frames = (starts[:, None] + np.arange(seg_len)).reshape(-1)
    return np.minimum(frames, num_frames - 1)


def strided(num_frames: int, count: int, extent: float, start: float) -> np.ndarray:
    """`count` frames, evenly spaced from `start` to `start + extent`, each rounded down."""
    frames = np.floor(start + extent * np.arange(count) / max(count - 1, 1)).astype(np.int64)
    return np.clip(frames, 0, num_frames - 1)


def view_start(free: float, view: int, views: int, offset: str) -> float:
    """The first frame of view number `view`, where the chosen frames leave `free` frames of the clip over.

    Args:
      offset: 'centre': the first of several views starts at the beginning, the last one reaches the end, and a single
        view is the centre. 'start': `free` is divided by the number of views, so that the last one never reaches the
        end, and a single view is the beginning: TimeSformer's own test (its datasets/decoder.py, `get_start_end_idx`).
    """
    if offset == 'start':
        return max(free, 0) * view / views
    return max(free, 0) * (view / (views - 1) if views > 1 else 0.5)


def views_at_once(config: Config) -> int:
    """How many views a device holds at once in testing: as configured, or as many as have about 64 frames of 224 x 224.

    So many pixels keep the cores of a CPU and most accelerators busy, and a ResNet-50 then takes about 1 GB.
    """
    view = Sampler(config.sampling, training=False).num_frames * config.augment.crop_size**2
    return config.test.batch_size or max(_PIXELS_AT_ONCE // view, 1)


def largest_divisor(number: int, limit: int) -> int:
    """The largest divisor of `number` up to `limit`, at least 1."""
    return max(part for part in range(1, number + 1) if number % part == 0 and part <= max(limit, 1))
