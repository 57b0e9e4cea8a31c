"""Settings as fields of dataclasses, each with its default and its limits in one place.

The functions check settings, list them by their whole names, and write and read them as JSON. A field is written
`crops: int = setting(1, choices=(1, 3, 10))`. A group of settings is a dataclass of such fields, and may be a field of
another group. The settings themselves are in `vidcls.config`.
"""

import dataclasses
import json
import re
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from vidcls.errors import UserError
from vidcls.text import spelling, whole_file
from vidcls.text.bounded_file import read_json

T = TypeVar('T')

_MAX_NUMBER = 1e30  # a limit on integers too, which may have any length in JSON
_MAX_NUMBERS = 100  # in a tuple
_MAX_TEXT = 4096  # characters
_MAX_PATTERN = 200  # characters; some classes of characters take 50 ms each to compile
_MAX_BYTES = 1 << 20  # of a file of settings


@dataclasses.dataclass(frozen=True)
class Limits:
    """The limits on the value of a setting. In a tuple, the bounds apply to each number.

    Attributes:
      choices: the only values allowed; if empty, all are.
      above, at_least, below, most: bounds on a number: > above, >= at_least, < below, <= most.
      pattern: whether a text must be a regular expression.
    """

    choices: tuple[Any, ...] = ()
    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    most: float | None = None
    pattern: bool = False

    def broken(self, value: Any) -> str:
        """Returns what a refused value must do, in words that follow 'must ', such as 'be at most 1'.

        The text is empty for a value within the limits.
        """
        if self.choices and value not in self.choices:
            return f'be one of {", ".join(map(str, self.choices))}'
        if isinstance(value, tuple) and not all(type(number) in (int, float) for number in value):
            return 'be numbers'
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int | float) and (broken := self._broken_number(number)):
                return f'be {broken}'
        return _broken_pattern(value) if self.pattern else ''

    def _broken_number(self, number: float) -> str:
        if not abs(number) < _MAX_NUMBER:  # a NaN fails every comparison
            return 'finite'
        if self.most is not None and number > self.most:
            return f'at most {self.most}'
        if self.above is not None and number <= self.above:
            return f'greater than {self.above}'
        if (self.at_least is None or number >= self.at_least) and (self.below is None or number < self.below):
            return ''
        if self.below is None:
            return f'at least {self.at_least}'
        return f'below {self.below}' if self.at_least is None else f'in [{self.at_least}, {self.below})'


def _broken_pattern(value: str) -> str:
    if len(value) > _MAX_PATTERN:
        return f'have at most {_MAX_PATTERN} characters'
    try:
        re.compile(value)
    except (re.error, RecursionError, OverflowError) as error:
        return f'be a regular expression: {error}'
    return ''


def setting(default: T, **limits: Any) -> T:
    """Returns a field of a dataclass with this default and with `Limits(**limits)`."""
    return typing.cast(T, dataclasses.field(default=default, metadata={'limits': Limits(**limits)}))


def flatten(settings: Any) -> dict[str, Any]:
    """Returns every setting by its whole name: {'optim.learning_rate': 0.01, ...}."""
    return {name: value for name, value, _ in _walk(settings, '')}


def _walk(settings: Any, prefix: str) -> Iterator[tuple[str, Any, Limits]]:
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            yield from _walk(value, f'{prefix}{field.name}.')
        else:
            yield prefix + field.name, value, field.metadata.get('limits', Limits())


def check(settings: Any, where: str) -> None:
    """Checks that every setting is within its limits.

    Args:
      where: what stands before the name of a setting in a message, such as '--config'.

    Raises:
      UserError: a setting is outside its limits; the message names the setting, its value and what is allowed.
    """
    for name, value, limits in _walk(settings, f'{where}.'):
        if isinstance(value, str | tuple) and len(value) > (_MAX_TEXT if isinstance(value, str) else _MAX_NUMBERS):
            raise UserError(f'{name}={value!r:.80}...: is too long')
        if broken := limits.broken(value):
            text = repr(value)
            raise UserError(f'{name}={text if len(text) <= 200 else f"{text:.80}..."}: must {broken}')


def write(settings: Any, path: Path) -> None:
    """Writes settings to a JSON file, which replaces an old file at once.

    Even after a kill, either the old file or the new one is there, whole.
    """
    whole_file.write_text(path, json.dumps(dataclasses.asdict(settings), indent=2) + '\n')


def read(path: Path) -> Any:
    """Returns the JSON object in a file that `write` wrote.

    Raises:
      UserError: the file is not a plain file, is too long, or is not a JSON object.
    """
    return read_json(path, _MAX_BYTES)


def from_dict(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """Makes the dataclass `cls` from nested dictionaries. Fields that are absent get their defaults.

    Args:
      where: what stands before the name of a setting in messages.

    Raises:
      UserError: a name is no setting of `cls`, or a value has another type than its setting.
    """
    hints = typing.get_type_hints(cls)
    if not isinstance(values, dict):
        raise UserError(f'{where}={values!r:.80}: must be an object')
    unknown = set(values) - set(hints)
    if unknown:
        near = spelling.hint(min(unknown), hints)
        raise UserError(f'{where}: unknown setting {min(unknown)!r:.80}{near}; known: {", ".join(hints)}')
    return cls(**{name: _coerce(hints[name], value, f'{where}: {name}') for name, value in values.items()})


def _coerce(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(type, hint), value, where)
    if isinstance(hint, types.UnionType):  # `T | None`
        return None if value is None else _coerce(hint.__args__[0], value, where)
    if typing.get_origin(hint) is tuple and isinstance(value, list | tuple):
        return tuple(value)
    if hint is float and type(value) is int and abs(value) < _MAX_NUMBER:
        return float(value)
    if type(value) is not hint:
        hint = typing.get_origin(hint) or hint
        raise UserError(f'{where}={value!r:.80}: must be of type {hint.__name__}')
    return value
