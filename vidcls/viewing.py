"""What a run looks at in a video: a file, or frames uint8[t h w c] in memory -> views.

The video is prepared as the clips of the run's dataset were (size, rate, optical flow), and its frames and windows are chosen
by the code of evaluation. Neither TensorFlow nor the network is needed.
"""

import math
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from absl import logging

from vidcls.config import Config
from vidcls.data import chosen_flow, video
from vidcls.data.frame_storage import FrameStorage
from vidcls.data.frame_times import IMAGE_FPS
from vidcls.data.sampling import Sampler
from vidcls.data.windows import Window, view_windows

Source: TypeAlias = str | os.PathLike | np.ndarray  # a file, or RGB frames uint8[t h w c]
# (number of stored frames, frames per second) -> their indices
Choice: TypeAlias = Callable[[int, float], Sequence[int] | np.ndarray]


class View(NamedTuple):
    """A view of a video.

    Attributes:
      frames: uint8[t h w c], whole frames as they would be stored, RGB.
      window: what the network looks at in each of them.
      times: float64[t], when each frame appears, seconds after the first frame of the video.
      pictures: uint8[p h w c], what a dataset of the run's modality would hold of these frames: themselves, or their flow.
    """

    frames: np.ndarray
    window: Window
    times: np.ndarray
    pictures: np.ndarray


class Viewer:
    """Makes the views of videos for the network of a run.

    Args:
      config: the run's configuration, as it is tested.
      frames: how the frames of the run's dataset are stored.

    Attributes:
      views_each: the number of views of a video.
    """

    def __init__(self, config: Config, frames: FrameStorage):
        self._config, self._frames = config, frames
        self._sampler = Sampler(config.sampling, training=False)
        self.views_each = config.test.clips * config.test.crops

    def views(self, source: Source, fps: float | None = None) -> list[View]:
        """What the network looks at in a video: the windows of the first view in time come first.

        Args:
          source: a path, or an array of RGB frames uint8[t h w c].
          fps: as in `ranking.Ranks.classify`, as are the errors.
        """
        return self.views_and_more(source, lambda num_frames, rate: [], fps)[0]

    def views_and_more(
        self, source: Source, more: Choice, fps: float | None = None
    ) -> tuple[list[View], list[bytes], np.ndarray]:
        """The views of a video and other frames of it, decoded in one pass.

        Args:
          more: chooses the other frames.
          source, fps: as in `views`, as are the errors.

        Returns:
          What `views` gives; the other frames as they would be stored, JPEGs; and their times float64[t], seconds after
            the first frame, at the video's average rate.
        """
        check(source, fps)
        clips, in_flow = self._config.test.clips, self._config.sampling.modality == 'flow'
        pairs = np.zeros((0, 2), np.int64)  # the frames whose flow is seen

        def choose(num_frames: int, rate: float) -> np.ndarray:
            nonlocal pairs  # of the last call: an earlier call may have a wrong number of frames
            chosen = np.concatenate([self._sampler.view(num_frames, rate, clip, clips) for clip in range(clips)])
            pairs = chosen_flow.pairs(chosen, num_frames) if in_flow else pairs
            return np.concatenate([chosen, pairs.ravel(), np.asarray(more(num_frames, rate), np.int64)])

        jpegs, times = self._read(source, choose, fps)
        seen = clips * self._sampler.num_frames
        rest = seen + pairs.size
        frames = pictures = video.pixels(jpegs[:seen])
        if in_flow:
            assert self._frames.flow is not None  # `workdir.load` sees to it
            by_number = dict(zip(pairs.ravel().tolist(), video.pixels(jpegs[seen:rest])))
            pictures = chosen_flow.pictures(pairs, by_number, self._frames.flow)
        height, width = frames.shape[1:3]
        windows = view_windows(height, width, self._config.augment, self._config.test.crops)
        in_time = (x.reshape(clips, -1, *x.shape[1:]) for x in (frames, times[:seen], pictures))
        views = [View(part, window, when, what) for part, when, what in zip(*in_time) for window in windows]
        return views, jpegs[rest:], times[rest:]

    def _read(self, source: Source, choose: Choice, fps: float | None) -> tuple[list[bytes], np.ndarray]:
        """The chosen frames of a video as they would be stored, and their times."""
        stored: dict[str, Any] = {'short_side': self._frames.short_side, 'fps': self._frames.fps}
        if isinstance(source, np.ndarray):
            return video.choose_jpegs_of(source, choose, fps or self._frames.fps or IMAGE_FPS, **stored)
        info, jpegs = video.choose_jpegs(source, choose, **stored)
        if info.damage:
            logging.warning('%s: damaged, used in part: %s', source, info.damage)
        return jpegs, np.asarray(choose(info.num_frames, info.fps)) / info.fps


def listed(source: Source | list[Any], fps: float | None) -> list[Source]:
    """The source or sources as a list, after `check` of each.

    Raises:
      ValueError, TypeError: as in `check`; the message has the place in the list.
    """
    sources = source if isinstance(source, list) else [source]
    for number, one in enumerate(sources):
        check(one, fps, f'number {number} of the list: ' if isinstance(source, list) else '')
    return sources


def check(source: Any, fps: float | None, which: str = '') -> None:
    """Refuses what is neither a path nor an array of frames; `which` names it in the message.

    Raises:
      ValueError, TypeError: says what was given, and what must be.
    """
    if fps is not None and not (fps > 0 and math.isfinite(fps)):
        raise ValueError(f'fps={fps}: must be greater than 0')
    if isinstance(source, str | os.PathLike):
        return
    if not isinstance(source, np.ndarray):
        raise TypeError(
            f'{which}{type(source).__name__}: must be a path, RGB frames uint8[t h w 3], or a list of these'
        )
    if source.dtype != np.uint8 or source.ndim != 4 or source.shape[-1] != 3 or not source.size:
        raise ValueError(f'{which}an array of {source.dtype}{list(source.shape)}: must be RGB frames uint8[t h w 3]')
