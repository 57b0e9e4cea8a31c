"""Computes the optical flow from each frame to the next, in 8 bits.

Frames uint8[t h w 3] -> flow uint8[t h w 2], x before y. The flow is computed on grey frames of the stored size, and
quantised as published flow is (denseflow, dense_flow). Motion from -bound to bound pixels a frame becomes 0 to 255,
rounded half to even, so that no motion is 128. Faster motion is cut off. The last frame has the flow of the last pair
of frames, so that a clip has as many flows as frames.

The algorithms are OpenCV's: DIS (Kroeger et al. 2016), Farneback (2003), and TV-L1 (Zach et al. 2007), which needs the
contrib build of OpenCV. Frames that differ in a few bits may differ in their flow, so prediction passes frames through
the stored JPEG first.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vidcls.errors import UserError

ALGORITHMS = ('dis', 'farneback', 'tvl1')
PRESETS = ('ultrafast', 'fast', 'medium')  # the presets of DIS
BOUND = 20.0  # pixels a frame; published flow pictures have this bound (mmaction2), though denseflow's default is 32
MAX_BOUND = 1000.0
ROUNDING = 'half_to_even'
STILL = 128  # no motion
_DEFAULT_PRESET = 'fast'
_MIN_SIDE = 12  # pixels; smaller frames are padded for DIS
_MAX_ASPECT = 2  # width / height; wider frames are turned for DIS

_Between = Callable[[np.ndarray, np.ndarray], np.ndarray]  # two grey frames uint8[h w] -> flow float32[h w 2], pixels


@dataclasses.dataclass(frozen=True)
class FlowSettings:
    """How flow is computed and quantised.

    Attributes:
      algorithm: one of `ALGORITHMS`.
      preset: for DIS, one of `PRESETS`, or '' for the default preset. For other algorithms, ''.
      bound: the motion that becomes 255, pixels a frame.

    Raises:
      UserError: there is no such algorithm or preset, or the bound is out of range.
    """

    algorithm: str = 'dis'
    preset: str = ''
    bound: float = BOUND

    def __post_init__(self) -> None:
        if self.algorithm not in ALGORITHMS:
            raise UserError(f'flow algorithm {self.algorithm!r:.80}: must be one of {", ".join(ALGORITHMS)}')
        if self.algorithm == 'dis' and self.preset == '':
            object.__setattr__(self, 'preset', _DEFAULT_PRESET)
        known = PRESETS if self.algorithm == 'dis' else ('',)
        if self.preset not in known:
            raise UserError(
                f'flow preset {self.preset!r:.80}: must be one of {", ".join(PRESETS)} with dis, and none with others'
            )
        if type(self.bound) not in (int, float) or not 0 < self.bound <= MAX_BOUND:
            raise UserError(f'flow bound {self.bound!r:.80}: must be more than 0 and at most {MAX_BOUND:g} pixels')

    def flags(self) -> str:
        """The flags of data_prep that give this flow."""
        preset = f' --flow_preset={self.preset}' if self.preset else ''
        return f'--flow={self.algorithm}{preset} --flow_bound={self.bound:g}'


def described(settings: FlowSettings) -> dict[str, Any]:
    """The settings, in the form in which a dataset's metadata.json and a run's frames.json have them."""
    return dataclasses.asdict(settings) | {'rounding': ROUNDING}


def checked(path: Path, value: Any) -> FlowSettings:
    """Reads settings in the form that `described` returns.

    Args:
      path: the path of the file that has the settings, for the message.
      value: what the file has.

    Raises:
      UserError: the value is not in that form; the message names the file and what is wrong.
    """
    if not isinstance(value, dict) or set(value) != set(described(FlowSettings())) or value['rounding'] != ROUNDING:
        raise UserError(f'{path}: flow={value!r:.80}: must have algorithm, preset, bound, and rounding={ROUNDING!r}')
    try:
        return FlowSettings(value['algorithm'], value['preset'], value['bound'])
    except UserError as error:
        raise UserError(f'{path}: {error}') from error


def compute(frames: np.ndarray, settings: FlowSettings) -> np.ndarray:
    """The flow from each frame to the next one.

    Args:
      frames: RGB frames uint8[t h w 3] that follow each other, at least one.
      settings: how the flow is computed.

    Returns:
      The flow uint8[t h w 2], x before y. The last frame has the same flow as the frame before it. The flow of a single
        frame is 128, no motion.

    Raises:
      UserError: OpenCV is not installed, or its build lacks the algorithm.
    """
    return np.stack(list(flows(frames, settings)))


def flows(frames: Iterable[np.ndarray], settings: FlowSettings) -> Iterator[np.ndarray]:
    """Yields the flow uint8[h w 2] of each frame, as in `compute`. Only two frames are in memory at a time."""
    between = _between(settings)
    import cv2

    before = flow = None
    for frame in frames:
        grey = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)
        if before is None:
            flow = np.full((*grey.shape, 2), STILL, np.uint8)
        else:
            flow = quantise(between(before, grey), settings.bound)
            yield flow
        before = grey
    if flow is not None:
        yield flow


def quantise(flow: np.ndarray, bound: float) -> np.ndarray:
    """Quantises the flow v, float32[h w 2] in pixels a frame, to 8 bits, uint8[h w 2].

    The result is 255 (v + bound) / (2 bound), rounded half to even and cut off at 0 and 255.
    """
    import cv2

    # One pass; OpenCV rounds half to even and saturates.
    return cv2.addWeighted(flow, 255 / (2 * bound), flow, 0, 127.5, dtype=cv2.CV_8U)


def check_installed(settings: FlowSettings) -> None:
    """Raises UserError if OpenCV is not installed, or if its build lacks the algorithm."""
    _between(settings)


def use_one_thread() -> None:
    """Makes OpenCV use a single thread in this process, since each core has a process.

    The number of threads does not change the flow.
    """
    import cv2

    cv2.setNumThreads(1)


def _between(settings: FlowSettings) -> _Between:
    """A function that computes the flow between two grey frames."""
    try:
        import cv2
    except ImportError as error:
        raise UserError("optical flow needs OpenCV: pip install 'vidcls[flow]'") from error
    if settings.algorithm == 'dis':
        return _dis(cv2.DISOpticalFlow.create(PRESETS.index(settings.preset)))
    if settings.algorithm == 'farneback':
        # The values of OpenCV's own example.
        return lambda first, second: cv2.calcOpticalFlowFarneback(first, second, None, 0.5, 3, 15, 3, 5, 1.2, 0)  # type: ignore[call-overload]  # None: no first guess
    if not hasattr(cv2, 'optflow'):
        raise UserError(
            'flow by tvl1 needs the contrib build of OpenCV in place of the plain one: '
            'pip uninstall opencv-python-headless && pip install opencv-contrib-python-headless'
        )
    algorithm = cv2.optflow.DualTVL1OpticalFlow_create()
    return lambda first, second: algorithm.calc(first, second, None)


def _dis(algorithm: Any) -> _Between:
    """A function that computes the flow between two grey frames of any size by DIS.

    OpenCV refuses frames of fewer than 12 pixels a side, so smaller frames are padded. It chooses the number of scales
    by the width alone, and reads beyond the coarsest scale of a frame that is much wider than high (opencv_contrib's
    issue 1355), so such frames are turned.
    """

    def between(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        height, width = first.shape
        if width > _MAX_ASPECT * height:
            turned = between(np.ascontiguousarray(first.T), np.ascontiguousarray(second.T))
            return np.ascontiguousarray(turned.transpose(1, 0, 2)[..., ::-1])
        if min(height, width) < _MIN_SIDE:
            margins = ((0, max(0, _MIN_SIDE - height)), (0, max(0, _MIN_SIDE - width)))
            padded = (np.pad(frame, margins, mode='edge') for frame in (first, second))
            return np.ascontiguousarray(algorithm.calc(*padded, None)[:height, :width])
        return algorithm.calc(first, second, None)

    return between
