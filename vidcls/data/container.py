"""Opens a video file, a camera or an address for decoding, within the same limits for every source.

The frame size that a file states is checked (`MAX_PIXELS`, `MAX_SIDE`) before memory is taken for frames. FFmpeg itself
limits the size of any one piece of memory.
"""

import contextlib
import ctypes
import os
import re
import stat
from collections.abc import Iterator

import av
import av._core

from vidcls.data.frame_storage import MAX_SIDE
from vidcls.errors import UserError, internal_error

MAX_PIXELS = 1 << 26  # of a frame: 8192 x 8192, twice 8K video
# Texts that begin like this name files that FFmpeg would open: FFmpeg's own lists, HLS, DASH. A pipe among the named
# files would block for ever.
_LISTS = (b'ffconcat', b'#EXTM3U', b'<?xml', b'<MPD', b'v=0')
_TIMEOUT = 10.0  # seconds without data from a network address

# An MP4 of 2 kB that promises 80 million frames would take 5 GB as soon as it is opened, because FFmpeg sets up a table
# of the frames. No option of PyAV prevents that. The largest frame that is allowed needs 268 MB, and a table of this
# size is enough for 155 hours.
_MAX_ALLOCATION = 384 << 20
_libavutil = ctypes.CDLL(av._core.__file__)  # finds the symbols of the libraries that the module is linked with
_libavutil.av_max_alloc.argtypes, _libavutil.av_max_alloc.restype = [ctypes.c_size_t], None
_libavutil.av_max_alloc(_MAX_ALLOCATION)


class VideoError(UserError):
    """Nothing of a video, or of a frame's image, can be used; the message names the path and the reason."""

    def __init__(self, path: str | os.PathLike, reason: str):
        super().__init__(f'{os.fspath(path)}: {reason}')
        self.path, self.reason = os.fspath(path), reason

    def __reduce__(self) -> tuple[type, tuple[str, str]]:  # an error from a worker process is pickled
        return type(self), (self.path, self.reason)


@contextlib.contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
    """A context that turns any unforeseen exception into a `VideoError` of this file.

    So one file never ends the work on others.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise VideoError(path, internal_error(error)) from error


def open_container(source: str, live: bool) -> av.container.InputContainer:
    """Opens a camera, an address or a file.

    Args:
      source: the camera's number, the address, or the file's path.
      live: whether a named pipe is allowed, which can block for ever.

    Raises:
      VideoError: the path is that of a device, a socket, a pipe or a list of other files.
      OSError, av.error.FFmpegError: the source can't be opened; the function `reason` says why.
    """
    limits = {'max_pixels': str(MAX_PIXELS)}  # FFmpeg decodes a little on opening
    if is_device_or_address(source):
        if source.isdecimal():
            return av.open(f'/dev/video{source}', format='v4l2', options=limits)
        return av.open(source, metadata_errors='ignore', timeout=_TIMEOUT, options=limits)
    mode = os.stat(source).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or (live and stat.S_ISFIFO(mode))):
        raise VideoError(source, 'not a file but a pipe, a socket or a device')
    # An absolute path, because FFmpeg takes `a:b.avi` for the protocol `a`, and `-` for standard input.
    if stat.S_ISREG(mode):
        with open(source, 'rb') as file:
            if file.read(4096).lstrip().startswith(_LISTS):
                raise VideoError(source, 'a list of other files, not a video; name these files')
    return av.open(os.path.abspath(source), metadata_errors='ignore', options=limits)


def video_stream(path: str, container: av.container.InputContainer) -> av.video.stream.VideoStream:
    """The first video stream, ready for decoding in this thread.

    Raises:
      VideoError: there is no video stream, FFmpeg has no decoder for it, or its frames are too large.
    """
    # A sound file's cover picture is a video stream as well.
    cover = av.stream.Disposition.attached_pic
    streams = [s for s in container.streams.video if not s.disposition & cover]
    if not streams:
        raise VideoError(path, 'no video stream')
    context = streams[0].codec_context
    if context is None:
        raise VideoError(path, 'the codec of its video stream is unknown to FFmpeg')
    check_size(path, context.width, context.height)
    context.options = {**context.options, 'max_pixels': str(MAX_PIXELS)}
    # Conversion runs one process on each core, and on small frames threads cost more than they gain.
    context.thread_count = 1
    return streams[0]


def check_size(path: str, width: int, height: int) -> None:
    """Raises VideoError if a frame is too large to be decoded or stored."""
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise VideoError(
            path,
            f'its frames have {width} x {height} pixels; at most {MAX_PIXELS:,} are decoded, and a side of '
            f'{MAX_SIDE:,}: scale it down',
        )


def is_device_or_address(source: str) -> bool:
    """Whether a source is a camera's number or an address. A number that is also an existing file means the file."""
    return (source.isdecimal() and not os.path.exists(source)) or bool(re.match(r'[a-z][a-z0-9+.-]+://', source))


def reason(path: str, error: Exception) -> str:
    """Why FFmpeg or the system could not read a file, in words."""
    if isinstance(error, FileNotFoundError):
        return 'no such file'
    if os.path.isfile(path) and not os.path.getsize(path):
        return 'an empty file'
    if isinstance(error, EOFError):
        return 'it ends too soon'
    text = getattr(error, 'strerror', None) or str(error)
    return f'{text} ({type(error).__name__})'
