"""Work on all cores: results in order, a bounded number in flight, no worker left behind."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import TypeVar

from vidcls.errors import UserError

_Item, _Result = TypeVar('_Item'), TypeVar('_Result')
# Items in flight for each worker: enough to do while one long video holds up the order.
_AHEAD = 8


def map_in_order(function: Callable[[_Item], _Result], items: Sequence[_Item], workers: int = 0) -> Iterator[_Result]:
    """Yields function(item) for each item, in order.

    Args:
      function: of a module's top level, for it goes to fresh processes (a fork of one that runs
        TensorFlow's threads may hang).
      items: what to call it with.
      workers: processes; 0 for one a core, 1 for none beside this one.

    Raises:
      UserError: a worker died.
    """
    workers = workers or len(os.sched_getaffinity(0))
    if workers == 1:
        yield from map(function, items)
        return
    pool = futures.ProcessPoolExecutor(workers, multiprocessing.get_context('spawn'), initializer=_start_worker)
    others = set(multiprocessing.active_children())
    pending: deque[futures.Future] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= _AHEAD * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BaseException as error:
        # The interpreter would wait at its end for the videos in hand, which may take minutes.
        for worker in set(multiprocessing.active_children()) - others:
            worker.terminate()
        if isinstance(error, futures.process.BrokenProcessPool):
            raise UserError(
                'a worker process died, perhaps for want of memory; --workers=1 takes the least '
                'and dies on the video that is to blame'
            ) from error
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _start_worker() -> None:
    """Interrupts are the parent's affair, and a worker must not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def follow_parent():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=follow_parent, daemon=True).start()
