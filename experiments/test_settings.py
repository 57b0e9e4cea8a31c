"""Flags for how a run is tested: `--config.test.crops=10` and the like, over the settings of the run itself.

Not the whole configuration, as in training: what the network is, and how it was trained, is in the work directory.
"""

import sys
from collections.abc import Callable
from typing import Any

from absl import flags

from vidcls import config as config_lib
from vidcls.config import Config

_DEFINE = {int: flags.DEFINE_integer, str: flags.DEFINE_string}


def define() -> Callable[[], dict[str, Any]]:
    """Defines a flag for each of `config.TEST_SETTINGS`; what it returns gives those on the command line.

    Exits where another setting is given, with the names of those that may be.
    """
    allowed = [f'--config.{name}' for name in config_lib.TEST_SETTINGS]
    for argument in sys.argv[1:]:
        name = argument.split('=')[0].replace('--no', '--') if argument.startswith('--') else ''
        if name.startswith('--config.') and name not in allowed:
            sys.exit(f'error: {name}: the run has its own; these may be given: {", ".join(allowed)}')
    defaults = config_lib.flatten(Config())
    holders = {
        name: _DEFINE[type(defaults[name])](f'config.{name}', None, f"Over the run's own {name}.")
        for name in config_lib.TEST_SETTINGS
    }
    return lambda: {name: holder.value for name, holder in holders.items() if holder.value is not None}
