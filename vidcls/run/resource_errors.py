"""Errors that are raised when memory or disk space runs out. Their messages say what helps, such as other settings."""

import contextlib
import errno
import functools
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

from vidcls.config import Config
from vidcls.data.sampling import views_at_once
from vidcls.errors import UserError

# This text names settings that `vidcls.run.resuming` lets a run change.
_IN_A_RUN = (
    'A run that has begun resumes with other values of remat, test.batch_size and, where the network has no BatchNorm, '
    'clips_per_device; with others start another --workdir from it with --config.init.run'
)
_FULL = (errno.ENOSPC, errno.EDQUOT)


class DiskFull(UserError):
    """The work directory can't be written to, since the disk is full. The checkpoints in it stay whole."""


class OutOfMemory(UserError):
    """A step, its compilation or its data did not fit in memory."""


def explained(function: Callable) -> Callable:
    """Decorates a function(config, folder, ...) that trains in `folder`, so that it explains a lack of disk or memory.

    Raises:
      DiskFull: raised in place of any exception that reports a full disk. Orbax, which writes in the background,
        reports it late and as a ValueError.
      OutOfMemory: raised in place of any exception that reports a lack of memory. The message names settings that take
        less.
    """

    @functools.wraps(function)
    def call(config: Config, folder: str | Path, *args, **kwargs):
        try:
            return function(config, folder, *args, **kwargs)
        except DiskFull:
            raise
        except Exception as error:
            if is_disk_full(error):
                # Otherwise each of orbax's writers would log a traceback at exit, below the one line of this error.
                logging.getLogger('asyncio').setLevel(logging.CRITICAL)
                raise disk_full(Path(folder).expanduser()) from error
            if _is_out_of_memory(error):
                raise OutOfMemory(_memory_message(config, error)) from error
            raise

    return call


@contextlib.contextmanager
def explained_views(config: Config) -> Iterator[None]:
    """A context for evaluation and prediction that explains a lack of memory.

    Raises:
      OutOfMemory: raised in place of any exception that reports a lack of memory. The message names settings that take
        less.
    """
    try:
        yield
    except Exception as error:
        if _is_out_of_memory(error):
            raise OutOfMemory(_views_message(config, error)) from error
        raise


def check_disk(folder: Path, tree: Any) -> None:
    """Checks that the arrays of a tree fit on the disk.

    Raises:
      DiskFull: the disk of `folder` has fewer free bytes than the arrays take.
    """
    need = sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
    if shutil.disk_usage(folder).free < need:
        raise disk_full(folder, f'a checkpoint of {need / 1e6:,.1f} MB does not fit, ')


def disk_full(folder: Path, need: str = '') -> DiskFull:
    """Returns the error, whose message states the free space and the remedy.

    `need` is a clause about what did not fit.
    """
    free = f'{shutil.disk_usage(folder).free / 1e6:,.1f} MB are free' if folder.exists() else 'it could not be made'
    return DiskFull(
        f'no space left in {folder}: {need}{free}. Make space (or raise the quota) and run the same command again; it '
        'resumes from the latest checkpoint, if there is one: that is whole'
    )


def is_disk_full(error: BaseException | None) -> bool:
    """Whether this error, or an error that led to it, says that the disk is full.

    After the first failure, closing files fails too, with an error that says something else. Therefore the errors that
    led to this error count.
    """
    if error is None:
        return False
    own = isinstance(error, DiskFull) or (isinstance(error, OSError) and error.errno in _FULL)
    # TensorStore, which orbax uses, puts the system's message and the number of the error into the text of a
    # ValueError.
    told = isinstance(error, ValueError) and any(os.strerror(number) in str(error) for number in _FULL)
    return own or told or is_disk_full(error.__cause__ or error.__context__)


def _is_out_of_memory(error: BaseException) -> bool:
    ours = isinstance(error, jax.errors.JaxRuntimeError) and 'RESOURCE_EXHAUSTED' in str(error)
    return ours or isinstance(error, MemoryError)


def _views_message(config: Config, error: BaseException) -> str:
    held, sampling = views_at_once(config), config.sampling
    remedies = [f'--config.test.batch_size (now {held} views at once; it changes no score)'] if held > 1 else []
    remedies.append(
        f'--config.sampling.test_segments (now {sampling.test_segments or sampling.num_segments}; it changes the scores)'
    )
    return f'out of memory ({_said(error)}). Lower {", or ".join(remedies)}'


def _said(error: BaseException) -> str:
    return ' '.join(str(error).split())[:200]


def _memory_message(config: Config, error: BaseException) -> str:
    model, at_once = config.model, config.optim.clips_per_device or "0, a device's whole share of the batch"
    remedies = [
        f'--config.optim.clips_per_device (now {at_once}; fewer at once make the same step in more parts)',
        f'--config.batch_size (now {config.batch_size})',
        f'--config.augment.crop_size (now {config.augment.crop_size})',
        f'--config.sampling.num_segments (now {config.sampling.num_segments})',
        f'--config.test.batch_size for validation (now {views_at_once(config)} views)',
    ]
    if not model.remat:
        remedies.insert(1, '--config.model.remat=true')
    if model.dtype != 'bfloat16':
        remedies.append('--config.model.dtype=bfloat16 on an accelerator')
    return f'out of memory ({_said(error)}). These settings reduce it: {", ".join(remedies)}. {_IN_A_RUN}'
