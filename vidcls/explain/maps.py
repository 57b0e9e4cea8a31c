"""An explanation: a map float32[t h w] over the frames that the network saw, with the frames and the label.

A map is never negative; the larger its value, the more the place counted for the label. Each method gives *cells*,
float32[t h w] on a coarse grid of its own, and `resize` brings the cells to the pixels of the frames. Values can be
compared over the whole clip: a frame that counted little has low values everywhere.
"""

import dataclasses

import numpy as np

from vidcls.data.windows import Window


@dataclasses.dataclass(frozen=True)
class Explanation:
    """Where, and when, the evidence for a label lies in one view of a video.

    Attributes:
      video: the path of the video, '' for frames from memory.
      label: the class that is explained.
      probability: the probability of this class, averaged over all views as in a prediction.
      method: a name of `vidcls.explain.METHODS`.
      view: the number of the view that is explained, counted from 0.
      views: how many views there are.
      frames: uint8[t h w c], the whole stored frames.
      window: the rectangle of the frames that the network saw.
      times: float64[t], when each frame appears, seconds.
      map: float32[t h w], a value for each pixel of the window, not negative. If the network saw the pixels mirrored,
        the map is mirrored back.
      cells: for each branch of the network, float32[t h w] on the branch's own grid; signed if the method has signs.
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
        """The window's pixels, uint8[t h w c]."""
        top, left, height, width, _ = self.window
        return self.frames[:, top : top + height, left : left + width]

    @property
    def weights(self) -> np.ndarray:
        """float32[t]: the fraction of the map's sum that lies in each frame; all zero if the map is zero."""
        mass = self.map.sum(axis=(1, 2), dtype=np.float64)
        return (mass / (mass.sum() or 1)).astype(np.float32)


def merged(cells: dict[str, np.ndarray], shape: tuple[int, int, int], flip: bool, smooth: bool) -> np.ndarray:
    """The map float32[t h w] of an explanation: the positive cells of all branches, resized to `shape` and added.

    Args:
      flip: whether the network saw mirrored frames; if so, the map is mirrored back.
      smooth: as for `resize`.
    """
    parts = (resize(np.maximum(part, 0), shape, smooth) for part in cells.values())
    total = np.asarray(sum(parts), np.float32)
    return total[:, :, ::-1] if flip else total


def resize(cells: np.ndarray, shape: tuple[int, int, int], smooth: bool) -> np.ndarray:
    """Returns cells float32[t h w] resized to another `shape`, float32.

    If `smooth` is true, values are linear between the centres of cells and constant beyond the outer centres (other
    libraries call this align_corners=False). Otherwise each pixel has the value of its cell. The mean over the array
    stays the same if all cells have equally many pixels.
    """
    for axis, size in enumerate(shape):
        cells = np.moveaxis(np.tensordot(_matrix(cells.shape[axis], size, smooth), cells, (1, axis)), 0, axis)
    return cells.astype(np.float32)


def _matrix(old: int, new: int, smooth: bool) -> np.ndarray:
    """float64[new old]: the weight of each old cell in each new cell, along one axis."""
    place = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)[:, None]
    if not smooth:
        place = np.floor((np.arange(new) + 0.5) * old / new)[:, None]
    return np.maximum(0, 1 - np.abs(place - np.arange(old)))
