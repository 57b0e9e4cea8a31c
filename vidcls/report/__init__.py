"""Pages about evaluations, trainings and datasets. A page is one HTML file, which opens without an internet connection.

`page` has the shell and the blocks that pages are made of; `theme` has the colours and the look of plots. The libraries
that draw are an optional extra of the package, so scripts call `check_installed` before they import a module of this
room.
"""

import importlib.util

from vidcls.errors import UserError

INSTALL = "pip install 'vidcls[report]'"
_LIBRARIES = ('plotly', 'jinja2', 'PIL')


def check_installed(*more: str) -> None:
    """Checks that the libraries of the extra are installed.

    Args:
      more: modules of the extra that this page needs and other pages do not.

    Raises:
      UserError: a library is missing; the message says how to get it.
    """
    missing = [name for name in (*_LIBRARIES, *more) if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f'a page needs {" and ".join(missing)}: {INSTALL}')
