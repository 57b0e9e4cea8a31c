"""Work on all cores: results in order, a bounded number in flight, no worker left behind.

A worker that dies (a crash in native code, the memory killer) or makes no progress costs the item that it held: a fresh one
takes its place. `concurrent.futures` gives up as a whole, so the few processes are kept here, each with a pipe.
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

_Item, _Result = TypeVar('_Item'), TypeVar('_Result')
# Items in flight for each worker: enough to do while one long video holds up the order.
_AHEAD = 8
_STARTS = 3  # of a worker, in vain
_READY = -1  # a worker's first word, in place of an item's number


def map_in_order(
    function: Callable[[_Item], _Result],
    items: Sequence[_Item],
    workers: int = 0,
    *,
    timeout: float = 0.0,
    lost: Callable[[_Item, str], _Result] | None = None,
) -> Iterator[_Result]:
    """Yields function(item) for each item, in order; what it raises is raised here.

    Args:
      function: of a module's top level, for it goes to fresh processes (a fork of one that runs
        TensorFlow's threads may hang).
      items: what to call it with.
      workers: processes beside this one; 0 for one a core.
      timeout: seconds after the start of an item or the last `report_progress` when a worker is given up; 0: never.
      lost: makes the result of an item whose worker died or was given up, of it and the reason.

    Raises:
      UserError: workers die as they start; or one was lost, and there is no `lost`.
    """
    pool = _Pool(function, workers or len(os.sched_getaffinity(0)), timeout)
    try:
        items, taken, number = enumerate(items), 0, 0
        while True:
            while taken - number < _AHEAD * pool.size and (numbered := next(items, None)):
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
    """The workers, the numbered items that wait for one, and the results that wait for their turn."""

    def __init__(self, function: Callable, size: int, timeout: float):
        self.size = size
        self.waiting: deque[tuple[int, Any]] = deque()
        self.done: dict[int, _Value | _Raised | _Lost] = {}
        self._function, self._timeout = function, timeout
        self._failed_starts = 0
        self._workers: list[_Worker] = []

    def work(self, wait: bool) -> None:
        """Hands out items and hears the workers; with `wait` sleeps until one has something to tell, dies or is late."""
        in_hand = sum(len(worker.held) for worker in self._workers)
        while len(self._workers) < min(self.size, len(self.waiting) + in_hand):
            self._workers.append(_Worker(self._function))
        self._hand_out()
        by_pipe = {worker.pipe: worker for worker in self._workers}
        patience = min(w.time_left(self._timeout) for w in self._workers) if self._timeout and wait else None
        for pipe in connection.wait(by_pipe, patience if wait else 0):
            try:
                self._hear(by_pipe[pipe], pipe.recv())
            except (EOFError, OSError):  # half a message is an OSError
                self._replace(by_pipe[pipe], by_pipe[pipe].epitaph())
        for worker in [w for w in self._workers if self._timeout and w.time_left(self._timeout) <= 0]:
            if not worker.pipe.poll():  # what it told meanwhile comes first
                self._replace(worker, f'no progress for {self._timeout:g} s (--clip_timeout)')
        self._hand_out()

    def _hand_out(self) -> None:
        """One item a worker; and one ahead while others wait, so that none stands idle while this process writes."""
        for depth in (1, 2):
            for worker in self._workers:
                if len(worker.held) < depth and len(self.waiting) > (depth - 1) * self.size:
                    worker.give(*self.waiting.popleft())

    def _hear(self, worker: '_Worker', message: tuple[int, Any]) -> None:
        number, result = message
        worker.heard()
        if number == _READY:
            worker.is_ready, self._failed_starts = True, 0
        else:
            worker.held.popleft()
            self.done[number] = result

    def _replace(self, worker: '_Worker', reason: str) -> None:
        """Ends a worker: the item that it held is lost, the one after that goes back."""
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
        """Ends all at once: the interpreter would wait at its end for the videos in hand, which may take minutes."""
        for worker in self._workers:
            worker.end()
        self._workers.clear()


class _Worker:
    """A process and what it holds: the item in hand, and perhaps the one after that."""

    def __init__(self, function: Callable):
        context = multiprocessing.get_context('spawn')
        self.pipe, end = context.Pipe()
        self._progress = context.RawValue('d', 0.0)
        self.held: deque[tuple[int, Any]] = deque()
        self.is_ready = False
        self._process = context.Process(target=_serve, args=(function, end, self._progress), daemon=True)
        with _interrupts_held():
            self._process.start()
        end.close()  # the process has the other copy: the pipe ends with it
        self.heard()

    def give(self, number: int, item: Any) -> None:
        if not self.held:
            self.heard()  # nothing was to be heard of it before
        self.held.append((number, item))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it died, as the next wait will find
            self.pipe.send((number, item))

    def heard(self) -> None:
        self._heard = time.monotonic()

    def time_left(self, timeout: float) -> float:
        """Seconds until it is late."""
        if not (self.held and self.is_ready):
            return timeout
        return timeout - (time.monotonic() - max(self._heard, self._progress.value))

    def epitaph(self) -> str:
        """What it died of."""
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
        self._process.join(5.0)  # one that waits for a dead disk may not even die
        self.pipe.close()


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """A process that is started inside never sees Ctrl-C, which goes to all of a terminal: it is the parent's affair."""
    resource_tracker.ensure_running()  # else a process that multiprocessing starts now, and unblocks interrupts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_progress = None  # in a worker: the time of its last progress, which its parent reads


def report_progress() -> None:
    """In a worker: it is at work. Elsewhere nothing."""
    if _progress is not None:
        _progress.value = time.monotonic()  # one clock for all processes


def _serve(function: Callable, pipe: connection.Connection, progress: Any) -> None:
    """A worker's life: items from the pipe, results into it."""
    global _progress
    _progress = progress
    items = queue.SimpleQueue()

    def listen():
        # Apart from the work: whoever waits for room in a pipe would else wait for one that waits for room in the other.
        while True:
            try:
                items.put(pipe.recv())
            except (EOFError, OSError):
                os._exit(0)  # the parent is no more, and nobody waits for what is in hand

    threading.Thread(target=listen, daemon=True).start()
    pipe.send((_READY, None))
    while True:
        number, item = items.get()
        report_progress()
        try:
            result = _Value(function(item))
        except Exception as error:  # noqa: BLE001, the parent raises it
            error.add_note(f'in a worker process:\n{traceback.format_exc()}')
            result = _Raised(error)
        pipe.send((number, _portable(result)))


def _portable(result: _Value | _Raised) -> _Value | _Raised:
    """The result; in place of one that no pipe can carry, an error that says so."""
    try:
        pickle.loads(pickle.dumps(result))
    except Exception as error:  # noqa: BLE001, whatever pickling calls may raise
        text = f'{result.error!r}' if isinstance(result, _Raised) else f'a {type(result.value).__name__}'
        return _Raised(RuntimeError(f'{text} cannot be sent from a worker process ({error!r})'))
    return result
