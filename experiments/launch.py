"""Flags and start of all scripts here: `main` starts a recipe, which trains, and `run` starts a tool."""

import dataclasses
import importlib
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

from absl import flags, logging
from ml_collections import config_flags

from vidcls import config as config_lib
from vidcls import report
from vidcls.config import Config
from vidcls.errors import UserError, internal_error
from vidcls.run import script
from vidcls.text import spelling

_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the run, which is made, or resumed if it holds this run.')
# An empty name is what an unset variable of the shell gives; it would mean the current folder.
flags.register_validator(
    'workdir', lambda name: name != '', message='--workdir is empty; name a folder, or . for this one'
)


def main(config: Config, doc: str) -> None:
    """Trains a network. The flags are `--workdir`, and `--config.<name>=<value>` for any setting of `config`.

    Args:
      doc: the recipe's docstring, for --help.
    """
    try:
        holder = config_flags.DEFINE_config_dataclass('config', config)
    except KeyError as error:  # raised if a setting on the command line does not exist
        sys.exit(f'error: {_misspelt(config) or error.args[0]}; vidcls/config.py lists them')
    join = multihost()
    extend = flags.DEFINE_bool(
        'extend',
        False,
        'Resume with another number of --config.epochs, although the schedule was made for the old one.',
    )
    flags.mark_flags_as_required(['workdir'])
    if forgotten := _without_config(config):
        sys.exit(f'error: {forgotten}')
    run(lambda argv: _train(argv, holder.value, join, extend.value), doc, 'no step of training was lost')


def _misspelt(config: Config) -> str:
    """A message about the first setting on the command line that does not exist; '' if all settings exist."""
    known = config_lib.flatten(config)
    groups = {field.name for field in dataclasses.fields(config)}
    for name in _names_of_flags():
        path = name.removeprefix('no').removeprefix('config.')
        if name.removeprefix('no').startswith('config.') and path not in known and path not in groups:
            return f'--{name}: no such setting{spelling.hint(path, known, "--config.")}'
    return ''


def _without_config(config: Config) -> str:
    """A message about the first unknown flag that is a setting without its `config.`; '' if there is no such flag."""
    known = config_lib.flatten(config)
    for name in _names_of_flags():
        meant = [path for path in known if name in (path, path.rpartition('.')[2])]
        if meant and name not in flags.FLAGS:
            return f'--{name}: no such flag{spelling.hint(name, meant, "--config.")}'
    return ''


def _names_of_flags() -> list[str]:
    return [argument.lstrip('-').partition('=')[0] for argument in sys.argv[1:] if argument.startswith('-')]


def multihost() -> Callable[[], None]:
    """Defines the flags for a run of several processes.

    Returns:
      A function that joins the processes, if the flags say so. It must be called before jax is used.
    """
    several = flags.DEFINE_bool(
        'multihost', False, 'One of several processes, as SLURM, Open MPI, Kubernetes or TPU say.'
    )
    coordinator = flags.DEFINE_string('coordinator', '', 'Without such a launcher: host:port of process 0.')
    number = flags.DEFINE_integer('num_processes', None, 'With --coordinator: how many processes.', lower_bound=1)
    process = flags.DEFINE_integer(
        'process_id', None, 'With --coordinator: the number of this process, from 0.', lower_bound=0
    )

    def join() -> None:
        given = [bool(coordinator.value), number.value is not None, process.value is not None]
        if any(given) and not (several.value and all(given)):
            raise UserError('--coordinator, --num_processes and --process_id go together, and with --multihost')
        if coordinator.value and not re.fullmatch(r'.+:\d+', coordinator.value):
            raise UserError(f'--coordinator={coordinator.value}: must be host:port, such as 10.0.0.1:1234')
        if coordinator.value and process.value >= number.value:
            raise UserError(f'--process_id={process.value}: must be below --num_processes={number.value}')
        if several.value:
            from vidcls.distributed import processes

            processes.join(coordinator.value, number.value, process.value)
            if not processes.is_first():
                logging.set_verbosity(logging.WARNING)

    return join


def _train(argv: list[str], config: Config, join: Callable[[], None], extend: bool) -> None:
    if argv:
        raise UserError(f'unexpected argument {argv[0]!r}; settings are flags, --config.<name>=<value>')
    if not config.data.dir:
        raise UserError('--config.data.dir is not set: the folder that data_prep wrote')
    join()
    from vidcls.train import train  # imported late, so that a mistake in the flags is reported before jax is loaded

    train(config, _WORKDIR.value, extend=extend)
    from vidcls.distributed import processes

    if processes.is_first():
        write_page('training', [_WORKDIR.value])


def weights(texts: list[str]) -> list[float]:
    """The numbers that were given to a flag --weights.

    Raises:
      UserError: one of the texts is no number.
    """
    try:
        return [float(text) for text in texts]
    except ValueError as error:
        raise UserError(f'--weights={",".join(texts)}: must be numbers such as 1,1.5') from error


def page_path(out: str, numbers: str = '') -> Path:
    """The path of the page that --out names.

    Args:
      numbers: a text near the beginning of the JSON that will be written beside the page; '' if no JSON will be
        written.

    Raises:
      UserError: --out is no .html file in a folder that exists, or the JSON would replace a file without `numbers`.
    """
    path = Path(out).expanduser()
    if path.suffix != '.html' or not path.parent.is_dir():
        raise UserError(f'--out={out}: must be a file .html in a folder that exists')
    beside = path.with_suffix('.json')
    if (
        numbers
        and os.path.lexists(beside)
        and (not beside.is_file() or numbers not in beside.read_bytes()[:4096].decode(errors='replace'))
    ):
        raise UserError(f'--out={out}: the numbers would replace {beside}, which is something else; name another page')
    return path


def write_page(kind: str, *arguments) -> None:
    """Writes a page beside a result, and logs the page's path. If the page can't be made, only a warning is logged.

    Args:
      kind: the module of `vidcls.report` whose `write` takes `arguments`.
    """
    try:
        report.check_installed()
        logging.info('page: %s', importlib.import_module(f'vidcls.report.{kind}').write(*arguments))
    except (UserError, OSError) as error:
        logging.warning('no page: %s', error)
    except Exception as error:  # noqa: BLE001, the result is there and counts
        logging.warning('no page: %s', internal_error(error))


def run(work: Callable[[list[str]], int | None], doc: str, interrupted: str = '') -> None:
    """Runs `work` on the arguments that are no flags, and exits with the status that `work` returns.

    Args:
      work, doc, interrupted: as for `vidcls.run.script.run`.
    """
    # Compiled programs are kept: compiling a ResNet-50 takes longer than training it for an epoch of a small dataset.
    os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(_cache_home() / 'vidcls' / 'compiled'))
    script.run(work, doc, (__name__,), interrupted)


def _cache_home() -> Path:
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')
