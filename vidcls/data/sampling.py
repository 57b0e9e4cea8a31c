"""Which frames of a video: pure functions of its number of frames and of where to look. Out: int64[t], ascending.

A video shorter than what is asked for repeats frames, in order: segments shrink below one frame, and an index past the
end is the last frame.

Sources: TSN (Wang et al. 2016, section 3.1) for segments; TimeSformer's clip of `sampling_rate` (Bertasius et al. 2021,
section 4) for strided clips.
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
    tick = max(num_frames - seg_len + 1, 1) / num_segments
    starts = np.floor(tick * (np.arange(num_segments) + where)).astype(np.int64)
    frames = (starts[:, None] + np.arange(seg_len)).reshape(-1)
    return np.minimum(frames, num_frames - 1)


def strided(num_frames: int, count: int, step: float, start: float) -> np.ndarray:
    """`count` frames, `step` apart (a fraction is cut off last), the first at `start`."""
    frames = np.floor(start + step * np.arange(count)).astype(np.int64)
    return np.clip(frames, 0, num_frames - 1)


def view_start(free: float, view: int, views: int) -> float:
    """Where view number `view` starts when a clip can be moved by `free` frames.

    The first of several views starts at the beginning, the last one reaches the end; a single view is the centre.
    """
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
        step, free = self._stride(num_frames, fps)
        whole = self._config.scheme == 'dense'
        start = rng.integers(max(int(free), 0) + 1) if whole else rng.uniform(0, max(free, 0))
        return strided(num_frames, self.num_frames, step, start)

    def view(self, num_frames: int, fps: float, view: int = 0, views: int = 1) -> np.ndarray:
        """int64[t]: the view-th of `views` fixed clips, for testing."""
        if self._config.scheme == 'segments':
            where = (view + 0.5) / views
            return segments(num_frames, self.num_segments, self._config.seg_len, where)
        step, free = self._stride(num_frames, fps)
        return strided(num_frames, self.num_frames, step, view_start(free, view, views))

    def _stride(self, num_frames: int, fps: float) -> tuple[float, float]:
        """(frames between two samples, frames by which the clip can be moved)."""
        rate = self._config.sampling_rate
        if self._config.scheme == 'dense':
            return rate, num_frames - 1 - (self.num_frames - 1) * rate
        # As the TimeSformer reader has it: the clip's length is that of all its strides, the last one too.
        span = rate * self.num_frames * fps / self._config.target_fps
        return (span - 1) / max(self.num_frames - 1, 1), num_frames - span


def views_at_once(config: Config) -> int:
    """How many views of testing a device holds at once: as configured, or what makes about as many pixels on any network.

    64 frames of 224 x 224 keep the cores of a CPU and most accelerators busy, and a ResNet-50 then takes about 1 GB.
    """
    view = Sampler(config.sampling, training=False).num_frames * config.augment.crop_size**2
    return config.test.batch_size or max(_PIXELS_AT_ONCE // view, 1)
