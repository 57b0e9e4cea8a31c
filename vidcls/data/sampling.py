"""Which frames of a video: pure functions of its number of frames and of where to look. Out: int64[t], ascending.

A video shorter than what is asked for repeats frames, in order: segments shrink below one frame, and an index past the
end is the last frame.

Sources: TSN (Wang et al. 2016, section 3.1) for segments; TimeSformer's clip of `sampling_rate` (Bertasius et al. 2021,
section 4) for strided clips. docs/protocols.md compares the rules with those of the published code.
"""

import numpy as np

from vidcls.config import Config, SamplingConfig

_PIXELS_AT_ONCE = 64 * 224 * 224


def segments(num_frames: int, num_segments: int, seg_len: int, where: np.ndarray | float) -> np.ndarray:
    """`seg_len` consecutive frames out of each of `num_segments` equal parts.

    Args:
      where: in [0, 1), one for each segment or one for all: how far into its segment the snippet starts. 0.5 is the
        centre; uniform draws are the training of TSN. (Its code divides in whole frames, which never draws the
        last few; here every frame can be drawn.)
    """
    places = max(num_frames - seg_len + 1, 1)
    # Here and below multiplied before it is divided: a place that is a whole number must not come out just below it.
    starts = np.floor(places * (np.arange(num_segments) + where) / num_segments).astype(np.int64)
    frames = (starts[:, None] + np.arange(seg_len)).reshape(-1)
    return np.minimum(frames, num_frames - 1)


def strided(num_frames: int, count: int, extent: float, start: float) -> np.ndarray:
    """`count` frames, evenly from `start` to `start + extent` (a fraction is cut off last)."""
    frames = np.floor(start + extent * np.arange(count) / max(count - 1, 1)).astype(np.int64)
    return np.clip(frames, 0, num_frames - 1)


def view_start(free: float, view: int, views: int, offset: str) -> float:
    """Where view number `view` starts when a clip can be moved by `free` frames.

    Args:
      offset: 'centre': the first of several views starts at the beginning, the last one reaches the end, and a single
        view is the centre. 'start': `free` is divided by the number of views, so that the last one never reaches the
        end, and a single view is the beginning: TimeSformer's own test (its datasets/decoder.py, `get_start_end_idx`).
    """
    if offset == 'start':
        return max(free, 0) * view / views
    return max(free, 0) * (view / (views - 1) if views > 1 else 0.5)


class Sampler:
    """The frames of one clip under a configuration.

    Args:
      config: scheme 'segments'; 'dense', frames `sampling_rate` apart; or 'linspace', `sampling_rate` apart at
        `target_fps`, whatever the video's own rate.
      training: `num_segments` of training, or of testing.
    """

    def __init__(self, config: SamplingConfig, training: bool):
        self._config = config
        self.num_segments = config.num_segments if training else config.test_segments or config.num_segments
        self.num_frames = self.num_segments * config.seg_len  # t

    def draw(self, num_frames: int, fps: float, rng: np.random.Generator) -> np.ndarray:
        """int64[t]: a random clip, for training."""
        if self._config.scheme == 'segments':
            where = rng.random(self.num_segments)
            return segments(num_frames, self.num_segments, self._config.seg_len, where)
        extent, free = self._clip(num_frames, fps)
        whole = self._config.scheme == 'dense'
        start = rng.integers(max(int(free), 0) + 1) if whole else rng.uniform(0, max(free, 0))
        return strided(num_frames, self.num_frames, extent, start)

    def view(self, num_frames: int, fps: float, view: int = 0, views: int = 1) -> np.ndarray:
        """int64[t]: the view-th of `views` fixed clips, for testing."""
        if self._config.scheme == 'segments':
            where = (view + 0.5) / views
            return segments(num_frames, self.num_segments, self._config.seg_len, where)
        extent, free = self._clip(num_frames, fps)
        start = view_start(free, view, views, self._config.view_offset)
        return strided(num_frames, self.num_frames, extent, start)

    def _clip(self, num_frames: int, fps: float) -> tuple[float, float]:
        """(frames between the first and the last sample, frames by which the clip can be moved)."""
        rate = self._config.sampling_rate
        if self._config.scheme == 'dense':
            extent = (self.num_frames - 1) * rate
            return extent, num_frames - 1 - extent
        # As the TimeSformer reader has it: the clip's length is that of all its strides, the last one too.
        span = rate * self.num_frames * fps / self._config.target_fps
        return span - 1, num_frames - span


def views_at_once(config: Config) -> int:
    """How many views of testing a device holds at once: as configured, or what makes about as many pixels on any network.

    64 frames of 224 x 224 keep the cores of a CPU and most accelerators busy, and a ResNet-50 then takes about 1 GB.
    """
    view = Sampler(config.sampling, training=False).num_frames * config.augment.crop_size**2
    return config.test.batch_size or max(_PIXELS_AT_ONCE // view, 1)


def largest_divisor(number: int, limit: int) -> int:
    """The largest divisor of `number` up to `limit`, at least 1."""
    return max(part for part in range(1, number + 1) if number % part == 0 and part <= max(limit, 1))
