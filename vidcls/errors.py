"""UserError, which is an error that a user can mend, and one line of text for any other exception."""

import traceback
from pathlib import Path


class UserError(ValueError):
    """A setting, file or machine that can't be used. The message names what it is, the limit and the remedy.

    Scripts print the message as one line, and do the same with an OSError that names a file. Any other exception is a
    mistake in a program, either ours or a program that uses the library, and keeps its traceback.
    """


def internal_error(error: Exception) -> str:
    """Returns a line about an exception that is a mistake in a program: its type, place in the code and message."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    message = ' '.join(str(error).split())
    return f'internal error: {type(error).__name__} at {Path(place.filename).name}:{place.lineno}: {message}'
