"""The times and the rate of a video's frames, and the frames that are on screen at a fixed rate.

Containers round the times of frames, leave them out or damage them. A damaged time never decides how long an array
becomes.
"""

from collections.abc import Sequence

import av
import numpy as np

from vidcls.data.container import VideoError
from vidcls.data.frame_storage import MAX_CLIP_BYTES

ROUNDING = 1e-3  # seconds: the largest step to which containers round times
IMAGE_FPS = 25.0  # the rate of frames that come as image files, which state no times
# Seconds from one frame to the next. A longer gap is a damaged clock, not a pause: a file of 800 bytes can say that its
# next frame comes in a year.
LONGEST_GAP = 600.0
_SMALLEST_JPEG = 600  # bytes that the tables of a JPEG take alone


def stated_rate(stream: av.video.stream.VideoStream) -> float | None:
    """The rate that the file's header states, frames per second; None if it states no rate or an impossible one."""
    rate = float(stream.average_rate or 0)
    return rate if rate > 1 / LONGEST_GAP else None


def frame_times(times: Sequence[float | None], nominal_fps: float | None) -> tuple[np.ndarray, float]:
    """The sorted times of frames float64[t] in seconds, and their average rate in frames per second.

    If the times agree with the header's rate within 5 %, the rate is the header's, because times are rounded and some
    AVIs count a frame that is not there. Otherwise the rate is measured from the times, which is right for variable
    rates. Times with a gap longer than `LONGEST_GAP` are not measured: the rate is then the header's, or else
    `IMAGE_FPS`.

    Args:
      times: the time of each frame, seconds; None where the file states none.
      nominal_fps: the header's rate, or None if it states none.
    """
    step = 1 / (nominal_fps or IMAGE_FPS)
    filled, previous = [], -step
    for time in times:
        previous = previous + step if time is None else time
        filled.append(previous)
    sorted_times = np.sort(np.array(filled, np.float64))
    span = sorted_times[-1] - sorted_times[0]
    is_clock = span > 0 and np.diff(sorted_times).max() <= LONGEST_GAP
    measured = (len(filled) - 1) / span if is_clock else nominal_fps or IMAGE_FPS
    if nominal_fps and abs(measured - nominal_fps) <= 0.05 * nominal_fps:
        return sorted_times, nominal_fps
    return sorted_times, float(measured)


def check_clock(path: str, times: np.ndarray, rate: float, fps: float) -> None:
    """Refuses times that would make too many frames at a fixed rate.

    Args:
      times: float64[n], ascending: when each frame appears, seconds.
      rate: the average rate of `times`.
      fps: the fixed rate.

    Raises:
      VideoError: two frames are too far apart, or the video has more frames at `fps` than a clip may have.
    """
    gaps = np.diff(times)
    if len(gaps) and gaps.max() > LONGEST_GAP:
        raise VideoError(
            path,
            f'frame {gaps.argmax() + 1} comes {gaps.max():,.0f} s after the one before it, and at a fixed rate (--fps) at '
            f'most {LONGEST_GAP:.0f} s are filled: its clock is damaged; convert without --fps or cut the video',
        )
    frames, most = (times[-1] - times[0] + 1 / rate) * fps, MAX_CLIP_BYTES // _SMALLEST_JPEG
    if frames > most:
        raise VideoError(
            path,
            f'at {fps:g} frames a second it has {frames:,.0f}, and a clip of {MAX_CLIP_BYTES >> 20} MiB at most {most:,}; '
            'lower --fps or cut the video',
        )


def resample(times: np.ndarray, rate: float, fps: float) -> np.ndarray:
    """The frames that are on screen at 0, 1/fps, 2/fps... seconds after the first frame.

    Args:
      times: float64[n], ascending: when each frame appears, seconds.
      rate: the average rate of `times`; the last frame stays for 1 / rate.
      fps: the rate to sample at.

    Returns:
      int64[t]: for each moment, the number of the latest frame that has appeared by then.
    """
    duration = times[-1] - times[0] + 1 / rate
    moments = times[0] + np.arange(max(1, round(duration * fps))) / fps
    return np.searchsorted(times, moments + ROUNDING, side='right') - 1
