"""A blocking call for something that many requests need: one at a time, on a worker thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from ackpt.errors import TransientError

T = TypeVar("T")


class Renewal(Generic[T]):
    """Run `call` for everybody who waits; whoever comes while it runs gets the same result.

    It is a task of its own: a request that is cancelled must not take along the call that other
    requests wait for, nor let a second thread loose on the same state.
    """

    def __init__(self, call: Callable[[], T], *, what: str, limit_secs: float) -> None:
        """Make one without calling; `what` is what the call gets, in the words of an error."""
        self._call = call
        self._what = what
        self._limit_secs = limit_secs
        self._running: asyncio.Task[T] | None = None

    async def __call__(self) -> T:
        """Wait for the call under way, begun here if there is none.

        Raises:
            TransientError: it took longer than the limit; its thread ends by itself.
        """
        if self._running is None:
            self._running = asyncio.create_task(self._run(), name=f"renewal of {self._what}")
            self._running.add_done_callback(self._settle)
        return await asyncio.shield(self._running)

    async def aclose(self) -> None:
        """Give up a call under way; its thread ends by itself and is not waited for."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    async def _run(self) -> T:
        try:
            async with asyncio.timeout(self._limit_secs):
                return await asyncio.to_thread(self._call)
        except TimeoutError as error:
            raise TransientError(f"no {self._what} within {self._limit_secs:g} s") from error

    def _settle(self, task: asyncio.Task[T]) -> None:
        self._running = None
        if not task.cancelled():
            task.exception()  # told to whoever waits; nobody may be left
