"""Runs one attack in a process of its own, under limits, and tells what became of it.

The processes are forked from a server that has imported what any of them needs, so that each takes moments and none inherits
what an earlier one did. There is one server for all files of tests: what it imports is decided when it starts.
"""

import dataclasses
import importlib
import multiprocessing
import os
import resource
import time
from collections.abc import Callable
from typing import Any

SECONDS, BYTES = 5.0, 2 << 30  # of a processor and of memory, that a refusal may take
_IMPORTS = (
    'pytest',  # every process imports the program that started it
    'jax', 'numpy', 'safetensors.numpy', 'simplejpeg', 'tensorflow', 'tensorflow_datasets', 'tensorstore', 'tqdm',
    'data_prep.convert', 'data_prep.folder', 'data_prep.hmdb51', 'data_prep.ucf101', 'tests.made_videos',
    'vidcls.data.dataset', 'vidcls.predict', 'vidcls.pretrained.reading',
)  # fmt: skip
_ADDRESS_SPACE, _PATIENCE = 16 << 30, 60.0  # beyond which the process is ended, for a readable failure before


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What an attack led to: an error's type and message ('' for none), its costs, the exit status (0: it returned)."""

    error: str
    message: str
    seconds: float
    peak_bytes: int
    status: int


def attack(function: Callable[..., Any], *args: Any) -> Outcome:
    """Calls `function` of a test module's top level in a fresh process."""
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(list(_IMPORTS))
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_call, args=(sender, function, args))
    process.start()
    sender.close()
    told = receiver.poll(_PATIENCE)
    if not told:
        process.kill()
    process.join()
    try:
        found = receiver.recv() if told else ('', 'it did not end', _PATIENCE, 0)
    except EOFError:  # it died
        found = ('', 'it died', 0.0, 0)
    return Outcome(*found, status=process.exitcode)


def check_refused(outcome: Outcome) -> None:
    """Asserts that the attack was refused with a reason, in time and within memory."""
    assert outcome.status == 0, outcome
    assert outcome.error in ('UserError', 'VideoError'), outcome
    assert outcome.seconds < SECONDS and outcome.peak_bytes < BYTES, outcome


def _call(sender: Any, function: Callable[..., Any], args: tuple) -> None:
    os.setsid()
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
    for name in _IMPORTS:  # nothing to do, unless a failed import made the server go on without
        importlib.import_module(name)
    start, error = time.process_time(), None
    try:
        function(*args)
    except BaseException as raised:  # noqa: BLE001, it is the finding
        error = raised
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    sender.send((type(error).__name__ if error else '', str(error or ''), seconds, peak))
    sender.close()
    os._exit(0)  # what TensorFlow and jax do at an orderly exit takes seconds
