"""Suggestions for misspelled names, for use in messages."""

import difflib
from collections.abc import Iterable

_SHOWN = 3


def hint(name: str, known: Iterable[str], before: str = '') -> str:
    """Returns ' (did you mean A or B?)' with the known names that are nearest to `name`, or '' if none is near.

    In a name with dots, such as 'optim.learning_rate', the last word decides, because people forget the words before
    it.

    Args:
      before: what is written before each name, such as '--config.'.
    """
    known = sorted(set(known))
    lasts = difflib.get_close_matches(_last(name), sorted(set(map(_last, known))), _SHOWN, 0.75)
    near = [path for last in lasts for path in known if _last(path) == last]
    # Names of the same group come first: for 'optim.nam', optim.name before model.name.
    near.sort(key=lambda path: not path.startswith(name[: -len(_last(name))]))
    near = near or difflib.get_close_matches(name, known, _SHOWN, 0.75)
    found = [f'{before}{path}' for path in dict.fromkeys(near)][:_SHOWN]
    return f' (did you mean {" or ".join(found)}?)' if found else ''


def _last(path: str) -> str:
    return path.rpartition('.')[2]
