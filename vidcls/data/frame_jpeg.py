"""Turns a decoded frame into the JPEG that is stored: 4:2:0, quality 95, full-range BT.601 (JFIF 1.02).

The stored frame is upright, keeps its aspect, and has a limited short side; it is never enlarged. Most video is 8-bit
4:2:0 in BT.601 with a limited range of values. Unless they are scaled, the planes of such video go from the decoder
through a table straight into libjpeg-turbo, because converting to RGB and back costs more than decoding. If a file
does not state them, the colour matrix is BT.601 and the range is limited, as in OpenCV and ffmpeg.
"""

import av
import numpy as np
import simplejpeg
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

JPEG_QUALITY = 95

_FULL, _LIMITED = ColorRange.JPEG, ColorRange.MPEG
# The numbers in AVColorSpace (libavutil/pixfmt.h) of matrices other than BT.601: BT.709, FCC, 240M, BT.2020.
_MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,
}


class FrameEncoder:
    """Makes JPEGs of a video's frames, all in the size and orientation of the first frame.

    Attributes:
      short_side: the limit on the JPEGs' short side, pixels.
      height, width: of the JPEGs, pixels.
    """

    def __init__(self, first: av.VideoFrame, short_side: int):
        self.short_side = short_side
        self._quarter_turns = round(first.rotation / 90) % 4  # counter-clockwise, as in numpy.rot90
        scale = min(1.0, short_side / min(first.width, first.height))
        self._coded_width = max(1, round(first.width * scale))
        self._coded_height = max(1, round(first.height * scale))
        upright = (self._coded_height, self._coded_width)
        self.height, self.width = upright[::-1] if self._quarter_turns % 2 else upright
        self._reformatter = VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> bytes:
        y, u, v = self._planes(frame)
        if self._quarter_turns:
            y, u, v = (np.ascontiguousarray(np.rot90(p, self._quarter_turns)) for p in (y, u, v))
        if self.height % 2 or self.width % 2:
            # libjpeg-turbo reads luma up to the next even row and column, which must repeat the edge.
            y = np.pad(y, ((0, self.height % 2), (0, self.width % 2)), mode='edge')
            y = y[: self.height, : self.width]
        return simplejpeg.encode_jpeg_yuv_planes(y, u, v, quality=JPEG_QUALITY)

    def _planes(self, frame: av.VideoFrame) -> list[np.ndarray]:
        """The full-range BT.601 planes before rotation: luma uint8[h w], twice chroma uint8[ceil(h/2) ceil(w/2)]."""
        matrix = _MATRICES.get(frame.colorspace, Colorspace.ITU601)
        # `yuvj` formats are full-range by name, whatever the tag says.
        full = frame.color_range == _FULL.value or frame.format.name.startswith('yuvj')
        same_size = (frame.width, frame.height) == (self._coded_width, self._coded_height)
        is_yuv420 = frame.format.name in ('yuv420p', 'yuvj420p')
        if is_yuv420 and matrix is Colorspace.ITU601 and same_size:
            # Most videos are like this, and swscale would take three times as long as the table.
            tables = (None, None, None) if full else (_LUMA, _CHROMA, _CHROMA)
        else:
            is_rgb = frame.format.is_rgb
            frame = self._reformatter.reformat(
                frame,
                width=self._coded_width,
                height=self._coded_height,
                format='yuvj420p',
                src_colorspace=Colorspace.ITU601 if is_rgb else matrix,
                dst_colorspace=Colorspace.ITU601,
                src_color_range=_FULL if full or is_rgb else _LIMITED,
                dst_color_range=_FULL,
                # Without exact rounding all greys come out up to two levels too dark.
                interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND,
                threads=1,
            )
            tables = (None, None, None)
        return [_read_plane(plane, table) for plane, table in zip(frame.planes, tables)]


def _read_plane(plane: av.video.plane.VideoPlane, pairs: np.ndarray | None) -> np.ndarray:
    """The pixels of a plane, uint8[h w].

    Args:
      plane: each of its rows has an even number of bytes.
      pairs: a table through which pairs of pixels are mapped, or None.
    """
    if pairs is None:
        pixels = np.frombuffer(memoryview(plane), np.uint8)
    else:
        # Looking up two pixels at once takes half the time, and is as fast as OpenCV's LUT. `wrap` skips the check of
        # indices: every uint16 is a valid index.
        source = np.frombuffer(memoryview(plane), np.uint16)
        pixels = np.take(pairs, source, out=np.empty_like(source), mode='wrap').view(np.uint8)
    return pixels.reshape(-1, plane.line_size)[: plane.height, : plane.width]


def _pair_table(black: int, white: int, centre: int) -> np.ndarray:
    """The table uint16[65536] from two limited-range bytes to two full-range bytes (BT.601 limits; JFIF 1.02)."""
    full = (np.arange(256) - (centre or black)) * (255 / (white - black)) + centre
    table = np.clip(np.round(full), 0, 255).astype(np.uint16)
    return (table[:, None] << 8 | table[None, :]).ravel()


_LUMA = _pair_table(16, 235, 0)
_CHROMA = _pair_table(16, 240, 128)
