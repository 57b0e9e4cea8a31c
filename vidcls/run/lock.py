"""Lets only one training at a time run in a work directory.

The kernel locks the file `lock` in the folder (`flock`). It frees the lock when the process ends, in whatever way, so
that a file left behind by a killed run blocks nobody. The lock also works between machines if their file system passes
locks on. NFS under Linux does so unless it was mounted with `nolock` or `local_lock`.
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
from vidcls.run import workdir

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_held: set[int] = set()


def holding(function: Callable) -> Callable:
    """Decorates a function(config, folder, ...) that trains in `folder`: the folder is locked while it runs.

    The first process takes the lock for all processes of the run.

    Raises:
      UserError: another training has the lock; the message says which. The error is raised on every process.
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
    """A context in which this process has the lock of a work directory.

    A folder that doesn't exist is made; it is removed at the end if it is still empty.

    Raises:
      UserError: another process has the lock; the message names that process, its machine and the time.
    """
    folder = Path(folder).expanduser()
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    workdir.check_no_links(folder)
    path = folder / 'lock'
    descriptor = _acquire(path)
    _held.add(descriptor)
    try:
        owner = {'process': os.getpid(), 'host': socket.gethostname(), 'since': _now()}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f'{json.dumps(owner)}\n'.encode(), 0)
        yield
    finally:
        # The file goes before the lock is freed, so that a process that has just opened the file sees that it is no
        # longer the lock.
        path.unlink(missing_ok=True)
        _held.discard(descriptor)
        os.close(descriptor)
        with contextlib.suppress(OSError):  # the folder is not empty
            for one in made:
                one.rmdir()


def _acquire(path: Path) -> int:
    """Locks the file and returns its descriptor, which programs that this process starts do not inherit."""
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
        os.close(descriptor)  # the process that had the lock has ended and removed the file


def _owner(path: Path) -> str:
    try:
        owner = json.loads(path.read_text())
        return f'process {owner["process"]} on {owner["host"]} since {owner["since"]}'
    except (OSError, ValueError, KeyError, TypeError):  # the file is being written or removed
        return 'another process'


def _now() -> str:
    return datetime.now().astimezone().isoformat(sep=' ', timespec='seconds')


def _close_in_child() -> None:
    """Frees the lock in a child made by `fork`, which would otherwise have the lock beyond its parent's end."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_close_in_child)
