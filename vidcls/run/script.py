"""What every script has in common at its edges: what reaches the terminal, and the exit status.

Standard output has results; standard error has the project's own lines, with --debug those of libraries too. Exit status 0: all that was
asked was done; 1: not, and a line or a traceback says why; 128 + a signal's number: the signal ended it.
"""

import logging as python_logging
import os
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from absl import app, flags, logging

from vidcls.errors import UserError
from vidcls.run import signals
from vidcls.run.signals import Interrupted
from vidcls.text.names import readable_lines

_DEBUG = flags.DEFINE_bool('debug', False, 'Show the traceback of every error, and what libraries log.')
_OURS = Path(__file__).resolve().parents[2]


def run(
    work: Callable[[list[str]], int | None], doc: str, shared_flags: tuple[str, ...] = (), interrupted: str = ''
) -> None:
    """Parses the flags, runs `work` on the other arguments and exits with its result.

    Args:
      doc: the script's docstring, for --help.
      shared_flags: names of the modules whose flags --help shows beside the script's own.
      interrupted: what a signal that ends the script at once is to be told with.
    """
    signals.end_at_once(interrupted)
    sys.modules['__main__'].__doc__ = doc
    for module in (*shared_flags, __name__):
        for flag in flags.FLAGS.flags_by_module_dict().get(module, []):
            flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)
    app.run(lambda argv: sys.exit(_guarded(work, argv[1:])), flags_parser=_parse)


def _guarded(work: Callable[[list[str]], int | None], arguments: list[str]) -> int | None:
    """The exit status of `work`; what a user can mend is one line."""
    _set_up_logging()
    try:
        return work(arguments)
    except BrokenPipeError:  # as of `| head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Interrupted as error:
        logging.warning('%s', error)
        return 128 + error.signum  # as a shell has it for a process that the signal ended
    except Exception as error:
        if _DEBUG.value or not _is_the_users(error):
            raise
        print(f'error: {readable_lines(str(error))}', file=sys.stderr)
        return 1


def _is_the_users(error: Exception) -> bool:
    """Whether the person at the keyboard can mend it: our own word for that, or the system's about a file it names."""
    return isinstance(error, UserError) or (isinstance(error, OSError) and error.filename is not None)


def _set_up_logging() -> None:
    logging.use_absl_handler()
    logging.get_absl_handler().addFilter(_make_readable)
    if _DEBUG.value:
        return
    logging.set_verbosity(logging.INFO)
    logging.get_absl_handler().addFilter(_is_ours)
    if not sys.warnoptions:
        warnings.simplefilter('ignore')
    # TensorFlow greets from C++, before any handler of Python's sees it.
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
    # Its greeting about oneDNN passes that level. TensorFlow reads and decodes here, and oneDNN does neither.
    os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')


def _make_readable(record: python_logging.LogRecord) -> bool:
    """Keeps the control characters of names away from the terminal."""
    record.msg, record.args = readable_lines(record.getMessage()), ()
    return True


def _is_ours(record: python_logging.LogRecord) -> bool:
    """Keeps what libraries log (orbax alone writes dozens of lines) off the terminal; what goes wrong raises."""
    return Path(record.pathname).is_relative_to(_OURS) and 'site-packages' not in record.pathname


def _parse(argv: list[str]) -> list[str]:
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        sys.exit(f'error: {error}\nRun with --helpfull for all flags.')
