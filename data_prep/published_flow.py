"""Reads flow pictures that others have computed. They are stored as they are, byte for byte.

Each clip has a folder with JPEGs of x and of y. Their names are flow_x_00001.jpg and flow_y_00001.jpg (denseflow,
mmaction2), or x_00001.jpg and y_00001.jpg. The numbers begin at 0 or 1. Frames may lie in the same folder.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import simplejpeg

from vidcls.data import flow, flow_jpeg, tree
from vidcls.data.container import VideoError
from vidcls.data.frame_storage import MAX_CLIP_BYTES

_NAME = re.compile(r'(?:flow_)?(?P<axis>[xy])_(?P<number>[0-9]{1,9})\.jpe?g', re.IGNORECASE)
# The limit on the difference between the numbers of frames and of flows. There is one flow fewer, and decoders differ
# in the last frames of a video.
_MOST_APART = 4


def is_flow(path: Path) -> bool:
    """Whether a file is a picture of flow, by its name."""
    return bool(_NAME.fullmatch(path.name))


def read(folder: Path, jpegs: Sequence[bytes]) -> list[bytes]:
    """The flow pictures x1 y1 x2 y2... of a clip, as they lie in its folder.

    Frames that have no flow pictures get the last pair again.

    Args:
      folder: the folder of the clip's flow pictures.
      jpegs: the clip's stored frames.

    Raises:
      VideoError: the pictures are missing or broken, have another size than the frames, or are too few or too many.
    """
    pairs, num_frames = _pairs(folder), len(jpegs)
    height, width = simplejpeg.decode_jpeg_header(jpegs[0])[:2]
    if abs(len(pairs) - num_frames) > _MOST_APART or not (pairs or num_frames == 1):
        raise VideoError(
            folder,
            f'has flow pictures of {len(pairs)} frames, and the clip has {num_frames}; they must be of these frames',
        )
    found = [[_read(path, height, width) for path in pair] for pair in pairs[:num_frames]]
    found = found or [list(flow_jpeg.encode(np.full((height, width, 2), flow.STILL, np.uint8)))]
    found += found[-1:] * (num_frames - len(found))
    return [picture for pair in found for picture in pair]


def _pairs(folder: Path) -> list[tuple[Path, Path]]:
    """The pairs of files, of x and of y, in the order of their numbers."""
    if not folder.is_dir():
        raise VideoError(folder, 'no such folder of flow pictures')
    numbered: dict[str, dict[int, Path]] = {'x': {}, 'y': {}}
    for path in tree.files(folder, tree.IMAGE_SUFFIXES):
        if match := _NAME.fullmatch(path.name):
            numbered[match['axis'].lower()][int(match['number'])] = path
    first = min(numbered['x'], default=0)
    expected = list(range(first, first + len(numbered['x'])))
    if first > 1 or any(sorted(paths) != expected for paths in numbered.values()):
        raise VideoError(folder, 'its flow pictures of x and of y must have the numbers 0, 1, 2... or 1, 2, 3...')
    return [(numbered['x'][number], numbered['y'][number]) for number in expected]


def _read(path: Path, height: int, width: int) -> bytes:
    """The bytes of a picture, after a check that it can be decoded and has this size."""
    if path.stat().st_size > MAX_CLIP_BYTES:
        raise VideoError(path, 'is too large for a picture of flow')
    data = path.read_bytes()
    try:
        found = simplejpeg.decode_jpeg_header(data)[:2]
        if found == (height, width):
            simplejpeg.decode_jpeg(data, colorspace='GRAY')
    except ValueError as error:
        raise VideoError(path, f'a broken JPEG ({error})') from error
    if found != (height, width):
        raise VideoError(
            path,
            f'has {found[1]} x {found[0]} pixels, and the frames have {width} x {height}; convert the frames that the flow '
            'was made of, with a --short_side that leaves them as they are',
        )
    return data
