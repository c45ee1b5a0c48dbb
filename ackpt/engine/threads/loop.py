"""An event loop in a thread of its own: a submit in, a future out, and nothing else crosses."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from ackpt.engine.threads.pool import WorkerPool
from ackpt.errors import ClosedError, ForkedProcessError

T = TypeVar("T")

_MAIN_THREAD_POLL_SECS = 0.2


class LoopThread:
    """Run an asyncio event loop in one dedicated thread, with a bounded pool for blocking calls.

    The thread is not a daemon: a process whose main thread ends without a `stop` waits for it.
    `on_exit` is then awaited on the loop, and has to leave within its own limit.
    """

    def __init__(self, *, name: str, workers: int, on_exit: Callable[[], Awaitable[None]]) -> None:
        self._name = name
        self._pid = os.getpid()
        self._on_exit = on_exit
        self._pool = WorkerPool(workers, name=f"{name}-io")
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(self._pool)
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name=name)
        self._thread.start()

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Start `coroutine` on the loop; from any thread but the loop's own.

        Raises:
            ForkedProcessError: this process is a fork of the one the thread runs in.
            ClosedError: the loop has ended.
        """
        try:
            if os.getpid() != self._pid:
                raise ForkedProcessError(
                    f"{self._name} belongs to process {self._pid} and was used in its fork {os.getpid()}, "
                    "where its thread does not run; make a new one after the fork"
                )
            if not self._thread.is_alive():
                raise ClosedError(f"{self._name} is closed; make a new one")
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except BaseException:
            coroutine.close()
            raise

    def stop(self) -> None:
        """End the loop and its workers, and wait for both; idempotent. Work still running is cancelled."""
        if os.getpid() != self._pid:
            return
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())
        self._pool.shutdown()

    async def _serve(self) -> None:
        main = threading.main_thread()
        while main.is_alive():
            try:
                async with asyncio.timeout(_MAIN_THREAD_POLL_SECS):
                    await self._stopping.wait()
                return
            except TimeoutError:
                continue
        await self._on_exit()
