"""Video files with known content, made through PyAV, for the tests."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

LOSSLESS = {'libx264': {'qp': '0', 'preset': 'ultrafast'}, 'libx265': {'x265-params': 'lossless=1'}}


def grey_levels(levels: Sequence[int], size: tuple[int, int] = (32, 48)) -> np.ndarray:
    """One plain frame a level, uint8[t h w c]; the level tells which frame one has in hand."""
    return np.stack([np.full((*size, 3), level, np.uint8) for level in levels])


def scenery(frames: int, size: tuple[int, int] = (48, 64), seed: int = 0) -> np.ndarray:
    """Random colours that flow into each other, so that 4:2:0 loses little; uint8[t h w c]."""
    rng = np.random.default_rng(seed)
    cells = rng.uniform(30, 225, (frames, 4, 5, 3))
    return np.stack([cv2.resize(c, size[::-1]) for c in cells]).round().astype(np.uint8)


def moving(step: tuple[int, int], frames: int, size: tuple[int, int] = (96, 128)) -> np.ndarray:
    """A texture that moves by `step` (x, y) pixels a frame, uint8[t h w c]; new texture moves in at the edges."""
    reach = frames * max(map(abs, step))
    height, width = size[0] + 2 * reach, size[1] + 2 * reach
    cells = np.random.default_rng(0).uniform(30, 225, (height // 8, width // 8, 3))
    texture = cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 255).round().astype(np.uint8)
    places = [(reach - t * step[1], reach - t * step[0]) for t in range(frames)]
    return np.stack([texture[top : top + size[0], left : left + size[1]] for top, left in places])


def write_video(
    path: Path,
    frames: np.ndarray,
    *,
    codec: str = 'libx264',
    pixels: str = 'yuv420p',
    rate: int = 10,
    times: Sequence[int] | None = None,
) -> Path:
    """Writes uint8[t h w c], lossless but for 4:2:0; `times` in units of 1/rate, else 0, 1, 2..."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), 'w') as container:
        stream = _add_stream(container, codec, rate, pixels, frames.shape[1:3])
        for time, rgb in zip(times or range(len(frames)), frames):
            frame = VideoReformatter().reformat(
                av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format='rgb24'),
                format=pixels,
                dst_colorspace='ITU601',
            )
            frame.pts, frame.time_base = time, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_plane_levels(
    path: Path,
    levels: tuple[int, int, int],
    *,
    codec: str = 'libx264',
    pixels: str = 'yuv420p',
    matrix: int = 2,
    value_range: int = 0,
    size: tuple[int, int] = (48, 64),
) -> Path:
    """Three frames whose Y, Cb and Cr are `levels` everywhere, tagged with a matrix and a range."""
    height, width = size
    dtype = np.uint16 if '10' in pixels else np.uint8
    planes = [
        np.full((height * width, height * width // 4)[plane > 0], level, dtype) for plane, level in enumerate(levels)
    ]
    packed = np.concatenate(planes).reshape(-1, width)
    with av.open(str(path), 'w') as container:
        stream = _add_stream(container, codec, 10, pixels, size)
        stream.codec_context.colorspace = matrix
        stream.codec_context.color_range = value_range
        for time in range(3):
            frame = av.VideoFrame.from_ndarray(packed, format=pixels)
            frame.colorspace, frame.color_range = matrix, value_range
            frame.pts = time
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def _add_stream(container, codec: str, rate: int, pixels: str, size: tuple[int, int]):
    stream = container.add_stream(codec, rate=rate, options=dict(LOSSLESS.get(codec, {})))
    stream.height, stream.width = size
    stream.pix_fmt = pixels
    stream.codec_context.time_base = Fraction(1, rate)
    return stream


def write_gif(path: Path, size: tuple[int, int], frames: int, delay: int = 10) -> Path:
    """Frames of a size that is stated and of one pixel that is there, `delay` / 100 s apart: 24 bytes each."""
    frame = struct.pack('<BBBBHBB', 0x21, 0xF9, 4, 0, delay, 0, 0)
    frame += struct.pack('<BHHHHB', 0x2C, 0, 0, 1, 1, 0) + bytes([2, 2, 0x44, 1, 0])
    screen = struct.pack('<HHBBB', size[1], size[0], 0x80, 0, 0) + bytes(6)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b'GIF89a' + screen + frames * frame + b';')
    return path


def turn_clockwise(path: Path) -> Path:
    """Sets an mp4's display matrix to 90 degrees clockwise (ISO/IEC 14496-12, box tkhd)."""
    data = bytearray(path.read_bytes())
    matrix = data.index(b'tkhd') + 4 + 40
    one, weight = 1 << 16, 1 << 30
    data[matrix : matrix + 36] = struct.pack('>9i', 0, one, 0, -one, 0, 0, 0, 0, weight)
    path.write_bytes(data)
    return path


def write_sound(path: Path) -> Path:
    """A second of silence and no video."""
    with av.open(str(path), 'w', format='wav') as container:
        stream = container.add_stream('pcm_s16le', rate=8000, layout='mono')
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), layout='mono')
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
