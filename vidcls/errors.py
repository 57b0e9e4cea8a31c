"""UserError, the error that a user can mend; and one line of text for any other exception."""

import traceback
from pathlib import Path


class UserError(ValueError):
    """A setting, file or machine that can't be used. The message names it, the limit and the remedy.

    Scripts print the message as one line, and so that of an OSError that names a file. Every other exception is a mistake in
    a program, ours or one that uses the library, and keeps its traceback.
    """


def internal_error(error: Exception) -> str:
    """One line about an exception that is a mistake in a program: its type, its place in the code and its message."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    message = ' '.join(str(error).split())
    return f'internal error: {type(error).__name__} at {Path(place.filename).name}:{place.lineno}: {message}'
