"""Settings that may change on resume, and the messages about those that may not."""

import re
from typing import Any, NamedTuple

from vidcls.config import Config, flatten

# Settings that change the result of a run by rounding at most.
_FREE = re.compile(
    r'data\.(dir|test_split)|test\..*|model\.(remat|attention_implementation)|log_every_steps|profile_steps'
    r'|checkpoint_every.*'
)
# The number of clips of its share that a device works through at once.
_PARTS = 'optim.clips_per_device'
_NOTES = {
    'epochs': 'the rate falls to zero with the last epoch; with --extend it goes on along the new schedule',
    _PARTS: 'BatchNorm normalises each part by itself',
}


class Terms(NamedTuple):
    """What else decides whether a setting may change.

    Attributes:
      batch_norm: whether the network has BatchNorm.
      num_steps: the number of steps that the settings ask for.
      extend: whether --extend was given.
    """

    batch_norm: bool = True
    num_steps: int = 0
    extend: bool = False


def may_change(name: str, config: Config, terms: Terms) -> bool:
    """Whether a run may resume with another value of this setting.

    `optim.clips_per_device`: without BatchNorm, the gradient of a share in parts is the same up to rounding; dropout and
    mixing draw other numbers, as they do on another number of devices. `epochs`: the milestones of the multi-step schedule
    are epochs, so that their number does not move them; another schedule changes, which `terms.extend` allows.
    """
    if name == _PARTS:
        return not terms.batch_norm
    if name == 'epochs':
        return config.optim.schedule == 'multi_step' or terms.extend
    return bool(_FREE.fullmatch(name))


def changes(ours: Config, theirs: Config) -> dict[str, tuple[Any, Any]]:
    """'optim.learning_rate' -> (theirs, ours), for each setting in which they differ."""
    now, before = flatten(ours), flatten(theirs)
    return {name: (before[name], now[name]) for name in now if now[name] != before[name]}


def refused(ours: Config, theirs: Config, terms: Terms) -> list[str]:
    """A line for each setting that differs and may not change on resume."""
    return [
        line(name, *values) + (f' ({_NOTES[name]})' if name in _NOTES else '')
        for name, values in changes(ours, theirs).items()
        if not may_change(name, ours, terms)
    ]


def line(name: str, before: Any, now: Any) -> str:
    """'epochs: 1.0 -> 2.0'."""
    return f'{name}: {before!r} -> {now!r}'
