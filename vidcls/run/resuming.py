"""Settings that may change on resume, and what is said of the others."""

import re
from typing import Any, NamedTuple

from vidcls.config import Config, flatten

# They change no result of a run but by rounding.
_FREE = re.compile(
    r'data\.(dir|test_split)|test\..*|model\.(remat|attention_implementation)|log_every_steps|profile_steps'
    r'|checkpoint_every.*'
)
# How much of its share of a batch a device works through at once.
_PARTS = 'optim.clips_per_device'
_NOTES = {
    'epochs': 'the rate falls to zero with the last epoch; with --extend it goes on along the new schedule',
    _PARTS: 'BatchNorm normalises each part by itself',
}


class Terms(NamedTuple):
    """What decides beside the settings.

    Attributes:
      batch_norm: whether the network has BatchNorm.
      num_steps: steps that the settings ask for.
      extend: whether --extend was given.
    """

    batch_norm: bool = True
    num_steps: int = 0
    extend: bool = False


def may_change(name: str, config: Config, terms: Terms) -> bool:
    """Whether a run goes on with another value of this setting as if nothing had happened, or because it was asked to.

    Parts of a batch without BatchNorm have the same gradient to rounding; dropout and mixing draw other numbers, as they
    do on another number of devices. The multi-step schedule has its milestones in epochs, whatever their number.
    """
    if name == _PARTS:
        return not terms.batch_norm
    if name == 'epochs':
        return config.optim.schedule == 'multi_step' or terms.extend
    return bool(_FREE.fullmatch(name))


def changes(ours: Config, theirs: Config) -> dict[str, tuple[Any, Any]]:
    """'optim.learning_rate' -> (theirs, ours), for each setting in which they differ."""
    ours, theirs = flatten(ours), flatten(theirs)
    return {name: (theirs[name], ours[name]) for name in ours if ours[name] != theirs[name]}


def refused(ours: Config, theirs: Config, terms: Terms) -> list[str]:
    """A line for each setting that differs and may not."""
    return [
        line(name, *values) + (f' ({_NOTES[name]})' if name in _NOTES else '')
        for name, values in changes(ours, theirs).items()
        if not may_change(name, ours, terms)
    ]


def line(name: str, before: Any, now: Any) -> str:
    return f'{name}: {before!r} -> {now!r}'
