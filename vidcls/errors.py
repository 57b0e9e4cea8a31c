"""The one kind of error that the person at the keyboard can mend."""


class UserError(ValueError):
    """A setting, file or machine that will not do; the message names it, the limit and the remedy.

    Scripts print it as one line. Every other exception is a mistake in a program, ours or that of somebody who builds
    on it, and keeps its traceback.
    """
