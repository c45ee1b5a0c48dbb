"""A bounded pool of I/O workers that serves on when a call hangs, and while the interpreter leaves.

`concurrent.futures.ThreadPoolExecutor` refuses work as soon as the main thread has ended
("cannot schedule new futures after shutdown"), which is just when a last checkpoint is finished;
and a call that never returns keeps one of its threads for good, whoever has given it up.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from ackpt.engine.threads.own import OwnThread

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger(__name__)

_Job = Callable[[], None]

_END_SECS = 10.0

_MOST_STRAYS = 64
"""Calls given up and still running that others take the place of; more of them, and work waits."""


class _Call(Future[T]):
    """Be the future of one call, which tells when nobody waits for it although it runs."""

    def __init__(self, given_up: Callable[[_Call[T]], None]) -> None:
        super().__init__()
        self.stray = False
        self._given_up = given_up

    def cancel(self) -> bool:
        """Cancel what has not begun; what runs is given up, and False."""
        cancelled = super().cancel()
        if not cancelled:
            self._given_up(self)
        return cancelled


class WorkerPool(ThreadPoolExecutor):
    """Run calls on up to `workers` threads, started as they are needed.

    A thread in a call that its caller has given up (a listener that took too long) does not count:
    another takes its place, and it leaves when the call ends after all.
    Threads do not keep the process alive by themselves: the loop's thread does that for what it waits for.
    A subclass only because `loop.set_default_executor` insists on one; nothing of it is used.
    """

    def __init__(self, workers: int, *, name: str) -> None:
        super().__init__(max_workers=1)
        self._jobs: queue.SimpleQueue[tuple[_Call[Any], _Job] | None] = queue.SimpleQueue()
        self._limit = workers
        self._name = name
        self._guard = threading.Lock()
        self._workers: list[threading.Thread] = []
        self._queued = 0
        self._idle = 0
        self._strays = 0
        self._started = 0
        self._closed = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Queue a call.

        Raises:
            RuntimeError: the pool has been shut down.
        """
        future: _Call[T] = _Call(self._give_up)

        def job() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        with self._guard:
            if self._closed:
                raise RuntimeError(f"the worker pool {self._name} is closed")
            self._jobs.put((future, job))
            self._queued += 1
            self._grow()
        return future

    def is_worker(self) -> bool:
        """Tell whether the caller is on one of the workers."""
        return threading.current_thread() in self._workers

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the workers after the queued calls; idempotent.

        A worker that does not end in time is left behind with a warning: it is in a call that has no
        end, of a listener perhaps.
        """
        with self._guard:
            first, self._closed = not self._closed, True
            workers = list(self._workers)
        if first:
            for _ in workers:
                self._jobs.put(None)
        if wait:
            over = time.monotonic() + _END_SECS
            for worker in workers:
                worker.join(max(0.0, over - time.monotonic()))
            late = [worker.name for worker in workers if worker.is_alive()]
            if late:
                _log.warning("%s: still in a call, and left behind", ", ".join(late))

    def _grow(self) -> None:
        """Start a worker, where one is wanted and there is room; with the guard held."""
        if self._queued > self._idle and len(self._workers) - self._strays < self._limit:
            worker = OwnThread(target=self._work, name=f"{self._name}-{self._started}", daemon=True)
            self._started += 1
            self._workers.append(worker)
            self._idle += 1
            worker.start()

    def _give_up(self, call: _Call[Any]) -> None:
        """Let another worker take the place of one whose call nobody waits for."""
        with self._guard:
            if call.running() and not call.stray and self._strays < _MOST_STRAYS:
                call.stray = True
                self._strays += 1
                self._grow()

    def _work(self) -> None:
        while (taken := self._jobs.get()) is not None:
            with self._guard:
                self._queued -= 1
                self._idle -= 1
            call, job = taken
            job()
            with self._guard:
                self._strays -= call.stray
                if len(self._workers) - self._strays > self._limit:
                    self._workers.remove(threading.current_thread())
                    return
                self._idle += 1
            del taken, call, job  # or they would keep arguments and results alive until the next one comes
