"""Layouts: the names that another library has for the arrays of a network, and its order of their axes.

"Ours" are the names and axes of this library, "theirs" those of the other one. A layout's table maps the names of our
modules, joined by '/', to theirs. `*` stands for a number, on both sides in the same order: 'blocks_*/norm1' is
'blocks.*.norm1'. The last part of a parameter's path (kernel, scale, ...) has its counterpart in `endings`, unless the table
names the parameter itself.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import einops
import numpy as np

Arrays = Mapping[str, np.ndarray]
NOTHING = r'(?!)'  # a pattern that is found nowhere

TORCH_ENDINGS = {
    'kernel': '.weight', 'scale': '.weight', 'bias': '.bias', 'mean': '.running_mean', 'var': '.running_var',
}  # fmt: skip
# The axes of kernels, theirs -> ours, by the number of axes.
TORCH_AXES = {2: 'o i -> i o', 4: 'o i h w -> h w i o', 5: 'o i t h w -> t h w i o'}


class Inputs(NamedTuple):
    """How the images that published weights were trained on were normalised: values in [0, 1] less `mean`, over `std`.

    Mean and deviation are in the order red, green, blue. With `bgr` the network takes the channels blue first.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    bgr: bool = False


IMAGENET = Inputs((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
UNSAID = Inputs((), ())  # the weights don't tell
HALF = Inputs((0.5,) * 3, (0.5,) * 3)
# facebookresearch/TimeSformer, DATA.MEAN and DATA.STD. Hugging Face's weights are the same ones, converted. The script of
# the conversion compared logits on images normalised by HALF, which does not show how the training images were normalised.
KINETICS = Inputs((0.45,) * 3, (0.225,) * 3)
# tsn-pytorch: values from 0 to 255, less (104, 117, 128) in the order blue, green, red.
CAFFE = Inputs((128 / 255, 117 / 255, 104 / 255), (1 / 255,) * 3, bgr=True)


class Beside(tuple):
    """Names of arrays that are concatenated into one of ours; each array has output axes (heads, d) or a single one."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """One library's form of one kind of network.

    Attributes:
      keys: the names by which `export` knows it.
      title: what messages call it.
      names: the table. In a tuple of names, the first one that the weights have counts.
      marks: patterns; weights are of this layout if each pattern is found in some name.
      starts: pattern of our paths that such weights may lack, or have for other classes. These parameters start anew.
      endings: the last part of our path -> the ending of their name.
      axes: the axes of kernels, theirs -> ours, by the number of axes. Empty: Flax's own order, with axes of heads.
      inputs: how the images that the network was trained on were normalised.
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
    when: Callable[[Arrays], bool] = lambda arrays: True

    def recognises(self, arrays: Arrays) -> bool:
        return all(any(re.search(mark, name) for name in arrays) for mark in self.marks) and self.when(arrays)

    def theirs(self, path: str) -> list[tuple[str, ...]]:
        """Their names of the parameter at our path: a list of alternatives, each of one name or of several concatenated.

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
        """Their arrays as one of ours, which has this shape if they fit.

        Raises:
          ValueError: several arrays can't be concatenated.
        """
        parts = [np.asarray(array) for array in arrays]
        if leaf == 'kernel' and self.axes:
            parts = [einops.rearrange(x, self.axes[x.ndim]) if x.ndim in self.axes else x for x in parts]
        elif len(shape) == 1 and (not self.axes or all(x.ndim == 2 and len(x) == 1 for x in parts)):
            # Axes of heads are joined. BN-Inception's norms are published with a first axis of size 1, which goes away.
            parts = [x.reshape(-1) for x in parts]
        elif leaf == 'kernel' and len(shape) == 2:
            parts = [x.reshape(shape[0], -1) if x.ndim == 3 and x.size % shape[0] == 0 else x for x in parts]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)

    def to_theirs(self, array: np.ndarray, leaf: str) -> np.ndarray:
        """The inverse of `to_ours`, for a layout that has one array for each of ours."""
        if leaf != 'kernel' or array.ndim not in self.axes:
            return array
        theirs, ours = self.axes[array.ndim].split(' -> ')
        return einops.rearrange(array, f'{ours} -> {theirs}')


def under(theirs: str, table: Mapping[str, str], ours: str = '') -> dict[str, str]:
    """The table with the prefix `theirs` before each of their names, and the prefix `ours` before each of ours."""
    return {ours + key: theirs + value for key, value in table.items()}


def perhaps_under(theirs: str, table: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The table with two alternatives for each of their names: without and with the prefix `theirs`."""
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
