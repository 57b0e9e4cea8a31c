"""Makes several processes work as one run: they join, exchange values, stop together and fail together.

All processes run the same program, and a step waits for each of them. What only one process learns, such as a signal or
a missing file, must reach the others; otherwise they would wait for that process in vain. With a single process, each
function here returns at once.
"""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from vidcls.distributed.devices import AXIS, pmap, replicate, unreplicate
from vidcls.errors import UserError

_TEXT_BYTES = 2048
_REMEDY = 'start every process alike, with --coordinator=HOST:PORT (of process 0), --num_processes=N and --process_id=I'


def join(coordinator: str = '', num_processes: int | None = None, process_id: int | None = None) -> None:
    """Makes this process one of several. Must be called before jax is used for anything else.

    Args:
      coordinator: host:port of process 0. If empty, jax takes all three values from the environment of a launcher
        (SLURM, Open MPI, Kubernetes, TPU).
      num_processes: the number of processes.
      process_id: the number of this process.

    Raises:
      UserError: there is no such launcher, or the other processes can't be reached.
    """
    jax.config.update('jax_enable_preemption_service', False)  # it would take SIGTERM from `vidcls.run.signals`
    jax.config.update('jax_cpu_collectives_implementation', 'gloo')
    method = 'deactivate' if coordinator else None
    try:
        jax.distributed.initialize(coordinator or None, num_processes, process_id, cluster_detection_method=method)
    except (ValueError, RuntimeError) as error:
        where = f'--coordinator={coordinator}' if coordinator else '--multihost: no launcher that jax knows'
        raise UserError(f'{where}: {error}; {_REMEDY}') from error


def this() -> tuple[int, int]:
    """Returns the number of this process, and how many processes there are."""
    return jax.process_index(), jax.process_count()


def is_first() -> bool:
    """Whether this is process 0, which alone writes files and logs."""
    return jax.process_index() == 0


def gather(array: np.ndarray) -> np.ndarray:
    """Stacks the arrays of all processes: [...] -> [processes ...].

    The arrays must have the same shape. Each process gets the same result.
    """
    return np.asarray(multihost_utils.process_allgather(array)) if jax.process_count() > 1 else array[None]


@contextlib.contextmanager
def together() -> Iterator[None]:
    """A context that fails on all processes if it fails on one. Inside it, no process may wait for another.

    Raises:
      UserError: another process failed; the message says which, and how.
    """
    failure = None
    try:
        yield
    except Exception as error:  # noqa: BLE001, raised again below
        failure = error
    words = _gather_text(f'{type(failure).__name__}: {failure}' if failure else '')
    if failure:
        raise failure
    for process, text in enumerate(words):
        if text:
            raise UserError(f'process {process} failed with {text}')


def check_same(what: str, value: Any) -> None:
    """Checks that a value is the same on all processes, to find processes that were not started alike.

    Args:
      what: the name of the value, for the message.

    Raises:
      UserError: on every process, if `repr(value)` is not the same on all.
    """
    digests = _gather_text(hashlib.sha256(repr(value).encode()).hexdigest())
    unlike = [process for process, digest in enumerate(digests) if digest != digests[0]]
    if unlike:
        raise UserError(f'process {unlike[0]} has another {what} than process 0; start all with the same command')


def _gather_text(text: str) -> list[str]:
    encoded = np.zeros(_TEXT_BYTES, np.uint8)
    part = text.encode()[:_TEXT_BYTES]
    encoded[: len(part)] = np.frombuffer(part, np.uint8)
    return [bytes(row).rstrip(b'\0').decode(errors='replace') for row in gather(encoded)]


class Agreement:
    """A function that takes a whole number on each process, and returns the largest of them on all processes.

    With several processes, each call returns the largest number of the previous call, and the first call returns 0.
    Thus no process waits for the step that is running. With one process, a call returns its own number.
    """

    def __init__(self, devices: Sequence[jax.Device]):
        self._devices = devices
        self._largest = pmap(lambda number: jax.lax.pmax(number, AXIS), devices)
        self._before: Any = None

    def __call__(self, number: int) -> int:
        if jax.process_count() == 1:
            return number
        before, self._before = self._before, self._largest(replicate(np.int32(number), self._devices))
        return 0 if before is None else int(unreplicate(before))
