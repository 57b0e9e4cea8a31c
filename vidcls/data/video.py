"""A video file -> frames. The only place that decodes video; conversion and prediction share it.

A stored frame is a JPEG as `frame_jpeg` makes it: upright, short side at most `short_side` pixels,
never enlarged. `encode` makes all frames of a video in one pass; `probe` tells how many there are
and `read_frames` makes chosen ones, the same bits, for prediction. Neither TensorFlow nor JAX is
imported here.

What is on disk and what is stored:
  - Every frame in the order of presentation; with `fps`, the frame on screen at 0, 1/fps, 2/fps...
  - Decoding starts at the first frame that decodes and ends at the first error after it: what was
    read until there is kept and `Video.damage` says what is missing. No frame at all: `VideoError`.
  - A file of pictures too large, or with `fps` of times too far apart (`LONGEST_GAP`), is refused: what it
    states must not decide how much memory is taken. Limits on opening: `vidcls.data.container`.
  - Rotation in the metadata is applied. Pixels count as square, interlacing is ignored.
  - A frame whose size differs from the first one's is resized to it.
"""

import dataclasses
import math
import os
from collections.abc import Callable, Iterator, Sequence

import av
import numpy as np
import simplejpeg

from vidcls.data.container import (
    MAX_PIXELS,
    VideoError,
    check_size,
    naming,
    open_container,
    reason,
    video_stream,
)
from vidcls.data.frame_jpeg import FrameEncoder

SHORT_SIDE = 256
_CLOCK = 1e-3  # seconds: containers round their clocks to as much
IMAGE_FPS = 25.0  # of frames that come as image files, which carry no clock
# A TFRecord is one protocol buffer, which ends at 2 GiB.
MAX_CLIP_BYTES = 1 << 30
_SMALLEST_JPEG = 600  # bytes: its tables alone
# Seconds from one frame to the next. What is further away is a damaged clock, not a pause: a file of 800 bytes can say that
# its next frame comes in a year.
LONGEST_GAP = 600.0

# What counts as a video where a folder is searched; a file that is named is always tried.
SUFFIXES = frozenset((
    '.3gp', '.avi', '.flv', '.gif', '.m2ts', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg', '.mts',
    '.ogv', '.ts', '.vob', '.webm', '.wmv',
))  # fmt: skip


_report_frame: Callable[[], None] = lambda: None


def report_frames(to: Callable[[], None]) -> None:
    """From now on this process calls `to` at each frame that it decodes, so that others see that it goes on."""
    global _report_frame
    _report_frame = to


@dataclasses.dataclass(frozen=True)
class Video:
    """A video as it is stored (t frames), known after one pass of decoding.

    Attributes:
      path: the file.
      short_side: limit on the frames' short side, pixels.
      height, width: of the stored frames, pixels.
      fps: stored frames per second.
      decoded: int64[t], the number of the decoded frame that each stored frame shows.
      damage: what is wrong with a file that is used in part, else ''.
    """

    path: str
    short_side: int
    height: int
    width: int
    fps: float
    decoded: np.ndarray
    damage: str

    @property
    def num_frames(self) -> int:
        return len(self.decoded)


def probe(path: str | os.PathLike, *, short_side: int = SHORT_SIDE, fps: float | None = None) -> Video:
    """Decodes the whole video once, keeping no frame, and tells how it would be stored.

    Raises:
      VideoError: nothing in the file can be decoded.
    """
    with naming(path):
        stream = _Stream(path)
        for _ in stream:
            pass
        return stream.describe(FrameEncoder(stream.first, short_side), fps)


def read_frames(
    path: str | os.PathLike,
    indices: Sequence[int],
    *,
    short_side: int = SHORT_SIDE,
    fps: float | None = None,
) -> np.ndarray:
    """The stored frames `indices` (any order, repeats allowed) as RGB, uint8[t h w c].

    They pass through the same JPEG as stored ones, so prediction sees what evaluation saw.

    Raises:
      VideoError: nothing in the file can be decoded, or a frame is not there.
    """
    jpegs = read_jpegs(path, indices, short_side=short_side, fps=fps)
    return np.stack([simplejpeg.decode_jpeg(jpeg) for jpeg in jpegs])


def read_chosen(
    path: str | os.PathLike,
    choose: Callable[[int, float], Sequence[int]],
    *,
    short_side: int = SHORT_SIDE,
    fps: float | None = None,
) -> tuple[Video, np.ndarray]:
    """A video, and the stored frames that `choose` wants of it, as `probe` and `read_frames` give them.

    How many frames there are is known at the end alone, but the packets of most files tell it before anything is
    decoded. So the file is decoded once, and a second time where its packets said something else. No more than the
    chosen frames are kept, however long the video is.

    Args:
      choose: (number of stored frames, frames per second) -> indices of stored frames, any order, repeats allowed.

    Returns:
      The video, and the frames, RGB uint8[t h w c], in the order of the indices.

    Raises:
      VideoError: nothing in the file can be decoded.
    """
    with naming(path):
        likely = set(_likely(path, choose, fps))
        jpegs, encoder, stream = {}, None, _Stream(path)
        for number, frame in enumerate(stream):
            encoder = encoder or FrameEncoder(frame, short_side)
            if number in likely:
                jpegs[number] = encoder(frame)
        video = stream.describe(encoder or FrameEncoder(stream.first, short_side), fps)
        chosen = video.decoded[np.asarray(choose(video.num_frames, video.fps), np.int64)]
        missing = np.array(sorted(set(chosen.tolist()) - set(jpegs)), np.int64)
        if len(missing):
            jpegs |= zip(missing.tolist(), _encode_chosen(path, missing, short_side))
        pixels = {number: simplejpeg.decode_jpeg(jpegs[number]) for number in set(chosen.tolist())}
        return video, np.stack([pixels[number] for number in chosen.tolist()])


def _likely(path: str | os.PathLike, choose: Callable[[int, float], Sequence[int]], fps: float | None) -> list[int]:
    """The decoded frames that `choose` will want, as far as the file's packets tell; nothing where they tell nothing."""
    packets = _Packets(path)
    try:
        for _ in packets:
            pass
    except VideoError:
        return []
    found = []
    # An AVI with packed B-frames (all of HMDB51) has a packet more than frames, and the second one's time is no frame's.
    for listed in (packets.times, packets.times[:1] + packets.times[2:]):
        if not listed:
            continue
        times, rate = frame_times(listed, packets.nominal_fps)
        decoded = np.arange(len(times))
        if fps is not None:
            try:
                _check_clock(packets.path, times, rate, fps)
            except VideoError:  # the frames' own times may be better
                continue
            decoded = resample(times, rate, fps)
        found += decoded[np.asarray(choose(len(decoded), fps or rate), np.int64)].tolist()
    return found


def read_jpegs(
    path: str | os.PathLike,
    indices: Sequence[int],
    *,
    short_side: int = SHORT_SIDE,
    fps: float | None = None,
) -> list[bytes]:
    """As `read_frames`, encoded: equal to those that `encode` makes."""
    numbers = np.asarray(indices, np.int64)
    if fps is not None:
        decoded = probe(path, short_side=short_side, fps=fps).decoded
        if numbers.max() >= len(decoded):
            raise VideoError(path, f'there is no frame {numbers.max()}, only {len(decoded)}')
        numbers = decoded[numbers]
    return _encode_chosen(path, numbers, short_side)


def _encode_chosen(path: str | os.PathLike, numbers: np.ndarray, short_side: int) -> list[bytes]:
    """JPEGs of the decoded frames `numbers`, in that order; decodes no further than the last."""
    pending = set(numbers.tolist())
    jpegs, encoder, stream = {}, None, _Stream(path)
    with naming(path):
        for number, frame in enumerate(stream):
            encoder = encoder or FrameEncoder(frame, short_side)
            if number in pending:
                jpegs[number] = encoder(frame)
                pending.remove(number)
            if not pending:
                break
    if pending:
        stream.first  # noqa: B018, raises where nothing came
        raise VideoError(path, f'there is no frame {min(pending)}, only {number + 1}')
    return [jpegs[number] for number in numbers.tolist()]


def watch(source: str, *, short_side: int = SHORT_SIDE, fps: float | None = None) -> Iterator[tuple[float, np.ndarray]]:
    """(seconds since the first frame, RGB uint8[h w c]) of each frame as it comes, as it would be stored.

    What can't be decoded on the way is passed over: a lost packet ends no live stream.

    Args:
      source: a file, an address that FFmpeg opens (rtsp://, http://...), or the number of a camera.
      fps: frames that come faster are left out; None: every frame.

    Raises:
      VideoError: it can't be opened, or breaks off; the frames until then were given.
    """
    stream = _Stream(source, live=True)
    encoder, start, due, last = None, None, 0.0, 0.0
    with naming(source):
        for number, frame in enumerate(stream):
            encoder = encoder or FrameEncoder(frame, short_side)
            time = number / (stream.nominal_fps or IMAGE_FPS) if frame.time is None else frame.time
            start = time if start is None else start
            moment = time - start
            last = max(last, moment)
            if fps is not None:
                if moment < due - _CLOCK:
                    continue
                due = (math.floor((moment + _CLOCK) * fps) + 1) / fps  # a gap is not made up for
            yield moment, simplejpeg.decode_jpeg(encoder(frame))
        stream.first  # noqa: B018, raises where nothing came
        if damage := stream.damage or stream.missing(last, stream.nominal_fps or IMAGE_FPS):
            raise VideoError(source, damage)


def encode(
    path: str | os.PathLike, *, short_side: int = SHORT_SIDE, fps: float | None = None
) -> tuple[Video, list[bytes]]:
    """All stored frames of a video, as JPEGs.

    Raises:
      VideoError: nothing in the file can be decoded, or the JPEGs exceed one record.
    """
    if fps is not None:
        # Most frames will not be stored: decoding twice is cheaper than encoding them.
        video = probe(path, short_side=short_side, fps=fps)
        jpegs = _encode_chosen(path, video.decoded, short_side)
        _check_bytes(path, sum(map(len, jpegs)))
        return video, jpegs
    stream = _Stream(path)
    encoder, jpegs, size = None, [], 0
    with naming(path):
        for frame in stream:
            encoder = encoder or FrameEncoder(frame, short_side)
            jpegs.append(encoder(frame))
            size += len(jpegs[-1])
            _check_bytes(path, size)
        return stream.describe(encoder or FrameEncoder(stream.first, short_side), None), jpegs


def encode_images(paths: Sequence[str | os.PathLike], *, short_side: int = SHORT_SIDE) -> tuple[int, int, list[bytes]]:
    """Frames that come as image files, as (height, width, JPEGs), made as a video's frames are.

    Raises:
      VideoError: an image cannot be read.
    """
    encoder, jpegs = None, []
    for path in paths:
        with naming(path):
            stream = _Stream(path)
            frame = next(iter(stream), None) or stream.first
            encoder = encoder or FrameEncoder(frame, short_side)
            jpegs.append(encoder(frame))
    return encoder.height, encoder.width, jpegs


def _check_bytes(path: str | os.PathLike, size: int) -> None:
    if size > MAX_CLIP_BYTES:
        raise VideoError(
            path,
            f'its frames take more than {MAX_CLIP_BYTES >> 20} MiB as JPEGs, the limit '
            'of one clip; store fewer (--fps), smaller ones (--short_side) or cut the video',
        )


class _Stream:
    """Iterates over a file's decoded frames, once, and remembers their times.

    A `live` one may go on for ever: it remembers none, and what can't be decoded does not end it.
    """

    def __init__(self, path: str | os.PathLike, live: bool = False):
        self.path = os.fspath(path)
        self._live = live
        self._first = None
        self.damage = ''
        self._count = 0
        self.times: list[float | None] = []
        self.nominal_fps: float | None = None
        self._promised = 0.0  # seconds, by the header
        self._is_sized = True  # whether the header states the pictures' size

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
        # A cut AVI has its duration recomputed from what is left, its frame count not.
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
                continue  # a stream cut before a key frame starts with what cannot be decoded
            for frame in frames:
                # libavcodec's order is the order of presentation. The clocks are not: AVIs with
                # packed B-frames (all of HMDB51) have 1, 4, 3, 5... on frames in perfect order.
                check_size(self.path, frame.width, frame.height)
                _report_frame()
                self._first = self._first or frame
                self._count += 1
                if not self._live:
                    self.times.append(frame.time)
                yield frame

    @property
    def first(self) -> av.VideoFrame:
        """The first frame, after iterating."""
        if self._first is None:
            hint = '' if self._is_sized else f'; pictures of more than {MAX_PIXELS:,} pixels are not tried'
            raise VideoError(self.path, f'no frame can be decoded{hint}')
        return self._first

    def describe(self, encoder: FrameEncoder, fps: float | None) -> Video:
        """What was read, stored at `fps` or at its own rate; after iterating to the end."""
        times, rate = frame_times(self.times, self.nominal_fps)
        if fps is not None:
            _check_clock(self.path, times, rate, fps)
        return Video(
            path=self.path,
            short_side=encoder.short_side,
            height=encoder.height,
            width=encoder.width,
            fps=fps or rate,
            decoded=np.arange(len(times)) if fps is None else resample(times, rate, fps),
            damage=self.damage or self.missing(times[-1] - times[0], rate),
        )

    def missing(self, last: float, rate: float) -> str:
        """What to say of a file whose frame at `last` seconds was its last, against its header; '' if all is there."""
        span, promised = last + 1 / rate, self._promised
        # Headers of whole files are off by a frame or two.
        if span < min(0.9 * promised, promised - 3 / rate):
            return f'it ends after {span:.2f} s of the {promised:.2f} s that its header promises'
        return ''


class _Packets(_Stream):
    """The times of a file's packets, one for each frame of most files, without decoding."""

    def _decode(self, container: av.container.InputContainer) -> Iterator[av.VideoFrame]:
        stream = video_stream(self.path, container)
        self.nominal_fps = stated_rate(stream)
        for packet in container.demux(stream):
            if packet.size:
                self.times.append(None if packet.pts is None else float(packet.pts * packet.time_base))
        yield from ()


def stated_rate(stream: av.video.stream.VideoStream) -> float | None:
    """Frames per second by the file's header; None where it states none, or one that can't be."""
    rate = float(stream.average_rate or 0)
    return rate if rate > 1 / LONGEST_GAP else None


def frame_times(times: Sequence[float | None], nominal_fps: float | None) -> tuple[np.ndarray, float]:
    """Sorted times float64[t] in seconds, and the average rate in frames per second.

    The container's rate is kept where the times agree with it within 5 %, for clocks are rounded
    and some AVIs count a frame that is not there; the measured one is right for variable rates. Of a
    clock that jumps over more than `LONGEST_GAP` nothing is measured.
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


def _check_clock(path: str, times: np.ndarray, rate: float, fps: float) -> None:
    """Raises VideoError where times are too far apart to be filled at a fixed rate."""
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
    """Which frame is on screen at 0, 1/fps, 2/fps... from the first one on.

    Args:
      times: float64[n] ascending, when each frame appears, seconds.
      rate: its average rate; the last frame stays for 1 / rate.
      fps: the rate to sample at.

    Returns:
      int64[t], numbers of the latest frames not after those moments.
    """
    duration = times[-1] - times[0] + 1 / rate
    moments = times[0] + np.arange(max(1, round(duration * fps))) / fps
    return np.searchsorted(times, moments + _CLOCK, side='right') - 1
