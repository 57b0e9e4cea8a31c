"""What all scripts have in common: how they read flags, what they write to the terminal, and how they exit.

Results go to standard output. What vidcls logs goes to standard error; with --debug, what libraries log goes there too.
The exit status is 0 if all was done, 1 after an error, which a line or a traceback explains, and 128 + n if signal n
ended the script.
"""

import io
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
    """Parses the flags, runs `work` on the other arguments, and exits with the status that it returns.

    Args:
      work: a function: the arguments that are no flags -> exit status; None means 0.
      doc: the script's docstring, for --help.
      shared_flags: the names of modules whose flags --help shows beside the script's own flags.
      interrupted: what to print when a signal ends the script at once.
    """
    signals.end_at_once(interrupted)
    sys.modules['__main__'].__doc__ = doc
    for module in (*shared_flags, __name__):
        for flag in flags.FLAGS.flags_by_module_dict().get(module, []):
            flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)
    app.run(lambda argv: sys.exit(_guarded(work, argv[1:])), flags_parser=_parse)


def _guarded(work: Callable[[list[str]], int | None], arguments: list[str]) -> int | None:
    """Runs `work` and returns its exit status. An error that the user can mend is printed as one line."""
    _set_up_logging()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors='backslashreplace')  # the terminal may lack some letters
    try:
        return work(arguments)
    except BrokenPipeError:  # the reader of a pipe has ended, such as `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Interrupted as error:
        logging.warning('%s', error)
        return 128 + error.signum  # a shell's status for a process that the signal ended
    except Exception as error:
        if _DEBUG.value or not _is_the_users(error):
            raise
        print(f'error: {readable_lines(str(error))}', file=sys.stderr)
        return 1


def _is_the_users(error: Exception) -> bool:
    """Whether the user can mend the error: it is a UserError, or an OSError about a file."""
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
    # When TensorFlow is imported, it logs from C++, which Python's handlers can't filter.
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
    # A line about oneDNN is logged at any level. oneDNN is not needed, since TensorFlow only reads and decodes here.
    os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')


def _make_readable(record: python_logging.LogRecord) -> bool:
    """A filter that keeps every record and escapes its control characters, which names of files may contain."""
    record.msg, record.args = readable_lines(record.getMessage()), ()
    return True


def _is_ours(record: python_logging.LogRecord) -> bool:
    """A filter that drops what libraries log.

    Orbax alone logs dozens of lines, and failures raise exceptions anyway.
    """
    return Path(record.pathname).is_relative_to(_OURS) and 'site-packages' not in record.pathname


def _parse(argv: list[str]) -> list[str]:
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        sys.exit(f'error: {error}\nRun with --helpfull for all flags.')
