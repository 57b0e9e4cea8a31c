"""Puts a dataset in its place, whole or not at all, even if the process is killed.

A conversion writes into OUT/.<name>-<version>.partial, and renames that folder to OUT/<name>/<version> when it is
whole. If there is a dataset already, it is first renamed to .<version>.replaced. A process that is killed between the
two renames leaves both folders under hidden names. Each conversion begins with `repair`, which ends such a replacement.
"""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from absl import logging

from vidcls.errors import UserError


@contextlib.contextmanager
def partial_folder(destination: Path) -> Iterator[Path]:
    """A context that gives a hidden, empty folder, to which only this process writes.

    The folder is deleted if the block fails.

    Raises:
      UserError: another process is writing the same dataset.
    """
    partial = _partial(destination)
    with _lock(partial, destination):
        for leftover in partial.iterdir():
            shutil.rmtree(leftover) if leftover.is_dir() and not leftover.is_symlink() else leftover.unlink()
        try:
            yield partial
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def publish(partial: Path, destination: Path) -> None:
    """Renames a whole folder to its destination, where it replaces an old folder.

    If this fails, the old folder stays.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    replaced = _replaced(destination)
    try:
        if destination.exists():
            _delete(replaced)
            os.rename(destination, replaced)
        os.rename(partial, destination)
    except BaseException:
        if replaced.exists() and not destination.exists():
            os.rename(replaced, destination)
        raise
    _delete(replaced)


def repair(destination: Path, last_file: str) -> None:
    """Ends a replacement that a killed process left between its two renames.

    Args:
      destination: the dataset's folder.
      last_file: the file that a conversion writes last. A partial folder with this file is whole, and is renamed to
        `destination`. Otherwise the old dataset gets its name back.

    Raises:
      UserError: another process is writing the same dataset.
    """
    replaced = _replaced(destination)
    if not replaced.exists():
        return
    partial = _partial(destination)
    with _lock(partial, destination):
        if not destination.exists():
            new = (partial / last_file).exists()
            os.rename(partial if new else replaced, destination)
            logging.warning(
                'an earlier conversion was killed while it replaced %s; the %s dataset is there now',
                destination, 'new' if new else 'old',
            )  # fmt: skip
        _delete(replaced)
        with contextlib.suppress(OSError):  # it is gone, or has files that the next conversion deletes
            partial.rmdir()


def _delete(replaced: Path) -> None:
    """Renames a folder before deleting it, because a folder whose name ends in `.replaced` must be whole."""
    doomed = replaced.with_suffix('.deleted')
    shutil.rmtree(doomed, ignore_errors=True)
    with contextlib.suppress(OSError):  # there is nothing to delete, or another process deletes it
        os.rename(replaced, doomed)
    shutil.rmtree(doomed, ignore_errors=True)


@contextlib.contextmanager
def _lock(partial: Path, destination: Path) -> Iterator[None]:
    """A context in which this process has a lock on the folder `partial`, which is made if it is missing."""
    partial.mkdir(parents=True, exist_ok=True)
    lock = os.open(partial, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f'another process is writing {destination}') from error
        yield
    finally:
        os.close(lock)


def _partial(destination: Path) -> Path:
    return destination.parent.parent / f'.{destination.parent.name}-{destination.name}.partial'


def _replaced(destination: Path) -> Path:
    return destination.with_name(f'.{destination.name}.replaced')
