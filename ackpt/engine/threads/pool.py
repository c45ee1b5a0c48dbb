"""A bounded pool of I/O workers that also serves while the interpreter is on its way out.

`concurrent.futures.ThreadPoolExecutor` refuses work as soon as the main thread has ended
("cannot schedule new futures after shutdown"), which is just when a last checkpoint is finished.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from ackpt.engine.threads.own import OwnThread

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger(__name__)

_Job = Callable[[], None]

_END_SECS = 10.0


class WorkerPool(ThreadPoolExecutor):
    """Run calls on up to `workers` threads, started as they are needed.

    They do not keep the process alive by themselves: the loop's thread does that for what it waits for.
    A subclass only because `loop.set_default_executor` insists on one; nothing of it is used.
    """

    def __init__(self, workers: int, *, name: str) -> None:
        super().__init__(max_workers=1)
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._limit = workers
        self._name = name
        self._guard = threading.Lock()
        self._workers: list[OwnThread] = []
        self._queued = 0
        self._idle = 0
        self._closed = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Queue a call.

        Raises:
            RuntimeError: the pool has been shut down.
        """
        future: Future[T] = Future()

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
            self._jobs.put(job)
            self._queued += 1
            if self._queued > self._idle and len(self._workers) < self._limit:
                name = f"{self._name}-{len(self._workers)}"
                worker = OwnThread(target=self._work, name=name, daemon=True)
                self._workers.append(worker)
                self._idle += 1
                worker.start()
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

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            with self._guard:
                self._queued -= 1
                self._idle -= 1
            job()
            del job  # or it would keep its arguments alive until the next one comes
            with self._guard:
                self._idle += 1
