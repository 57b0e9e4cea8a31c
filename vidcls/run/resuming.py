"""Settings that may change on resume, and the messages about those that may not."""

import re
from typing import Any, NamedTuple

from vidcls.config import Config, flatten

# Settings that change the result of a run at most by rounding.
_FREE = re.compile(
    r'data\.(dir|test_split)|test\..*|model\.(remat|attention_implementation)|log_every_steps|profile_steps'
    r'|checkpoint_every.*'
)
# How many clips of its share a device computes at once.
_PARTS = 'optim.clips_per_device'
_NOTES = {
    'epochs': 'the rate falls to zero with the last epoch; with --extend it goes on along the new schedule',
    _PARTS: 'BatchNorm normalises each part by itself',
}


class Terms(NamedTuple):
    """The facts that decide, beside the settings themselves, whether a setting may change.

    Attributes:
      batch_norm: whether the network has BatchNorm.
      num_steps: the number of steps that the settings ask for.
      extend: whether --extend was given.
    """

    batch_norm: bool = True
    num_steps: int = 0
    extend: bool = False


def may_change(name: str, config: Config, terms: Terms) -> bool:
    """Whether a run may resume with another value of the setting `name`.

    `optim.clips_per_device` may change if the network has no BatchNorm: the gradient of a share is then the same up to
    rounding, however many clips are computed at once. Dropout and mixing draw other random numbers, as they also do
    when the number of devices changes.

    `epochs` may change if the schedule is multi-step, because its milestones are given in epochs and stay where they
    are. Any other schedule changes with the number of epochs, so that `terms.extend` is needed.
    """
    if name == _PARTS:
        return not terms.batch_norm
    if name == 'epochs':
        return config.optim.schedule == 'multi_step' or terms.extend
    return bool(_FREE.fullmatch(name))


def changes(ours: Config, theirs: Config) -> dict[str, tuple[Any, Any]]:
    """Returns name -> (their value, our value), for each setting that differs, such as 'optim.learning_rate'."""
    now, before = flatten(ours), flatten(theirs)
    return {name: (before[name], now[name]) for name in now if now[name] != before[name]}


def refused(ours: Config, theirs: Config, terms: Terms) -> list[str]:
    """Returns a line for each setting that differs and may not change on resume."""
    return [
        line(name, *values) + (f' ({_NOTES[name]})' if name in _NOTES else '')
        for name, values in changes(ours, theirs).items()
        if not may_change(name, ours, terms)
    ]


def line(name: str, before: Any, now: Any) -> str:
    """Returns a line about a changed setting, such as 'epochs: 1.0 -> 2.0'."""
    return f'{name}: {before!r} -> {now!r}'
