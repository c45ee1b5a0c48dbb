"""An event loop in a thread of its own: a submit in, a future out, and nothing else crosses."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import CancelledError, Future
from socket import socket
from typing import Any, TypeVar

from ackpt.engine.threads.own import OwnThread, others_alive
from ackpt.engine.threads.pool import WorkerPool
from ackpt.errors import ClosedError, ForkedProcessError, WrongThreadError

T = TypeVar("T")

_POLL_SECS = 0.2


class LoopThread:
    """Run an asyncio event loop in one dedicated thread, with a bounded pool for blocking calls.

    The thread is not a daemon: a process whose other threads (but daemons) end without a `stop`
    waits for it. `on_exit` is then awaited on the loop, and has to leave within its own limit.
    """

    def __init__(self, *, name: str, workers: int, on_exit: Callable[[], Awaitable[None]]) -> None:
        self._name = name
        self._pid = os.getpid()
        self._on_exit = on_exit
        self._pool = WorkerPool(workers, name=f"{name}-io")
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(self._pool)
        self._stopping = asyncio.Event()
        self._guard = threading.Lock()
        self._ended = False
        self._thread = OwnThread(target=self._run, name=name)
        self._thread.start()

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Start `coroutine` on the loop; from any thread.

        Its future is cancelled when the loop ends first.

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
            with self._guard:
                if self._ended:
                    raise ClosedError(f"{self._name} is closed; make a new one")
                return asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except BaseException:
            coroutine.close()
            raise

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run `coroutine` on the loop, wait for it, and return its result; from any other thread.

        Raises:
            WrongThreadError: called on the loop's own thread, which would wait for itself.
            ForkedProcessError, ClosedError: as `submit`; ClosedError also if the loop ends meanwhile.
        """
        try:
            self.check_thread()
        except WrongThreadError:
            coroutine.close()
            raise
        future = self.submit(coroutine)
        try:
            return future.result()
        except CancelledError:
            raise ClosedError(f"{self._name} was closed before the call had ended") from None
        except BaseException:
            future.cancel()  # the caller was interrupted and waits no more; without effect when it has ended
            raise

    def check_thread(self) -> None:
        """Make sure that the caller may wait for the loop.

        Raises:
            WrongThreadError: it is on the loop's own thread, or on one of its workers, for which the
                loop may be waiting.
        """
        if threading.current_thread() is self._thread or self._pool.is_worker():
            raise WrongThreadError(
                f"a blocking call on {self._name}, from a listener or a subscriber on a thread of its own, "
                "would wait for itself; hand it to another thread"
            )

    def call_soon(self, call: Callable[..., object], *arguments: object) -> bool:
        """Call on the loop, soon; from any thread, and from a signal's handler. False: the loop has ended."""
        try:
            self._loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:  # what a closed loop says
            return False
        return True

    def watch(self, connection: socket, ready: Callable[[], None]) -> None:
        """Call `ready` on the loop whenever there is something to read; from any thread."""
        self.call_soon(self._loop.add_reader, connection, ready)

    def unwatch(self, connection: socket) -> None:
        """Watch no longer, and close it; from any thread."""

        def end() -> None:
            self._loop.remove_reader(connection)
            connection.close()

        if not self.call_soon(end):
            connection.close()

    def stop(self) -> None:
        """End the loop and its workers, and wait for both; idempotent. Work still running is cancelled.

        Does nothing in a fork. From any thread but the loop's own.
        """
        if os.getpid() != self._pid:
            return
        with self._guard:
            if not self._ended:
                self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._serve())
        finally:
            self._pool.shutdown()

    async def _serve(self) -> None:
        try:
            while others_alive():
                try:
                    async with asyncio.timeout(_POLL_SECS):
                        await self._stopping.wait()
                    return
                except TimeoutError:
                    continue
            await self._on_exit()
        finally:
            with self._guard:
                self._ended = True
            # What was submitted up to now becomes a task, so that the runner finds it and cancels it.
            await asyncio.sleep(0)
