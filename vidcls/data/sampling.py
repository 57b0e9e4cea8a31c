"""Chooses the frames int64[t] of a clip, ascending, from its number of frames and its rate.

If a clip is too short, some of its frames are repeated, in order: segments become shorter than one frame, and an index
past the end becomes the last frame.

A scheme is a small class in `SCHEMES`. To add a scheme, add an entry there (docs/extending.md).

Sources: TSN for segments (Wang et al. 2016, section 3.1); TimeSformer for frames `sampling_rate` apart (Bertasius et
al. 2021, section 4). docs/protocols.md compares the rules with the rules of the published code.
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
        """Random frames int64[t], ascending, of a clip that has `num_frames` frames at `fps` frames per second."""

    def view(self, num_frames: int, fps: float, view: int, views: int) -> np.ndarray:
        """The frames int64[t], ascending, of view number `view` out of `views` views in time. They are not random."""


class Segments:
    """A scheme that takes `seg_len` consecutive frames from each of `num_segments` equal parts of the clip (TSN)."""

    def __init__(self, config: SamplingConfig):
        self._config = config

    def draw(self, num_frames: int, fps: float, rng: np.random.Generator) -> np.ndarray:
        count = self._config.num_segments
        return segments(num_frames, count, self._config.seg_len, rng.random(count))

    def view(self, num_frames: int, fps: float, view: int, views: int) -> np.ndarray:
        return segments(num_frames, self._config.num_segments, self._config.seg_len, (view + 0.5) / views)


class Dense:
    """A scheme that takes frames `sampling_rate` apart, whatever the clip's rate. A draw starts at a whole frame."""

    def __init__(self, config: SamplingConfig):
        self._config = config
        self._extent = (config.num_frames - 1) * config.sampling_rate  # from the first of the frames to the last

    def draw(self, num_frames: int, fps: float, rng: np.random.Generator) -> np.ndarray:
        free = num_frames - 1 - self._extent
        start = int(rng.integers(max(free, 0) + 1))
        return strided(num_frames, self._config.num_frames, self._extent, start)

    def view(self, num_frames: int, fps: float, view: int, views: int) -> np.ndarray:
        start = view_start(num_frames - 1 - self._extent, view, views, self._config.view_offset)
        return strided(num_frames, self._config.num_frames, self._extent, start)


class Linspace:
    """A scheme that takes frames `sampling_rate` apart, counted at the rate `target_fps` (TimeSformer's reader).

    So the frames are equally far apart in time in clips of all rates.
    """

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
        """The length of all strides together, in frames of the clip.

        The last frame has a stride too, as in TimeSformer's reader.
        """
        return self._config.sampling_rate * self._config.num_frames * fps / self._config.target_fps


# Name in `--config.sampling.scheme` -> a function that makes the scheme from settings. `Sampler` changes two of these
# settings, so that their `num_frames` is t: `num_segments` is the number of test segments in testing, and `seg_len` is
# the number of frames that are read of a segment.
SCHEMES: dict[str, Callable[[SamplingConfig], Scheme]] = {'segments': Segments, 'dense': Dense, 'linspace': Linspace}


class Sampler:
    """Chooses the frames that are read of a clip, as a configuration says.

    Args:
      config: names the scheme, and has its settings.
      training: whether the clip is divided as in training, into `num_segments`. If not, it is divided into
        `test_segments`, unless that is 0.

    Raises:
      UserError: `SCHEMES` has no such scheme.

    Attributes:
      num_segments: the number of segments.
      num_frames: the number t of frames that are read.
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
        """Random frames int64[t] of a clip that has `num_frames` frames at `fps` frames per second, for training."""
        return self._scheme.draw(num_frames, fps, rng)

    def view(self, num_frames: int, fps: float, view: int = 0, views: int = 1) -> np.ndarray:
        """The frames int64[t] of view number `view` out of `views` views in time, for testing. They are not random."""
        return self._scheme.view(num_frames, fps, view, views)


def segments(num_frames: int, num_segments: int, seg_len: int, where: np.ndarray | float) -> np.ndarray:
    """The numbers of `seg_len` consecutive frames from each of `num_segments` equal parts of a clip.

    Args:
      where: how far into its segment a snippet starts, in [0, 1); a number for each segment, or one for all. 0.5 is the
        centre. In training, TSN draws these numbers uniformly. TSN's code divides a clip into segments of whole frames,
        so that the last few frames are never drawn; here every frame can be drawn.
    """
    places = max(num_frames - seg_len + 1, 1)
    # The product is taken before the quotient, as in `strided`: a whole number must not come out just below itself.
    starts = np.floor(places * (np.arange(num_segments) + where) / num_segments).astype(np.int64)
    frames = (starts[:, None] + np.arange(seg_len)).reshape(-1)
    return np.minimum(frames, num_frames - 1)


def strided(num_frames: int, count: int, extent: float, start: float) -> np.ndarray:
    """The numbers of `count` frames that are evenly spaced from `start` to `start + extent`, each rounded down."""
    frames = np.floor(start + extent * np.arange(count) / max(count - 1, 1)).astype(np.int64)
    return np.clip(frames, 0, num_frames - 1)


def view_start(free: float, view: int, views: int, offset: str) -> float:
    """Where view number `view` out of `views` views in time starts, in frames from the beginning of the clip.

    Args:
      free: the number of frames by which the clip is longer than a view.
      offset: 'centre' or 'start'. With 'centre', the first of several views starts at the beginning, and the last view
        reaches the end; a single view lies in the centre. With 'start', `free` is divided by the number of views, so
        that the last view never reaches the end; a single view lies at the beginning. TimeSformer's own test
        uses 'start' (`get_start_end_idx` in its datasets/decoder.py).
    """
    if offset == 'start':
        return max(free, 0) * view / views
    return max(free, 0) * (view / (views - 1) if views > 1 else 0.5)


def views_at_once(config: Config) -> int:
    """The number of views on a device at once in testing.

    It is the configured number or, if that is 0, as many views as have about 64 frames of 224 x 224 pixels. So many
    pixels keep the cores of a CPU and most accelerators busy, and a ResNet-50 then takes about 1 GB.
    """
    view = Sampler(config.sampling, training=False).num_frames * config.augment.crop_size**2
    return config.test.batch_size or max(_PIXELS_AT_ONCE // view, 1)


def largest_divisor(number: int, limit: int) -> int:
    """The largest divisor of `number` that is at most `limit`; 1 if `limit` is less than 1."""
    return max(part for part in range(1, number + 1) if number % part == 0 and part <= max(limit, 1))
