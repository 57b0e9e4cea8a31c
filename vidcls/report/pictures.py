"""Small pictures of clips: grey pictures for measurements, and thumbnails and sheets of many clips for pages.

A picture is scaled to fit its cell and never enlarged beyond it, so a sheet's bytes are bounded by its cells.
"""

import io
from collections.abc import Sequence

import numpy as np
import simplejpeg
from PIL import Image

CELL = (160, 120)  # pixels: width and height
QUALITIES = (75, 60, 45, 30)
_GROUND = (128, 128, 128)  # can be told from a light and from a dark page
_GAP = 4  # pixels
_GREY_SIDE = 64  # pixels: twice the side of the picture that a perceptual hash is made of


def spread(frames: int, count: int) -> np.ndarray:
    """int64[count]: the frames in the middle of `count` equal parts of a clip of `frames` frames."""
    return ((np.arange(count) + 0.5) * frames / count).astype(np.int64)


def grey(jpeg: bytes, size: tuple[int, int] | None = None) -> np.ndarray:
    """The brightness of a frame, uint8[h w].

    The frame is decoded at a fraction of its size at which each side has _GREY_SIDE pixels or more.

    Args:
      size: the (width, height) that the result is scaled to; None keeps the size as decoded.

    Raises:
      ValueError: the JPEG can't be decoded.
    """
    found = simplejpeg.decode_jpeg(jpeg, 'GRAY', min_height=_GREY_SIDE, min_width=_GREY_SIDE)[:, :, 0]
    return np.asarray(Image.fromarray(found).resize(size, Image.Resampling.BILINEAR)) if size else found


def thumbnail(jpeg: bytes, cell: tuple[int, int] = CELL) -> Image.Image:
    """A frame that is scaled to fit the cell (width, height) and stands in the middle of the cell.

    Raises:
      OSError, SyntaxError, Image.DecompressionBombError: the JPEG can't be decoded.
    """
    file = Image.open(io.BytesIO(jpeg), formats=['JPEG'])
    file.draft('RGB', cell)  # decodes at a fraction of the size
    image = file.convert('RGB')
    scale = min(cell[0] / image.width, cell[1] / image.height)
    image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    ground = Image.new('RGB', cell, _GROUND)
    ground.paste(image, ((cell[0] - image.width) // 2, (cell[1] - image.height) // 2))
    return ground


def sheet(cells: Sequence[Image.Image], columns: int, most_bytes: int = 1 << 20) -> bytes:
    """A JPEG of the cells in rows of `columns`.

    The quality is the first of QUALITIES with which the JPEG has at most `most_bytes` bytes. If there is none, it is
    the last of QUALITIES.
    """
    columns = min(columns, len(cells))
    width, height = cells[0].size
    rows = -(-len(cells) // columns)
    image = Image.new('RGB', (columns * (width + _GAP) - _GAP, rows * (height + _GAP) - _GAP), _GROUND)
    for number, cell in enumerate(cells):
        image.paste(cell, (number % columns * (width + _GAP), number // columns * (height + _GAP)))
    for quality in QUALITIES:
        file = io.BytesIO()
        image.save(file, 'JPEG', quality=quality, optimize=True)
        if file.tell() <= most_bytes:
            break
    return file.getvalue()
