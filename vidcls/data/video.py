"""A video file -> stored frames; conversion and prediction share it.

A stored frame is a JPEG as `frame_jpeg` makes it: upright, short side at most `short_side` pixels, never enlarged.
`encode` makes all frames of a video in one pass. For prediction, `probe` tells how many frames there are, `read_frames`
makes chosen ones, and `read_chosen` does both in one pass; their bits are those that `encode` stores. Neither TensorFlow
nor JAX is imported here.

What is stored of what is on disk:
  - Every frame in the order of presentation; with `fps`, the frame on screen at 0, 1/fps, 2/fps...
  - A file that breaks off is used as far as it goes, and `Video.damage` says what is missing. A file without any frame that
    decodes is a `VideoError` (`vidcls.data.decoding`).
  - A file of frames too large, or with `fps` of times too far apart (`frame_times.LONGEST_GAP`), is refused: what a file
    states must not decide how much memory is taken. The limits on opening are in `vidcls.data.container`.
  - Rotation in the metadata is applied. Pixels count as square, interlacing is ignored.
  - A frame whose size differs from the first one's is resized to it.
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

# What counts as a video where a folder is searched; a file that is named is always tried.
SUFFIXES = frozenset((
    '.3gp', '.avi', '.flv', '.gif', '.m2ts', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg', '.mts',
    '.ogv', '.ts', '.vob', '.webm', '.wmv',
))  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Video:
    """A video as it is stored (t frames), known after one pass of decoding.

    Attributes:
      path: the file.
      short_side: limit on the frames' short side, pixels.
      height, width: of the stored frames, pixels.
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
    """The stored frames `indices` (any order, repeats allowed) as RGB, uint8[t h w c].

    Each frame passes through the JPEG that would be stored, so that prediction sees what evaluation saw.

    Raises:
      VideoError: nothing in the file can be decoded, or a frame is not there.
    """
    jpegs = read_jpegs(path, indices, short_side=short_side, fps=fps)
    return np.stack([simplejpeg.decode_jpeg(jpeg) for jpeg in jpegs])


def read_chosen(
    path: str | os.PathLike,
    choose: Callable[[int, float], Sequence[int] | np.ndarray],
    *,
    short_side: int = SHORT_SIDE,
    fps: float | None = None,
) -> tuple[Video, np.ndarray]:
    """A video, and the stored frames that `choose` wants of it, as `probe` and `read_frames` give them.

    The number of frames is certain only at the end of decoding, but the packets of most files tell it before. So the file is
    decoded once, and a second time where its packets said something else. Only chosen frames are kept, however long the
    video is.

    Args:
      choose: (number of stored frames, frames per second) -> indices of stored frames, any order, repeats allowed.

    Returns:
      The video, and the frames, RGB uint8[t h w c], in the order of the indices.

    Raises:
      VideoError: nothing in the file can be decoded.
    """
    with naming(path):
        likely = set(_likely(path, choose, fps))
        jpegs, encoder, decoded = {}, None, DecodedFrames(path)
        for number, frame in enumerate(decoded):
            encoder = encoder or FrameEncoder(frame, short_side)
            if number in likely:
                jpegs[number] = encoder(frame)
        video = _describe(decoded, encoder or FrameEncoder(decoded.first, short_side), fps)
        chosen = video.decoded[np.asarray(choose(video.num_frames, video.fps), np.int64)]
        missing = np.array(sorted(set(chosen.tolist()) - set(jpegs)), np.int64)
        if len(missing):
            jpegs |= zip(missing.tolist(), _encode_chosen(path, missing, short_side))
        pixels = {number: simplejpeg.decode_jpeg(jpegs[number]) for number in set(chosen.tolist())}
        return video, np.stack([pixels[number] for number in chosen.tolist()])


def choose_of(
    frames: np.ndarray,
    choose: Callable[[int, float], Sequence[int] | np.ndarray],
    rate: float,
    *,
    short_side: int = SHORT_SIDE,
    fps: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The frames that `read_chosen` would give of a video with these frames, RGB uint8[t h w c], and their times, seconds.

    Args:
      frames: all frames of the video, RGB uint8[t h w c].
      choose: as of `read_chosen`.
      rate: of `frames`, frames per second.
    """
    shown = np.arange(len(frames))  # of each frame that would be stored, the number of the frame it shows
    if fps is not None:
        shown = resample(shown / rate, rate, fps)
    indices = np.asarray(choose(len(shown), fps or rate), np.int64)
    chosen = shown[indices].tolist()
    encoder = FrameEncoder(_video_frame(frames[0]), short_side)
    pixels = {number: simplejpeg.decode_jpeg(encoder(_video_frame(frames[number]))) for number in set(chosen)}
    return np.stack([pixels[number] for number in chosen]), indices / (fps or rate)


def _video_frame(frame: np.ndarray) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format='rgb24')


def _likely(
    path: str | os.PathLike, choose: Callable[[int, float], Sequence[int] | np.ndarray], fps: float | None
) -> list[int]:
    """Numbers of the decoded frames that `choose` will want, as far as the file's packets tell; perhaps none."""
    packets = PacketTimes(path)
    try:
        for _ in packets:
            pass
    except VideoError:
        return []
    found = []
    # An AVI with packed B-frames (all of HMDB51) has one packet more than frames: the second one, whose time is no frame's.
    for listed in (packets.times, packets.times[:1] + packets.times[2:]):
        if not listed:
            continue
        times, rate = frame_times(listed, packets.nominal_fps)
        decoded = np.arange(len(times))
        if fps is not None:
            try:
                check_clock(packets.path, times, rate, fps)
            except VideoError:  # the times of the frames may be better
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
    """The JPEGs of the stored frames `indices`, equal to those that `encode` makes; raises as `read_frames`."""
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
    """All stored frames of a video, as JPEGs.

    Raises:
      VideoError: nothing in the file can be decoded, or the JPEGs exceed one record.
    """
    if fps is not None:
        # Most frames will not be stored: decoding twice is cheaper than encoding them.
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
    """Frames that come as image files, as (height, width, JPEGs), made as a video's frames are.

    Args:
      paths: at least one.

    Raises:
      VideoError: an image cannot be read.
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
    """Raises VideoError where the JPEGs of a clip, its frames and any flow, have more bytes than one record holds."""
    if size > MAX_CLIP_BYTES:
        raise VideoError(
            path,
            f'its JPEGs take more than {MAX_CLIP_BYTES >> 20} MiB, the limit of one clip; store fewer (--fps), smaller '
            'ones (--short_side) or cut the video',
        )


def _describe(frames: DecodedFrames, encoder: FrameEncoder, fps: float | None) -> Video:
    """What was read, stored at `fps` or at its own rate; after iterating to the end."""
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
