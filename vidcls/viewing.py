"""Makes the views that a run looks at in a video. The video is a file, or an array of frames uint8[t h w c].

The video is prepared as the clips of the run's dataset were (size, rate, optical flow). Its frames and windows are
chosen by the code of evaluation. Neither TensorFlow nor the network is needed.
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
# A function (number of stored frames, frames per second) -> indices of the frames that it chooses.
Choice: TypeAlias = Callable[[int, float], Sequence[int] | np.ndarray]


class View(NamedTuple):
    """A view of a video.

    Attributes:
      frames: uint8[t h w c], whole RGB frames as they would be stored.
      window: the rectangle that the network looks at in each frame.
      times: float64[t], the time at which each frame appears, in seconds after the first frame of the video.
      pictures: uint8[p h w c], the pictures that the network looks at: the frames themselves, or their optical flow as
        a dataset would store it.
    """

    frames: np.ndarray
    window: Window
    times: np.ndarray
    pictures: np.ndarray


class Viewer:
    """Makes the views of videos for the network of a run.

    Args:
      config: the run's configuration, with the settings of the test.
      frames: how the frames of the run's dataset are stored.

    Attributes:
      views_each: the number of views of a video.
    """

    def __init__(self, config: Config, frames: FrameStorage):
        self._config, self._frames = config, frames
        self._sampler = Sampler(config.sampling, training=False)
        self.views_each = config.test.clips * config.test.crops

    def views(self, source: Source, fps: float | None = None) -> list[View]:
        """The views of a video. The windows of the first view in time come first.

        Args:
          source: a path, or an array of RGB frames uint8[t h w c].
          fps: frames per second of the array. None means the rate of the dataset's stored frames, or
            `frame_times.IMAGE_FPS` if the dataset keeps every frame.

        Raises:
          vidcls.data.container.VideoError: the file can't be read; the message names the file and the reason.
          ValueError, TypeError: as in `check`.
        """
        return self.views_and_more(source, lambda num_frames, rate: [], fps)[0]

    def views_and_more(
        self, source: Source, more: Choice, fps: float | None = None
    ) -> tuple[list[View], list[bytes], np.ndarray]:
        """The views of a video and other frames of the video, decoded in one pass.

        The errors are the same as in `views`.

        Args:
          source: as in `views`.
          more: a function that chooses the other frames.
          fps: as in `views`.

        Returns:
          The views, as `views` returns them; the JPEGs of the other frames, as they would be stored; and the times of
            the other frames, float64[t], in seconds after the first frame of the video, at its average rate.
        """
        check(source, fps)
        clips, in_flow = self._config.test.clips, self._config.sampling.modality == 'flow'
        pairs = np.zeros((0, 2), np.int64)  # the pairs of frames whose flow is looked at

        def choose(num_frames: int, rate: float) -> np.ndarray:
            nonlocal pairs  # the last call decides: an earlier call may be given a wrong number of frames
            chosen = np.concatenate([self._sampler.view(num_frames, rate, clip, clips) for clip in range(clips)])
            pairs = chosen_flow.pairs(chosen, num_frames) if in_flow else pairs
            return np.concatenate([chosen, pairs.ravel(), np.asarray(more(num_frames, rate), np.int64)])

        jpegs, times = self._read(source, choose, fps)
        seen = clips * self._sampler.num_frames
        rest = seen + pairs.size
        decoded = video.pixels(jpegs[:rest])
        frames = pictures = decoded[:seen]
        if in_flow:
            assert self._frames.flow is not None  # `workdir.load` checks this
            by_number = dict(zip(pairs.ravel().tolist(), decoded[seen:]))
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
    """Returns the source or the sources as a list, after a `check` of each.

    Raises:
      ValueError, TypeError: as in `check`; the message also gives the place in the list.
    """
    sources = source if isinstance(source, list) else [source]
    for number, one in enumerate(sources):
        check(one, fps, f'number {number} of the list: ' if isinstance(source, list) else '')
    return sources


def check(source: Any, fps: float | None, which: str = '') -> None:
    """Refuses a source that is neither a path nor an array of frames, and a rate that is not a positive number.

    Args:
      source: the source.
      fps: the rate of frames, or None.
      which: how the message begins, such as with the place of the source in a list.

    Raises:
      ValueError, TypeError: the message says what was given, and what must be given.
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
