"""Maps a function over items on all cores. Results come in order, and the number of items in flight is bounded.

If a worker dies (by a crash in native code or the kernel's out-of-memory killer) or makes no progress, only its item in
hand is lost, and a new worker takes its place. A pool of `concurrent.futures` would fail as a whole. Therefore this
module manages the processes itself, each with a pipe. All of them are ended afterwards.
"""

import contextlib
import multiprocessing
import os
import pickle
import queue
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection, resource_tracker
from typing import Any, TypeVar

from vidcls.errors import UserError

_Item = TypeVar('_Item')
_Result = TypeVar('_Result')
_AHEAD = 8  # items in flight for each worker: enough work for the others while one long video holds up the order
_STARTS = 3  # it is an error if so many workers in a row end as they start
_READY = -1  # stands in place of an item's number in a worker's first message


def map_in_order(
    function: Callable[[_Item], _Result],
    items: Sequence[_Item],
    workers: int = 0,
    *,
    timeout: float = 0.0,
    lost: Callable[[_Item, str], _Result] | None = None,
) -> Iterator[_Result]:
    """Yields function(item) for each item, in order; an exception in `function` is raised here.

    Args:
      function: the function, which must be defined at a module's top level because it is sent to new processes. (A fork
        of a process that runs TensorFlow's threads may hang.)
      items: the arguments of `function`.
      workers: the number of processes beside this one; 0 for one per core.
      timeout: the seconds without progress after which a worker is ended; 0 for never. The start of an item and each
        `report_progress` count as progress.
      lost: a function that makes a result for an item whose worker died or was ended: (item, reason) -> result.

    Raises:
      UserError: workers die as they start; or an item is lost, and `lost` is None.
    """
    pool = _Pool(function, workers or len(os.sched_getaffinity(0)), timeout)
    try:
        remaining, taken, number = enumerate(items), 0, 0
        while True:
            while taken - number < _AHEAD * pool.size and (numbered := next(remaining, None)):
                pool.waiting.append(numbered)
                taken += 1
            if number == taken:
                return
            pool.work(wait=number not in pool.done)
            if number in pool.done:
                yield _opened(pool.done.pop(number), lost)
                number += 1
    finally:
        pool.close()


def _opened(result: '_Value | _Raised | _Lost', lost: Callable[[Any, str], Any] | None) -> Any:
    """Returns the value of a result.

    If `function` raised an error, raises that error. If the item is lost, returns what `lost` makes of it, or raises
    UserError if `lost` is None.
    """
    if isinstance(result, _Raised):
        raise result.error
    if isinstance(result, _Value):
        return result.value
    if lost is None:
        raise UserError(f'{result.reason}; fewer --workers take less memory')
    return lost(result.item, result.reason)


class _Value:
    def __init__(self, value: Any):
        self.value = value


class _Raised:
    def __init__(self, error: BaseException):
        self.error = error


class _Lost:
    def __init__(self, item: Any, reason: str):
        self.item, self.reason = item, reason


class _Pool:
    """The workers, the numbered items that wait for a worker, and the results that wait for their turn."""

    def __init__(self, function: Callable, size: int, timeout: float):
        self.size = size
        self.waiting: deque[tuple[int, Any]] = deque()
        self.done: dict[int, _Value | _Raised | _Lost] = {}
        self._function, self._timeout = function, timeout
        self._failed_starts = 0
        self._workers: list[_Worker] = []

    def work(self, wait: bool) -> None:
        """Hands out items and reads the messages of workers.

        With `wait`, it sleeps in between until a worker sends a message, dies or exceeds the timeout.
        """
        in_hand = sum(len(worker.held) for worker in self._workers)
        while len(self._workers) < min(self.size, len(self.waiting) + in_hand):
            self._workers.append(_Worker(self._function))
        self._hand_out()
        by_pipe: dict[Any, _Worker] = {worker.pipe: worker for worker in self._workers}
        patience = min(w.time_left(self._timeout) for w in self._workers) if self._timeout and wait else None
        ready: list[Any] = connection.wait(by_pipe, patience if wait else 0)
        for pipe in ready:
            try:
                self._hear(by_pipe[pipe], pipe.recv())
            except (EOFError, OSError):  # OSError: a message that ends halfway
                self._replace(by_pipe[pipe], by_pipe[pipe].epitaph())
        for worker in [w for w in self._workers if self._timeout and w.time_left(self._timeout) <= 0]:
            if not worker.pipe.poll():  # a message that has come meanwhile is read first
                self._replace(worker, f'no progress for {self._timeout:g} s (--clip_timeout)')
        self._hand_out()

    def _hand_out(self) -> None:
        """Gives each worker one item, and a second item while many items wait.

        The second item keeps the worker busy while this process writes.
        """
        for depth in (1, 2):
            for worker in self._workers:
                if len(worker.held) < depth and len(self.waiting) > (depth - 1) * self.size:
                    worker.give(*self.waiting.popleft())

    def _hear(self, worker: '_Worker', message: tuple[int, Any]) -> None:
        """Handles a worker's message, which is a result or says that the worker has started."""
        number, result = message
        worker.heard()
        if number == _READY:
            worker.is_ready, self._failed_starts = True, 0
        else:
            worker.held.popleft()
            self.done[number] = result

    def _replace(self, worker: '_Worker', reason: str) -> None:
        """Ends a worker. Its item in hand is lost; its next item, if any, waits for another worker."""
        worker.end()
        self._workers.remove(worker)
        if not worker.is_ready:
            self._failed_starts += 1
            if self._failed_starts == _STARTS:
                raise UserError(
                    f'{_STARTS} worker processes ended as they started: {reason}; is there memory for {self.size} '
                    "(--workers), and does a script of your own begin with if __name__ == '__main__'?"
                )
        elif worker.held:
            number, item = worker.held.popleft()
            self.done[number] = _Lost(item, reason)
        self.waiting.extendleft(reversed(worker.held))

    def close(self) -> None:
        """Ends all workers at once.

        Otherwise the interpreter would wait at exit for the items in hand, perhaps for minutes.
        """
        for worker in self._workers:
            worker.end()
        self._workers.clear()


class _Worker:
    """A process and the items that it was given: the item in hand, and perhaps the next item."""

    def __init__(self, function: Callable):
        context = multiprocessing.get_context('spawn')
        self.pipe, end = context.Pipe()
        self._progress = context.RawValue('d', 0.0)
        self.held: deque[tuple[int, Any]] = deque()
        self.is_ready = False
        self._process = context.Process(target=_serve, args=(function, end, self._progress), daemon=True)
        with _interrupts_held():
            self._process.start()
        end.close()  # the process has the only other copy, so that the pipe ends with the process
        self.heard()

    def give(self, number: int, item: Any) -> None:
        """Sends the worker an item."""
        if not self.held:
            self.heard()  # an idle worker sends nothing: its timeout begins now
        self.held.append((number, item))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it died; the next wait will find out
            self.pipe.send((number, item))

    def heard(self) -> None:
        """Records that the worker has just made progress."""
        self._heard = time.monotonic()

    def time_left(self, timeout: float) -> float:
        """Returns the seconds until the worker exceeds the timeout."""
        if not (self.held and self.is_ready):
            return timeout
        return timeout - (time.monotonic() - max(self._heard, self._progress.value))

    def epitaph(self) -> str:
        """Returns what the worker died of, for a message."""
        self._process.join(5.0)
        code = self._process.exitcode
        if code is None:
            return 'its worker process closed its pipe'
        if code >= 0:
            return f'its worker process ended with exit status {code}'
        hint = ', perhaps for want of memory' if -code == signal.SIGKILL else ''
        return f'its worker process died of {signal.Signals(-code).name}{hint}'

    def end(self) -> None:
        self._process.kill()
        self._process.join(5.0)  # at most 5 s: a process that waits for a dead disk can't be killed
        self.pipe.close()


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """A context in which new processes are started with SIGINT blocked.

    On Ctrl-C a terminal sends SIGINT to all processes, and only the parent should handle it.
    """
    resource_tracker.ensure_running()  # otherwise multiprocessing would start it below, which unblocks interrupts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_progress: Any = None  # in a worker: the time of its last progress, in memory that its parent reads


def report_progress() -> None:
    """Tells the parent process that this worker makes progress; does nothing in a process that is no worker."""
    if _progress is not None:
        _progress.value = time.monotonic()  # the same clock in all processes


def _serve(function: Callable, pipe: connection.Connection, progress: Any) -> None:
    """Runs in a worker: takes items from the pipe and sends results into it."""
    global _progress
    _progress = progress
    items: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()

    def listen() -> None:
        # In a thread: otherwise parent and worker could each wait for the other to make room in a pipe.
        while True:
            try:
                items.put(pipe.recv())
            except (EOFError, OSError):
                os._exit(0)  # the parent is gone, and nobody waits for the item in hand

    threading.Thread(target=listen, daemon=True).start()
    pipe.send((_READY, None))
    while True:
        number, item = items.get()
        report_progress()
        result: _Value | _Raised
        try:
            result = _Value(function(item))
        except Exception as error:  # noqa: BLE001, the parent raises it
            error.add_note(f'in a worker process:\n{traceback.format_exc()}')
            result = _Raised(error)
        pipe.send((number, _portable(result)))


def _portable(result: _Value | _Raised) -> _Value | _Raised:
    """Returns the result if it can be pickled, and otherwise an error that says that it can't."""
    try:
        pickle.loads(pickle.dumps(result))
    except Exception as error:  # noqa: BLE001, whatever pickling calls may raise
        text = f'{result.error!r}' if isinstance(result, _Raised) else f'a {type(result.value).__name__}'
        return _Raised(RuntimeError(f'{text} cannot be sent from a worker process ({error!r})'))
    return result
