"""One training at a time in a work directory.

The lock is the kernel's (`flock`) on the file `lock` in the folder, so that the end of the process is its end, whatever
ended it: a file that a killed run left behind locks nothing. Between hosts it holds as far as the file system passes
locks on, as NFS under Linux does unless it was mounted with `nolock` or `local_lock`.
"""

import contextlib
import errno
import fcntl
import functools
import json
import os
import socket
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from absl import logging

from vidcls.distributed import processes
from vidcls.errors import UserError

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_held: set[int] = set()


def holding(function: Callable) -> Callable:
    """Decorates `function(config, folder, ...)`, which trains into `folder`: the first of its processes holds the lock.

    Raises:
      UserError: another training holds it; says which. On every process.
    """

    @functools.wraps(function)
    def call(config, folder: str | Path, *args, **kwargs):
        with contextlib.ExitStack() as stack:
            with processes.together():
                if processes.is_first():
                    stack.enter_context(held(folder))
            return function(config, folder, *args, **kwargs)

    return call


@contextlib.contextmanager
def held(folder: str | Path) -> Iterator[None]:
    """Holds the lock of a work directory, which is made if need be; if it is empty at the end, it goes again.

    Raises:
      UserError: it is held already; names the process, its host and since when.
    """
    folder = Path(folder).expanduser()
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / 'lock'
    descriptor = _acquire(path)
    _held.add(descriptor)
    try:
        owner = {'process': os.getpid(), 'host': socket.gethostname(), 'since': _now()}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f'{json.dumps(owner)}\n'.encode(), 0)
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is held: whoever waits for this file sees that it is no longer the lock
        _held.discard(descriptor)
        os.close(descriptor)
        with contextlib.suppress(OSError):  # not empty
            for one in made:
                one.rmdir()


def _acquire(path: Path) -> int:
    """The descriptor of the locked file; programs that this process starts do not inherit it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise UserError(
                f'{path.parent} is being trained in by {_owner(path)}; wait for its end or stop it, or use another --workdir'
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                os.close(descriptor)
                raise
            logging.warning('%s: this file system has no locks; a second training here would not be noticed', path)
            return descriptor
        if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
            return descriptor
        os.close(descriptor)  # the one before us ended just now, and took its file with it


def _owner(path: Path) -> str:
    try:
        owner = json.loads(path.read_text())
        return f'process {owner["process"]} on {owner["host"]} since {owner["since"]}'
    except (OSError, ValueError, KeyError, TypeError):  # it came or went just now
        return 'another process'


def _now() -> str:
    return datetime.now().astimezone().isoformat(sep=' ', timespec='seconds')


def _close_in_child() -> None:
    """A child by `fork` shares the lock with its parent, and would hold it after the parent's end."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_close_in_child)
