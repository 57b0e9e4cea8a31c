"""Arrays of another library -> variables of one of our networks, and back.

Nothing is guessed and nothing is silent: every parameter of ours is loaded, or listed as started with the reason, or an
error; every array of theirs is used or listed.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import numpy as np

from vidcls.errors import UserError
from vidcls.models import embeddings
from vidcls.pretrained import fetching, inception, reading, resnet, transformer
from vidcls.pretrained.layout import NOTHING, Arrays, Layout
from vidcls.pretrained.plain import MOST_BYTES

LAYOUTS: tuple[Layout, ...] = (*resnet.LAYOUTS, *inception.LAYOUTS, *transformer.LAYOUTS)
WRAPPERS = ('module.', 'model.')  # what PyTorch's DataParallel and facebookresearch's trainer put before each name
FIRST_CONVOLUTION = re.compile(r'(backbone/conv1|backbone/conv1_7x7_s2|patch_embed/proj)/kernel')
BLOCK = re.compile(r'(.*(?:layer\d+|blocks)_)(\d+)(/.*)')
SHOWN = 5  # names in a message
# Of a file, for each number of ours and beside them. A training checkpoint has parameters, their averages and an
# optimizer's two numbers, perhaps of 8 bytes; beside them may stand a classifier of more classes.
BYTES_EACH, BYTES_MORE = 64, 1 << 30


@dataclasses.dataclass(frozen=True)
class Converted:
    """What became of the arrays.

    Attributes:
      variables: ready for `model.apply`.
      loaded: paths of our parameters and statistics that hold the published values.
      started: paths of those that are new or of another size, with the reason.
      unused: their names of arrays that went nowhere.
      layout: what the arrays were recognised as.
    """

    variables: dict[str, Any]
    loaded: tuple[str, ...]
    started: Mapping[str, str]
    unused: tuple[str, ...]
    layout: Layout

    def for_rgb(self) -> dict[str, Any]:
        """The variables for pictures whose channels are red, green and blue, whatever the published order."""
        flat = flax.traverse_util.flatten_dict(self.variables)
        for key, value in flat.items():
            if '/'.join(key[1:]) in self.loaded:
                flat[key] = _turned(key, value, self.layout)
        return flax.traverse_util.unflatten_dict(flat)

    def summary(self) -> str:
        """What was loaded and what not, in a line or a few."""
        unused = [name for name in self.unused if not name.endswith('num_batches_tracked')]
        which = f' ({", ".join(unused[:SHOWN])}{", ..." * (len(unused) > SHOWN)})' if unused else ''
        lines = [f'{self.layout.title}: {len(self.loaded)} arrays loaded, {len(unused)} of theirs unused{which}']
        reasons = collections.Counter(self.started.values())
        lines += [f'{count} started ({reason})' for reason, count in list(reasons.items())[:SHOWN]]
        return '; '.join(lines)


class _Misfit(ValueError):
    """An array can't be made to fit."""


class _OtherClasses(ValueError):
    """The classifier is for another number of classes."""


def load(path: str | Path, model: nn.Module, variables: Any, allow_missing: str = '') -> Converted:
    """`convert` of the arrays in a file, see `vidcls.pretrained.reading`.

    Raises:
      UserError: the file can't be read, is far larger than one of this network's can be, or `convert` refuses it.
    """
    try:
        return convert(reading.read(path, most_bytes(variables)), model, variables, allow_missing)
    except ValueError as error:
        raise UserError(f'{path}: {error}' if str(path) not in str(error) else str(error)) from error


def most_bytes(variables: Any) -> int:
    """Of a file of weights for this network, packed or unpacked."""
    numbers = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables))
    return min(BYTES_EACH * numbers + BYTES_MORE, MOST_BYTES)


def convert(
    arrays: Arrays, model: nn.Module, variables: Any, allow_missing: str = '', layout: Layout | None = None
) -> Converted:
    """Variables of `model` with the values of another library's arrays.

    A classifier of another number of classes starts anew, as `variables` has it. A first convolution of another number
    of channels gets the mean over theirs in each (Wang et al. 2016, arXiv:1608.00859, section 3.2: cross-modality
    pre-training). Embeddings of place and time are resized.

    Args:
      arrays: by their names, as the file has them; axes in their order.
      variables: those that the model starts with, from `model.init`.
      allow_missing: pattern found in the paths of our parameters (such as 'blocks_0/attn/qkv/kernel') that may be absent or of
        another shape, and then start anew.
      layout: what the arrays are of, if that is known; else they are recognised by their names.

    Raises:
      UserError: the names are of no known layout, or an array is missing or of a shape that doesn't fit.
    """
    arrays = unwrapped(arrays)
    layout = layout or recognise(arrays)
    flat = flax.traverse_util.flatten_dict(dict(variables))
    values, loaded, started, used, wrong = {}, [], {}, set(), []
    for key, start in flat.items():
        path = '/'.join(key[1:])
        values[key] = start
        names = next((group for group in layout.theirs(path) if all(name in arrays for name in group)), None)
        try:
            if names is None:
                raise _Misfit(_why_absent(layout, path))
            found = _in_our_axes(layout, [arrays[name] for name in names], key[-1], start.shape)
            values[key], change = _fit(path, found, start.shape, model)
            used.update(names)
        except _Misfit as misfit:
            if not re.search(layout.starts, path) and not re.search(allow_missing or NOTHING, path):
                wrong.append(f'{path}: {misfit}')
            change = f'new: {misfit}'
        except _OtherClasses as other:
            used.update(names)
            change = f'new: {other}'
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
    """Where the parameters came from, for the work directory (weights.json)."""
    return {
        'file': str(weights),
        'sha256': fetching.sha256(weights),
        'layout': converted.layout.title,
        'loaded': len(converted.loaded),
        'started': dict(converted.started),
        'unused': list(converted.unused),
    }


def unwrapped(arrays: Arrays) -> Arrays:
    """The arrays without the beginnings that all of their names share, such as 'module.'."""
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    while arrays and (wrapper := next((w for w in WRAPPERS if all(name.startswith(w) for name in arrays)), '')):
        arrays = {name.removeprefix(wrapper): array for name, array in arrays.items()}
    return arrays


def recognise(arrays: Arrays) -> Layout:
    """The layout that these names are of.

    Raises:
      UserError: none that is known.
    """
    for layout in LAYOUTS:
        if layout.recognises(arrays):
            return layout
    known = '\n  '.join(layout.title for layout in LAYOUTS)
    names = ', '.join(list(arrays)[:SHOWN]) or 'none'
    raise UserError(f'the names of the arrays are of no known layout: {names}, ...\nKnown:\n  {known}')


def export(variables: Any, model: nn.Module, layout: str, from_rgb: bool = False) -> dict[str, np.ndarray]:
    """The arrays of a network under another library's names and in its order of axes.

    Args:
      layout: 'torchvision', 'timm', 'huggingface' or another of the `keys` in `vidcls.pretrained.LAYOUTS`.
      from_rgb: the variables take red first, as those of a run do; a library that takes blue first gets them turned round.

    Raises:
      UserError: no such layout for this network.
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
    """A variable of ours for the other order of colours, if the layout has it and the variable meets them."""
    if not layout.inputs.bgr or not FIRST_CONVOLUTION.fullmatch('/'.join(key[1:])):
        return value
    h, w, c, o = value.shape  # perhaps seg_len pictures one after another
    return np.ascontiguousarray(np.reshape(value, (h, w, c // 3, 3, o))[:, :, :, ::-1].reshape(h, w, c, o))


def _in_our_axes(layout: Layout, found: list[np.ndarray], leaf: str, shape: tuple[int, ...]) -> np.ndarray:
    try:
        return layout.to_ours(found, leaf, shape)
    except ValueError as error:
        raise _Misfit(f'of shapes {[x.shape for x in found]}, needed {shape} in our order of axes') from error


def _fit(path: str, found: np.ndarray, shape: tuple[int, ...], model: nn.Module) -> tuple[np.ndarray, str]:
    """The array in our shape, and how it was changed for that, if it was."""
    if (
        found.dtype.kind != 'f' and found.dtype.name != 'bfloat16'
    ):  # integers too: quantised, by a scale that is elsewhere
        raise _Misfit(f'holds {found.dtype}, no floating-point numbers')
    if not found.size:
        raise _Misfit(f'of shape {found.shape} holds no numbers')
    # Shapes come first: numbers are converted where there is a place for them.
    if found.shape == shape:
        return _numbers(found), ''
    if FIRST_CONVOLUTION.fullmatch(path) and found.ndim == 4 and _same_but(found.shape, shape, 2):
        mean = np.repeat(_numbers(found).mean(2, keepdims=True), shape[2], axis=2)
        return mean, f'the mean over {found.shape[2]} channels in each of {shape[2]}'
    # ECO-pytorch's 3-D part was trained alone on wider maps; it starts ECO with the first of them.
    if (
        path == 'tail/res3a/2/kernel'
        and found.ndim == 5
        and _same_but(found.shape, shape, 3)
        and found.shape[3] > shape[3]
    ):
        return _numbers(found)[..., : shape[3], :], f'the first {shape[3]} of {found.shape[3]} channels'
    if path == 'pos_embed' and _same_but(found.shape, shape, 1) and found.shape[1] > 1:
        side = round((found.shape[1] - 1) ** 0.5)
        if side * side == found.shape[1] - 1:
            resized = np.asarray(embeddings.resize_position(_numbers(found), (side, side), model.grid))
            return resized, f'resized from {side} x {side} patches to {model.grid[0]} x {model.grid[1]}'
    if path == 'time_embed' and _same_but(found.shape, shape, 1):
        resized = np.asarray(embeddings.resize_time(_numbers(found), shape[1]))
        return resized, f'resized from {found.shape[1]} frames to {shape[1]}'
    if path.startswith('head/') and found.ndim == len(shape) and found.shape[-1] != shape[-1]:
        raise _OtherClasses(f'{found.shape[-1]} classes there, {shape[-1]} here')
    raise _Misfit(f'of shape {found.shape} in our order of axes, needed {shape}')


def _numbers(found: np.ndarray) -> np.ndarray:
    with np.errstate(over='ignore'):
        found = found.astype(np.float32)
    if not np.isfinite(found).all():
        raise _Misfit('holds numbers that are not finite')
    return found


def _start_head_whole(flat: Mapping, values: dict, loaded: list[str], started: dict[str, str]) -> None:
    """A bias of a classifier whose kernel is new means nothing."""
    if not any(path.startswith('head/') for path in started):
        return
    for key, start in flat.items():
        path = '/'.join(key[1:])
        if path.startswith('head/') and path in loaded:
            values[key] = start
            loaded.remove(path)
            started[path] = 'new: as the rest of the classifier'


def _same_but(one: tuple[int, ...], other: tuple[int, ...], axis: int) -> bool:
    return len(one) == len(other) and all(a == b for i, (a, b) in enumerate(zip(one, other)) if i != axis)


def _why_absent(layout: Layout, path: str) -> str:
    names = layout.theirs(path)
    wanted = ' or '.join(' and '.join(group) for group in names)
    return f'no array {wanted}' if names else 'has no counterpart there'


def _deeper(layout: Layout, arrays: Arrays, flat: Mapping) -> list[str]:
    """Blocks that follow on our last: the weights are those of a deeper network, and ours would be a ruin of it."""
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


def _refuse(layout: Layout, model: nn.Module, wrong: list[str]) -> None:
    more = f'\n  and {len(wrong) - SHOWN} more' if len(wrong) > SHOWN else ''
    raise UserError(
        f'recognised as {layout.title}, which does not fit this {type(model).__name__}:\n  '
        + '\n  '.join(wrong[:SHOWN])
        + more
        + "\nAnother model or size? What may be missing is named by allow_missing, a pattern of our parameters' paths"
        ' (--config.init.allow_missing)'
    )
