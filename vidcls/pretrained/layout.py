"""Layouts: the names that another library gives to a network's arrays, and the order of their axes there.

"Ours" are the names and axes of this library; "theirs" are the names and axes of the other library. A layout's table
maps the names of our modules, joined by '/', to their names. `*` stands for a number; if there are several, both names
have them in the same order. For example, 'blocks_*/norm1' -> 'blocks.*.norm1'. The table may also contain the whole
path of a parameter. Otherwise `endings` translates the last name of the path (kernel, scale, ...).
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import einops
import numpy as np

Arrays = Mapping[str, np.ndarray]
NOTHING = r'(?!)'  # a pattern that matches nothing

TORCH_ENDINGS = {
    'kernel': '.weight', 'scale': '.weight', 'bias': '.bias', 'mean': '.running_mean', 'var': '.running_var',
}  # fmt: skip
# Number of axes of a kernel -> how they are rearranged, from their order to ours.
TORCH_AXES = {2: 'o i -> i o', 4: 'o i h w -> h w i o', 5: 'o i t h w -> t h w i o'}


class Inputs(NamedTuple):
    """How the inputs of published weights were normalised: (value - mean) / std, for values in [0, 1].

    In `mean` and `std` the channels are red, green and blue, or x and y. With `bgr`, the network takes blue first.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    bgr: bool = False


IMAGENET = Inputs((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
UNSAID = Inputs((), ())  # the weights don't tell
HALF = Inputs((0.5,) * 3, (0.5,) * 3)
# DATA.MEAN and DATA.STD of facebookresearch/TimeSformer. Hugging Face's weights are the same, converted. The script
# that converted them compared logits on images normalised by HALF, but this doesn't show how training images were
# normalised.
KINETICS = Inputs((0.45,) * 3, (0.225,) * 3)
# tsn-pytorch subtracts (104, 117, 128), in the order blue, green, red, from values between 0 and 255.
CAFFE = Inputs((128 / 255, 117 / 255, 104 / 255), (1 / 255,) * 3, bgr=True)
# Optical flow, for values v from 0 to 255. mmaction2 computes (v - 128) / 128. tsn-pytorch computes (v / 255 - 0.5) /
# 0.226, where 0.226 is the mean of ImageNet's deviations; with BN-Inception it computes v - 128.
FLOW = Inputs((128 / 255,) * 2, (128 / 255,) * 2)
TSN_PYTORCH_FLOW = Inputs((0.5,) * 2, (0.226,) * 2)
CAFFE_FLOW = Inputs((128 / 255,) * 2, (1 / 255,) * 2)
# Differences of frames. tsn-pytorch does not normalise them: they are in [-1, 1], or with BN-Inception in [-255, 255].
DIFFERENCE = Inputs((0.0,) * 3, (1.0,) * 3)
CAFFE_DIFFERENCE = Inputs((0.0,) * 3, (1 / 255,) * 3, bgr=True)


class Beside(tuple):
    """Names of their arrays that are concatenated into one array of ours.

    Each of these arrays has the output axes (heads, d) or a single output axis.
    """


@dataclasses.dataclass(frozen=True)
class Layout:
    """How one library names and arranges the arrays of one type of network.

    Attributes:
      keys: the names that `export` accepts for the layout.
      title: what messages call the layout.
      names: the table. Of a tuple of names, the first name that is in the weights is taken.
      marks: patterns; weights are of this layout if each pattern is found in some name.
      starts: a pattern. Such weights may lack the parameters whose path matches it, or have them for other classes.
        These parameters start anew.
      endings: the last part of our path -> the ending of their name.
      axes: the number of a kernel's axes -> how they are rearranged, theirs -> ours. If it is empty, their kernels have
        Flax's own order, with axes of heads.
      inputs, flow, difference: how colours, optical flow and differences of frames were normalised in training.
      when: a further condition that the arrays must fulfil to be recognised.
    """

    keys: tuple[str, ...]
    title: str
    names: Mapping[str, str | tuple[str, ...] | Beside]
    marks: tuple[str, ...]
    starts: str = NOTHING
    endings: Mapping[str, str] = dataclasses.field(default_factory=lambda: TORCH_ENDINGS)
    axes: Mapping[int, str] = dataclasses.field(default_factory=lambda: TORCH_AXES)
    inputs: Inputs = IMAGENET
    flow: Inputs = FLOW
    difference: Inputs = DIFFERENCE
    when: Callable[[Arrays], bool] = lambda arrays: True

    def recognises(self, arrays: Arrays) -> bool:
        return all(any(re.search(mark, name) for name in arrays) for mark in self.marks) and self.when(arrays)

    def inputs_of(self, modality: str) -> Inputs:
        """How the inputs of networks of a modality (see `vidcls.data.modality`) were normalised."""
        return {'rgb': self.inputs, 'flow': self.flow, 'rgbdiff': self.difference}[modality]

    def theirs(self, path: str) -> list[tuple[str, ...]]:
        """Returns their names for our parameter at `path`, as a list of alternatives.

        An alternative is a tuple of one name, or of several names whose arrays are concatenated. For example,
        'blocks_1/norm1/scale' -> [('blocks.1.norm1.weight',)]. The list is empty if they have no such parameter.
        """
        module, _, leaf = path.rpartition('/')
        for key, ending in ((path, ''), (module, self.endings.get(leaf))):
            found = self._find(key)
            if found and ending is not None:
                value, numbers = found
                groups = (value,) if isinstance(value, Beside) else _alternatives(value)
                return [tuple(_fill(name, numbers) + ending for name in group) for group in groups]
        return []

    def _find(self, key: str) -> tuple[Any, tuple[str, ...]] | None:
        if key in self.names:
            return self.names[key], ()
        for pattern, value in self.names.items():
            match = _pattern(pattern).fullmatch(key)
            if match:
                return value, match.groups()
        return None

    def to_ours(self, arrays: Iterable[np.ndarray], leaf: str, shape: tuple[int, ...]) -> np.ndarray:
        """Returns their arrays for one variable of ours as one array, in our order of axes.

        Args:
          arrays: their arrays; several are concatenated.
          leaf: the last name in the variable's path, such as 'kernel'.
          shape: the shape of the variable, which the result has if the arrays fit.

        Raises:
          ValueError: several arrays can't be concatenated.
        """
        parts = [np.asarray(array) for array in arrays]
        if leaf == 'kernel' and self.axes:
            parts = [einops.rearrange(x, self.axes[x.ndim]) if x.ndim in self.axes else x for x in parts]
        elif len(shape) == 1 and (not self.axes or all(x.ndim == 2 and len(x) == 1 for x in parts)):
            # This joins axes (heads, d), and removes the first axis of size 1 with which BN-Inception's norms are
            # published.
            parts = [x.reshape(-1) for x in parts]
        elif leaf == 'kernel' and len(shape) == 2:
            parts = [x.reshape(shape[0], -1) if x.ndim == 3 and x.size % shape[0] == 0 else x for x in parts]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)

    def to_theirs(self, array: np.ndarray, leaf: str) -> np.ndarray:
        """Returns our array in their order of axes.

        This undoes `to_ours` if one array of theirs belongs to one of ours.
        """
        if leaf != 'kernel' or array.ndim not in self.axes:
            return array
        theirs, ours = self.axes[array.ndim].split(' -> ')
        return einops.rearrange(array, f'{ours} -> {theirs}')


def under(theirs: str, table: Mapping[str, str], ours: str = '') -> dict[str, str]:
    """Returns the table with the prefix `theirs` before each of their names and `ours` before each of our names."""
    return {ours + key: theirs + value for key, value in table.items()}


def perhaps_under(theirs: str, table: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Returns the table with two alternatives for each of their names: without and with the prefix `theirs`."""
    return {key: (value, theirs + value) for key, value in table.items()}


def _alternatives(value: str | tuple[str, ...]) -> Iterator[tuple[str]]:
    return ((name,) for name in ((value,) if isinstance(value, str) else value))


@functools.cache
def _pattern(key: str) -> re.Pattern:
    return re.compile(re.escape(key).replace(r'\*', r'(\d+)'))


def _fill(name: str, numbers: tuple[str, ...]) -> str:
    for number in numbers:
        name = name.replace('*', number, 1)
    return name
