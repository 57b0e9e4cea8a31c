"""Converts arrays of another library to variables of one of our networks, and back.

"Ours" are the parameters and statistics of our network; "theirs" are the arrays of the other library. Each parameter of
ours is loaded, is listed in `Converted.started` with the reason, or causes an error. Each array of theirs is used or is
listed as unused.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import flax.linen as nn
import flax.traverse_util
import jax
import numpy as np

from vidcls.errors import UserError
from vidcls.pretrained import fetching, inception, own, reading, resnet, transformer
from vidcls.pretrained.fitting import FIRST_CONVOLUTION, NEW, Misfit, OtherClasses, fit, in_our_axes
from vidcls.pretrained.layout import NOTHING, Arrays, Layout
from vidcls.pretrained.plain import MOST_BYTES

LAYOUTS: tuple[Layout, ...] = (*own.LAYOUTS, *resnet.LAYOUTS, *inception.LAYOUTS, *transformer.LAYOUTS)
WRAPPERS = ('module.', 'model.')  # what PyTorch's DataParallel and facebookresearch's trainer put before each name
BLOCK = re.compile(r'(.*(?:layer\d+|blocks)_)(\d+)(/.*)')
SHOWN = 5  # a message shows at most so many names
# A file may have BYTES_EACH bytes for each number of our network, plus BYTES_MORE. For each parameter, a training
# checkpoint has the value, its moving average and two numbers of the optimizer, perhaps of 8 bytes each. Its classifier
# may have more classes than ours.
BYTES_EACH, BYTES_MORE = 64, 1 << 30


@dataclasses.dataclass(frozen=True)
class Converted:
    """The result of a conversion.

    Attributes:
      variables: variables for `model.apply`.
      loaded: the paths of our parameters and statistics that have the published values.
      started: path -> reason, for our parameters and statistics that start anew or whose array was changed to fit.
      unused: the names of their arrays that have no place in our network.
      layout: the layout of the arrays.
    """

    variables: dict[str, Any]
    loaded: tuple[str, ...]
    started: Mapping[str, str]
    unused: tuple[str, ...]
    layout: Layout

    @property
    def has_inputs(self) -> bool:
        """Whether the first convolution has the published values, so that our inputs must be normalised like theirs."""
        return any(FIRST_CONVOLUTION.fullmatch(path) for path in self.loaded)

    def for_rgb(self) -> dict[str, Any]:
        """The variables for images whose channels are red, green and blue, whatever the published order.

        Optical flow has no colours: the variables of its networks stay as they are.
        """
        flat = flax.traverse_util.flatten_dict(self.variables)
        for key, value in flat.items():
            if '/'.join(key[1:]) in self.loaded:
                flat[key] = _turned(key, value, self.layout)
        return flax.traverse_util.unflatten_dict(flat)

    def summary(self) -> str:
        """Returns a line of text that says what was loaded, what was not used and what starts anew or changed."""
        unused = [name for name in self.unused if not name.endswith('num_batches_tracked')]
        which = f' ({", ".join(unused[:SHOWN])}{", ..." * (len(unused) > SHOWN)})' if unused else ''
        lines = [f'{self.layout.title}: {len(self.loaded)} arrays loaded, {len(unused)} of theirs unused{which}']
        reasons = collections.Counter(self.started.values())
        lines += [f'{count} started ({reason})' for reason, count in list(reasons.items())[:SHOWN]]
        return '; '.join(lines)


def load(path: str | Path, model: nn.Module, variables: Any, allow_missing: str = '') -> Converted:
    """Reads a file of weights (see `vidcls.pretrained.reading`) and converts its arrays as `convert` does.

    Args:
      path: the path of the file, or an address (see `vidcls.pretrained.fetching`).
      model, variables, allow_missing: as in `convert`.

    Raises:
      UserError: the file can't be read, is much larger than this network's weights, or `convert` refuses its arrays.
    """
    try:
        return convert(reading.read(path, most_bytes(variables)), model, variables, allow_missing)
    except ValueError as error:
        raise UserError(f'{path}: {error}' if str(path) not in str(error) else str(error)) from error


def most_bytes(variables: Any) -> int:
    """Returns the largest size in bytes that a file of weights for this network may have, packed or unpacked."""
    numbers = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables))
    return min(BYTES_EACH * numbers + BYTES_MORE, MOST_BYTES)


def convert(
    arrays: Arrays, model: nn.Module, variables: Any, allow_missing: str = '', layout: Layout | None = None
) -> Converted:
    """Returns variables of `model` with the values of another library's arrays.

    A classifier for another number of classes starts anew, with the values in `variables`. If our first convolution has
    another number of channels than theirs, each of our channels gets the mean over their colours (Wang et al. 2016,
    arXiv:1608.00859, section 3.2: cross-modality pre-training). Embeddings of position and time are resized.

    Args:
      arrays: name -> array, with names and axes as in the other library's file.
      model: our network.
      variables: the variables that the network starts with, from `model.init`.
      allow_missing: a regular expression. If it is found in the path of a parameter of ours, such as
        'blocks_0/attn/qkv/kernel', the arrays may lack the parameter or have it in another shape; it then starts anew.
      layout: the layout of the arrays. With None, it is recognised by the arrays' names.

    Raises:
      UserError: the names belong to no known layout, an array is missing, or an array doesn't fit.
    """
    arrays = unwrapped(arrays)
    layout = layout or recognise(arrays)
    flat = flax.traverse_util.flatten_dict(dict(variables))
    values: dict[tuple[str, ...], Any] = {}
    loaded: list[str] = []
    started: dict[str, str] = {}
    used: set[str] = set()
    wrong: list[str] = []
    for key, start in flat.items():
        path = '/'.join(key[1:])
        values[key] = start
        names = next((group for group in layout.theirs(path) if all(name in arrays for name in group)), None)
        try:
            if names is None:
                raise Misfit(_why_absent(layout, path))
            found = in_our_axes(layout, [arrays[name] for name in names], key[-1], start.shape)
            values[key], change = fit(path, found, start.shape, model)
            used.update(names)
        except Misfit as misfit:
            if not re.search(layout.starts, path) and not re.search(allow_missing or NOTHING, path):
                wrong.append(f'{path}: {misfit}')
            change = f'{NEW}{misfit}'
        except OtherClasses as other:
            used.update(names or ())
            change = f'{NEW}{other}'
        if change:
            started[path] = change
        else:
            loaded.append(path)
    _start_head_whole(flat, values, loaded, started)
    wrong += _deeper(layout, arrays, flat)
    if wrong or not loaded:
        _refuse(layout, model, wrong or ['nothing of it has a place in this network'])
    return Converted(
        flax.traverse_util.unflatten_dict(values),
        tuple(loaded),
        started,
        tuple(name for name in arrays if name not in used),
        layout,
    )


def origin(weights: str | Path, converted: Converted) -> dict[str, Any]:
    """Returns a description of where the parameters came from, for the work directory's weights.json."""
    return {
        'file': str(weights),
        'sha256': fetching.sha256(weights),
        'layout': converted.layout.title,
        'loaded': len(converted.loaded),
        'started': dict(converted.started),
        'unused': list(converted.unused),
    }


def unwrapped(arrays: Arrays) -> Arrays:
    """Returns the arrays by name, without the prefixes 'module.' and 'model.' where all names share them."""
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    while arrays and (wrapper := next((w for w in WRAPPERS if all(name.startswith(w) for name in arrays)), '')):
        arrays = {name.removeprefix(wrapper): array for name, array in arrays.items()}
    return arrays


def recognise(arrays: Arrays) -> Layout:
    """Returns the layout that the arrays' names belong to.

    Raises:
      UserError: the names belong to no known layout.
    """
    for layout in LAYOUTS:
        if layout.recognises(arrays):
            return layout
    known = '\n  '.join(layout.title for layout in LAYOUTS)
    names = ', '.join(list(arrays)[:SHOWN]) or 'none'
    raise UserError(f'the names of the arrays are of no known layout: {names}, ...\nKnown:\n  {known}')


def export(variables: Any, model: nn.Module, layout: str, from_rgb: bool = False) -> dict[str, np.ndarray]:
    """Returns a network's arrays with the names and the order of axes of another library.

    Args:
      variables: the variables of the network.
      model: the network.
      layout: 'torchvision', 'timm', 'huggingface' or another of the `keys` in `vidcls.pretrained.LAYOUTS`.
      from_rgb: whether the variables expect the channels red, green, blue, as the variables of a run do. If so, the
        channels of the first convolution are reversed for a library that expects blue first.

    Raises:
      UserError: there is no such layout for this network.
    """
    flat = flax.traverse_util.flatten_dict(dict(variables))
    for candidate in LAYOUTS:
        if layout not in candidate.keys or not candidate.axes:
            continue
        names = {key: candidate.theirs('/'.join(key[1:])) for key in flat}
        if all(names.values()) and len({found[0] for found in names.values()}) == len(names):
            if from_rgb:
                flat = {key: _turned(key, value, candidate) for key, value in flat.items()}
            return {
                names[key][0][0]: np.ascontiguousarray(candidate.to_theirs(np.asarray(value), key[-1]))
                for key, value in flat.items()
            }
    known = sorted({key for candidate in LAYOUTS if candidate.axes for key in candidate.keys})
    raise UserError(
        f'{type(model).__name__} has no layout {layout!r}; known for one network or another: {", ".join(known)}'
    )


def _turned(key: tuple[str, ...], value: np.ndarray, layout: Layout) -> np.ndarray:
    """Returns the variable `value` at the path `key`.

    The input channels of the first convolution are reversed if the layout expects blue first.
    """
    if not layout.inputs.bgr or not FIRST_CONVOLUTION.fullmatch('/'.join(key[1:])):
        return value
    h, w, c, o = value.shape  # c is 3; or 3 * seg_len for stacked frames; or 10 for published networks of flow
    if c % 3:
        return value
    return np.ascontiguousarray(np.reshape(value, (h, w, c // 3, 3, o))[:, :, :, ::-1].reshape(h, w, c, o))


def _start_head_whole(flat: Mapping, values: dict, loaded: list[str], started: dict[str, str]) -> None:
    """Starts the whole classifier anew if one of its parameters is new: a bias means nothing without its kernel."""
    if not any(path.startswith('head/') for path in started):
        return
    for key, start in flat.items():
        path = '/'.join(key[1:])
        if path.startswith('head/') and path in loaded:
            values[key] = start
            loaded.remove(path)
            started[path] = f'{NEW}as the rest of the classifier'


def _why_absent(layout: Layout, path: str) -> str:
    """Returns the reason why the weights have no array for our parameter at `path`."""
    names = layout.theirs(path)
    wanted = ' or '.join(' and '.join(group) for group in names)
    return f'no array {wanted}' if names else 'has no counterpart there'


def _deeper(layout: Layout, arrays: Arrays, flat: Mapping) -> list[str]:
    """Returns complaints about blocks that follow our last block in their network, which is deeper than ours."""
    paths = {'/'.join(key[1:]) for key in flat}
    found = []
    for path in sorted(paths):
        match = BLOCK.fullmatch(path)
        if not match:
            continue
        beginning, number, rest = match.groups()
        following = f'{beginning}{int(number) + 1}{rest}'
        if following not in paths and any(all(name in arrays for name in group) for group in layout.theirs(following)):
            found.append(f'{following}: there, and not in this network')
    return found


def _refuse(layout: Layout, model: nn.Module, wrong: list[str]) -> NoReturn:
    more = f'\n  and {len(wrong) - SHOWN} more' if len(wrong) > SHOWN else ''
    raise UserError(
        f'recognised as {layout.title}, which does not fit this {type(model).__name__}:\n  '
        + '\n  '.join(wrong[:SHOWN])
        + more
        + "\nAnother model or size? What may be missing is named by allow_missing, a pattern of our parameters' paths"
        ' (--config.init.allow_missing)'
    )
