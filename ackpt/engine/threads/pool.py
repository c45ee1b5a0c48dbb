"""A bounded pool of I/O workers that also serves while the interpreter is on its way out.

`concurrent.futures.ThreadPoolExecutor` refuses work as soon as the main thread has ended
("cannot schedule new futures after shutdown"), which is just when a last checkpoint is finished.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from ackpt.engine.threads.own import OwnThread

P = ParamSpec("P")
T = TypeVar("T")

_Job = Callable[[], None]


class WorkerPool(ThreadPoolExecutor):
    """Run calls on up to `workers` threads, started as they are needed.

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
                worker = OwnThread(target=self._work, name=f"{self._name}-{len(self._workers)}")
                self._workers.append(worker)
                self._idle += 1
                worker.start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the workers after the queued calls; idempotent."""
        with self._guard:
            first, self._closed = not self._closed, True
            workers = list(self._workers)
        if first:
            for _ in workers:
                self._jobs.put(None)
        if wait:
            for worker in workers:
                worker.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            with self._guard:
                self._queued -= 1
                self._idle -= 1
            job()
            del job  # or it would keep its arguments alive until the next one comes
            with self._guard:
                self._idle += 1
