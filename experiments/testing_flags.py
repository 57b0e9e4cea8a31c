"""Flags for testing a run with other settings than its own, such as `--config.test.average=logits`.

Only settings of testing have flags. The other settings, of the network and its training, are in the work directory.
"""

import sys
from collections.abc import Callable
from typing import Any

from absl import flags

from vidcls import config as config_lib
from vidcls.config import Config
from vidcls.text import spelling

_DEFINE = {int: flags.DEFINE_integer, str: flags.DEFINE_string}


def define() -> Callable[[], dict[str, Any]]:
    """Defines a flag for each of `config.TEST_SETTINGS`. Exits with a message if the command line has another setting.

    Returns:
      A function that returns the settings on the command line, and their values.
    """
    allowed = [f'--config.{name}' for name in config_lib.TEST_SETTINGS]
    for argument in sys.argv[1:]:
        name = argument.split('=')[0].replace('--no', '--') if argument.startswith('--') else ''
        if name.startswith('--config.') and name.removeprefix('--config.') not in config_lib.flatten(Config()):
            near = spelling.hint(name.removeprefix('--config.'), config_lib.TEST_SETTINGS, '--config.')
            sys.exit(f'error: {name}: no such setting{near}; these may be given: {", ".join(allowed)}')
        if name.startswith('--config.') and name not in allowed:
            sys.exit(f'error: {name}: the run has its own; these may be given: {", ".join(allowed)}')
    defaults = config_lib.flatten(Config())
    holders = {
        name: _DEFINE[type(defaults[name])](f'config.{name}', None, f"Over the run's own {name}.")
        for name in config_lib.TEST_SETTINGS
    }
    return lambda: {name: holder.value for name, holder in holders.items() if holder.value is not None}
