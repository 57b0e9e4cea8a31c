"""Turns a video file into stored frames, for conversion and for prediction.

A stored frame is a JPEG as `frame_jpeg` makes it: upright, with a short side of at most `short_side` pixels, never
enlarged. `encode` makes all stored frames of a video. For prediction, `probe` tells how many frames there are,
`read_frames` reads chosen ones, and `choose_jpegs` does both in one pass. They read the same frames as `encode` makes,
bit for bit. Neither TensorFlow nor JAX is imported here.

These rules decide what is stored of a file:
  - Every frame is stored, in the order of presentation. With `fps`, the frames on screen at 0, 1/fps, 2/fps...
    seconds are stored instead.
  - A file that breaks off is used as far as it goes, and `Video.damage` says what is missing. A file without any frame
    that decodes raises `VideoError` (`vidcls.data.decoding`).
  - A file is refused if its frames are too large or, with `fps`, if their times are too far apart
    (`frame_times.LONGEST_GAP`): what a file states must not decide how much memory is taken. The limits on opening are
    in `vidcls.data.container`.
  - Rotation in the metadata is applied. Pixels count as square, interlacing is ignored.
  - A frame whose size differs from the first frame's is resized to the first frame's size.
"""

import dataclasses
import os
from collections.abc import Callable, Sequence

import av
import numpy as np
import simplejpeg

from vidcls.data.container import VideoError, naming
from vidcls.data.decoding import DecodedFrames, PacketTimes
from vidcls.data.frame_jpeg import FrameEncoder
from vidcls.data.frame_storage import MAX_CLIP_BYTES, SHORT_SIDE
from vidcls.data.frame_times import check_clock, frame_times, resample

# The endings that a folder is searched for. A file that is named is tried whatever its ending.
SUFFIXES = frozenset((
    '.3gp', '.avi', '.flv', '.gif', '.m2ts', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg', '.mts',
    '.ogv', '.ts', '.vob', '.webm', '.wmv',
))  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Video:
    """What one pass of decoding tells of a video and of its t stored frames.

    Attributes:
      path: the file.
      short_side: the limit on the stored frames' short side, pixels.
      height, width: the size of the stored frames, pixels.
      fps: stored frames per second.
      decoded: int64[t], for each stored frame, the number of the decoded frame that it shows.
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
        decoded = DecodedFrames(path)
        for _ in decoded:
            pass
        return _describe(decoded, FrameEncoder(decoded.first, short_side), fps)


def read_frames(
    path: str | os.PathLike,
    indices: Sequence[int],
    *,
    short_side: int = SHORT_SIDE,
    fps: float | None = None,
) -> np.ndarray:
    """Reads stored frames as RGB, uint8[t h w c].

    Each frame passes through the JPEG that would be stored, so that prediction sees what evaluation saw. The `indices`
    may be in any order, with repeats.

    Raises:
      VideoError: nothing in the file can be decoded, or the video has no frame of such an index.
    """
    return pixels(read_jpegs(path, indices, short_side=short_side, fps=fps))


def choose_jpegs(
    path: str | os.PathLike,
    choose: Callable[[int, float], Sequence[int] | np.ndarray],
    *,
    short_side: int = SHORT_SIDE,
    fps: float | None = None,
) -> tuple[Video, list[bytes]]:
    """Decodes a video, and returns the stored frames that a function chooses when their number is known.

    The results are the same as from `probe` and `read_jpegs`.

    The number of frames is certain only at the end of decoding, but the packets of most files tell it before. So the
    file is decoded once, and a second time if its packets told a wrong number. Only the chosen frames are in memory, as
    small JPEGs, however long the video is.

    Args:
      choose: a function (number of stored frames, frames per second) -> indices of stored frames, in any order, with
        repeats allowed.

    Returns:
      The video, and the JPEGs in the order of the indices. For an index that was chosen twice, the JPEG is one object.

    Raises:
      VideoError: nothing in the file can be decoded, or the JPEGs have more bytes than a clip may have.
    """
    with naming(path):
        likely = set(_likely(path, choose, fps))
        jpegs, size, encoder, decoded = {}, 0, None, DecodedFrames(path)
        for number, frame in enumerate(decoded):
            encoder = encoder or FrameEncoder(frame, short_side)
            if number in likely:
                jpegs[number] = encoder(frame)
                size += len(jpegs[number])
                check_bytes(path, size)
        video = _describe(decoded, encoder or FrameEncoder(decoded.first, short_side), fps)
        chosen = video.decoded[np.asarray(choose(video.num_frames, video.fps), np.int64)]
        missing = np.array(sorted(set(chosen.tolist()) - set(jpegs)), np.int64)
        if len(missing):
            jpegs |= zip(missing.tolist(), _encode_chosen(path, missing, short_side))
        return video, [jpegs[number] for number in chosen.tolist()]


def choose_jpegs_of(
    frames: np.ndarray,
    choose: Callable[[int, float], Sequence[int] | np.ndarray],
    rate: float,
    *,
    short_side: int = SHORT_SIDE,
    fps: float | None = None,
) -> tuple[list[bytes], np.ndarray]:
    """The JPEGs that `choose_jpegs` would return for a video with these frames, and their times float64[t], seconds.

    Args:
      frames: all frames of the video, RGB uint8[t h w c].
      choose: as in `choose_jpegs`.
      rate: the rate of the frames, frames per second.
    """
    shown = np.arange(len(frames))  # for each frame that would be stored, the number of the frame that it shows
    if fps is not None:
        shown = resample(shown / rate, rate, fps)
    indices = np.asarray(choose(len(shown), fps or rate), np.int64)
    chosen = shown[indices].tolist()
    encoder = FrameEncoder(_video_frame(frames[0]), short_side)
    jpegs = {number: encoder(_video_frame(frames[number])) for number in set(chosen)}
    return [jpegs[number] for number in chosen], indices / (fps or rate)


def pixels(jpegs: Sequence[bytes]) -> np.ndarray:
    """Decodes stored frames to RGB, uint8[t h w c]. Equal JPEGs are decoded once."""
    decoded = {jpeg: simplejpeg.decode_jpeg(jpeg) for jpeg in set(jpegs)}
    return np.stack([decoded[jpeg] for jpeg in jpegs])


def _video_frame(frame: np.ndarray) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format='rgb24')


def _likely(
    path: str | os.PathLike, choose: Callable[[int, float], Sequence[int] | np.ndarray], fps: float | None
) -> list[int]:
    """The numbers of the decoded frames that `choose` will probably pick, as far as the packets tell."""
    packets = PacketTimes(path)
    try:
        for _ in packets:
            pass
    except VideoError:
        return []
    found = []
    # An AVI with packed B-frames (all of HMDB51) has one packet more than frames: no frame has the time of its second
    # packet.
    for listed in (packets.times, packets.times[:1] + packets.times[2:]):
        if not listed:
            continue
        times, rate = frame_times(listed, packets.nominal_fps)
        decoded = np.arange(len(times))
        if fps is not None:
            try:
                check_clock(packets.path, times, rate, fps)
            except VideoError:  # the decoded frames may have better times
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
    """Reads the JPEGs of the stored frames `indices`. They are equal to the JPEGs that `encode` makes.

    Raises:
      VideoError: as in `read_frames`.
    """
    numbers = np.asarray(indices, np.int64)
    if fps is not None:
        decoded = probe(path, short_side=short_side, fps=fps).decoded
        if numbers.max() >= len(decoded):
            raise VideoError(path, f'there is no frame {numbers.max()}, only {len(decoded)}')
        numbers = decoded[numbers]
    return _encode_chosen(path, numbers, short_side)


def _encode_chosen(path: str | os.PathLike, numbers: np.ndarray, short_side: int) -> list[bytes]:
    """Makes the JPEGs of the decoded frames `numbers`, in this order. Decoding stops at the last of these frames."""
    pending = set(numbers.tolist())
    jpegs, encoder, decoded = {}, None, DecodedFrames(path)
    with naming(path):
        for number, frame in enumerate(decoded):
            encoder = encoder or FrameEncoder(frame, short_side)
            if number in pending:
                jpegs[number] = encoder(frame)
                pending.remove(number)
            if not pending:
                break
    if pending:
        decoded.check_any()
        raise VideoError(path, f'there is no frame {min(pending)}, only {number + 1}')
    return [jpegs[number] for number in numbers.tolist()]


def encode(
    path: str | os.PathLike, *, short_side: int = SHORT_SIDE, fps: float | None = None
) -> tuple[Video, list[bytes]]:
    """Makes the JPEGs of all stored frames of a video.

    Raises:
      VideoError: nothing in the file can be decoded, or the JPEGs have more bytes than a clip may have.
    """
    if fps is not None:
        # Most frames will not be stored: decoding twice is cheaper than encoding all frames.
        video = probe(path, short_side=short_side, fps=fps)
        jpegs = _encode_chosen(path, video.decoded, short_side)
        check_bytes(path, sum(map(len, jpegs)))
        return video, jpegs
    decoded = DecodedFrames(path)
    encoder, jpegs, size = None, [], 0
    with naming(path):
        for frame in decoded:
            encoder = encoder or FrameEncoder(frame, short_side)
            jpegs.append(encoder(frame))
            size += len(jpegs[-1])
            check_bytes(path, size)
        return _describe(decoded, encoder or FrameEncoder(decoded.first, short_side), None), jpegs


def encode_images(paths: Sequence[str | os.PathLike], *, short_side: int = SHORT_SIDE) -> tuple[int, int, list[bytes]]:
    """Makes the stored frames of a clip that comes as image files, in the same way as for a video.

    Args:
      paths: the image of each frame, at least one.

    Returns:
      The height and the width of the stored frames, pixels, and their JPEGs.

    Raises:
      VideoError: an image cannot be read.
      ValueError: there are no paths.
    """
    encoder: FrameEncoder | None = None
    jpegs = []
    for path in paths:
        with naming(path):
            decoded = DecodedFrames(path)
            frame = next(iter(decoded), None) or decoded.first
            encoder = encoder or FrameEncoder(frame, short_side)
            jpegs.append(encoder(frame))
    if encoder is None:
        raise ValueError('encode_images needs at least one path')
    return encoder.height, encoder.width, jpegs


def check_bytes(path: str | os.PathLike, size: int) -> None:
    """Raises VideoError if the JPEGs of a clip have more than `MAX_CLIP_BYTES` bytes.

    Args:
      path: the path of the clip, for the message.
      size: the bytes of all JPEGs of the clip, of its frames and of its flow.
    """
    if size > MAX_CLIP_BYTES:
        raise VideoError(
            path,
            f'its JPEGs take more than {MAX_CLIP_BYTES >> 20} MiB, the limit of one clip; store fewer (--fps), smaller '
            'ones (--short_side) or cut the video',
        )


def _describe(frames: DecodedFrames, encoder: FrameEncoder, fps: float | None) -> Video:
    """The `Video` of frames that were decoded to the end, at the rate `fps`, or at the video's own rate if `fps` is None."""
    times, rate = frame_times(frames.times, frames.nominal_fps)
    if fps is not None:
        check_clock(frames.path, times, rate, fps)
    return Video(
        path=frames.path,
        short_side=encoder.short_side,
        height=encoder.height,
        width=encoder.width,
        fps=fps or rate,
        decoded=np.arange(len(times)) if fps is None else resample(times, rate, fps),
        damage=frames.damage or frames.missing(times[-1] - times[0], rate),
    )
