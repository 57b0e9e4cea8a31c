"""Decodes video: a file's frames in the order of presentation, with their times. No other module decodes video.

Decoding starts at the first frame that decodes and ends at the first error after it. The frames before the error are
kept, and `damage` says what is missing. A file without any frame that decodes raises `VideoError`.
"""

import os
from collections.abc import Callable, Iterator

import av

from vidcls.data.container import MAX_PIXELS, VideoError, check_size, open_container, reason, video_stream
from vidcls.data.frame_times import stated_rate

_report_frame: Callable[[], None] = lambda: None


def report_frames(to: Callable[[], None]) -> None:
    """Makes this process call `to` at each frame that it decodes, so that another process sees its progress."""
    global _report_frame
    _report_frame = to


class DecodedFrames:
    """Iterates over a file's decoded frames, once, and remembers their times.

    A `live` source may go on for ever: its times are not remembered, and a packet that can't be decoded does not end
    the iteration.

    Attributes:
      path: the file, or the live source.
      times: the times of the frames so far, seconds; None for a frame to which the file gives no time.
      nominal_fps: the rate that the header states, frames per second, or None; set once the iteration has begun.
      damage: what ended the iteration too soon, else ''.
    """

    def __init__(self, path: str | os.PathLike, live: bool = False):
        self.path = os.fspath(path)
        self.damage = ''
        self.times: list[float | None] = []
        self.nominal_fps: float | None = None
        self._live = live
        self._first: av.VideoFrame | None = None
        self._count = 0
        self._promised = 0.0  # the duration by the header, seconds
        self._is_sized = True  # whether the header states the frames' size

    def __iter__(self) -> Iterator[av.VideoFrame]:
        try:
            with open_container(self.path, self._live) as container:
                yield from self._decode(container)
        except VideoError:
            raise
        except (av.error.FFmpegError, OSError, ValueError) as error:
            if self._first is None:
                raise VideoError(self.path, reason(self.path, error)) from error
            self.damage = f'{self._count} frames, then {reason(self.path, error)}'

    def _decode(self, container: av.container.InputContainer) -> Iterator[av.VideoFrame]:
        stream = video_stream(self.path, container)
        self._is_sized = stream.codec_context.width > 0
        self.nominal_fps = stated_rate(stream)
        # FFmpeg recomputes the duration of a cut AVI from what is left, but not its number of frames.
        durations = (
            float((stream.duration or 0) * (stream.time_base or 0)),
            stream.frames / self.nominal_fps if self.nominal_fps else 0.0,
        )
        self._promised = max(durations)
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                if self._first is not None and not self._live:
                    raise
                continue  # a stream that is cut before a key frame starts with packets that can't be decoded
            for frame in frames:
                # libavcodec returns frames in the order of presentation, but with time stamps that may be out of order:
                # AVIs with packed B-frames (all of HMDB51) have 1, 4, 3, 5... on frames in perfect order.
                check_size(self.path, frame.width, frame.height)
                _report_frame()
                self._first = self._first or frame
                self._count += 1
                if not self._live:
                    self.times.append(frame.time)
                yield frame

    @property
    def first(self) -> av.VideoFrame:
        """The first frame, available after iterating.

        Raises:
          VideoError: no frame was decoded.
        """
        if self._first is None:
            limit = '' if self._is_sized else f': all are damaged, or have more than {MAX_PIXELS:,} pixels'
            raise VideoError(self.path, f'no frame can be decoded{limit}')
        return self._first

    def check_any(self) -> None:
        """Raises VideoError if no frame was decoded. Call it after iterating."""
        _ = self.first

    def missing(self, last: float, rate: float) -> str:
        """What is missing of the duration that the header promises, as a text for `damage`; '' if nothing is missing.

        Args:
          last: the time from the first frame to the last, seconds.
          rate: frames per second; the last frame stays for 1 / rate.
        """
        span, promised = last + 1 / rate, self._promised
        # The header of a complete file may be off by a frame or two.
        if span < min(0.9 * promised, promised - 3 / rate):
            return f'it ends after {span:.2f} s of the {promised:.2f} s that its header promises'
        return ''


class PacketTimes(DecodedFrames):
    """Reads the times of a file's packets without decoding them. Iterating yields no frame.

    Most files have one packet for each frame.
    """

    def _decode(self, container: av.container.InputContainer) -> Iterator[av.VideoFrame]:
        stream = video_stream(self.path, container)
        self.nominal_fps = stated_rate(stream)
        for packet in container.demux(stream):
            if packet.size:
                self.times.append(None if packet.pts is None else float(packet.pts * packet.time_base))
        yield from ()
