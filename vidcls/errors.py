"""The one kind of error that the person at the keyboard can mend, and the words for every other one in a list of files."""

import traceback
from pathlib import Path


class UserError(ValueError):
    """A setting, file or machine that will not do; the message names it, the limit and the remedy.

    Scripts print it as one line. Every other exception is a mistake in a program, ours or that of somebody who builds
    on it, and keeps its traceback.
    """


def internal_error(error: Exception) -> str:
    """What to say, in a line, of an exception that nobody foresaw: its type, its place and its message."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    message = ' '.join(str(error).split())
    return f'internal error: {type(error).__name__} at {Path(place.filename).name}:{place.lineno}: {message}'
