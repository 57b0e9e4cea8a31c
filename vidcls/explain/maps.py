"""What an explanation is: a map float32[t h w] over the frames that the network saw, and all that it belongs to.

A map is not negative, and a larger value is a place that counted more for the label. Methods give *cells*, float32[t h w] of
their own coarse grid; `resize` brings these to the pixels of the frames. Values compare over the whole clip: a frame that
counted little is dark in every picture.
"""

import dataclasses

import numpy as np

from vidcls.data.windows import Window


@dataclasses.dataclass(frozen=True)
class Explanation:
    """Where, and when, the evidence for a label lies in one view of a video.

    Attributes:
      video: path of the video, '' for frames from memory.
      label: the class that is explained.
      probability: of this class, averaged over all views, as a prediction has it.
      method: a name of `vidcls.explain.METHODS`.
      view, views: the number of the view that is explained, counted from 0, and how many there are.
      frames: uint8[t h w c], the whole stored frames.
      window: what the network saw of them.
      times: float64[t], when each frame appears, seconds.
      map: float32[t h w] of the window's pixels, upright even where the network saw them mirrored; not negative.
      cells: float32[t h w] of each part of the network, on the part's own grid; signed where a method has signs.
      smooth: whether the map is interpolated between cells.
    """

    video: str
    label: str
    probability: float
    method: str
    view: int
    views: int
    frames: np.ndarray
    window: Window
    times: np.ndarray
    map: np.ndarray
    cells: dict[str, np.ndarray]
    smooth: bool

    @property
    def seen(self) -> np.ndarray:
        """uint8[t h w c], the window's pixels."""
        top, left, height, width, _ = self.window
        return self.frames[:, top : top + height, left : left + width]

    @property
    def weights(self) -> np.ndarray:
        """float32[t], the share of each frame in the mass of the map; all zero where the map is."""
        mass = self.map.sum(axis=(1, 2), dtype=np.float64)
        return (mass / (mass.sum() or 1)).astype(np.float32)


def merged(cells: dict[str, np.ndarray], shape: tuple[int, int, int], flip: bool, smooth: bool) -> np.ndarray:
    """The map float32[t h w] of `shape`: the positive cells of all parts, resized and added.

    Args:
      flip: whether the network saw mirrored frames, so that the map is mirrored back.
    """
    parts = (resize(np.maximum(part, 0), shape, smooth) for part in cells.values())
    total = np.asarray(sum(parts), np.float32)
    return total[:, :, ::-1] if flip else total


def resize(cells: np.ndarray, shape: tuple[int, int, int], smooth: bool) -> np.ndarray:
    """Cells float32[t h w] -> float32 of another `shape`.

    Smooth: linear between the centres of cells, constant beyond the outer ones (align_corners=False elsewhere). Otherwise
    each pixel has the value of its cell. The mean stays, for cells of equal size.
    """
    for axis, size in enumerate(shape):
        cells = np.moveaxis(np.tensordot(_matrix(cells.shape[axis], size, smooth), cells, (1, axis)), 0, axis)
    return cells.astype(np.float32)


def _matrix(old: int, new: int, smooth: bool) -> np.ndarray:
    """float64[new old], the weights of old cells in each new one."""
    place = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)[:, None]
    if not smooth:
        place = np.floor((np.arange(new) + 0.5) * old / new)[:, None]
    return np.maximum(0, 1 - np.abs(place - np.arange(old)))
