"""One request's blocking work: on worker threads, one call at a time, cleaned up whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Final, ParamSpec, Self, TypeVar

from ackpt.backends._file.errors import translated

P = ParamSpec("P")
T = TypeVar("T")

CLEAN_UP_SECS: Final = 10.0
"""How long a request that ends waits for its last call and its clean-up; then they go on alone."""


class Requests:
    """Own the requests of one backend, and what they leave running when they are cancelled."""

    def __init__(self) -> None:
        self._late: set[asyncio.Task[None]] = set()

    def begin(self, what: str, key: str | None, *, quick: bool = False) -> Request:
        """Make a request, to be entered with `async with`; `quick`: its clean-up does not block."""
        return Request(self._late, what, key, quick=quick)

    async def aclose(self) -> None:
        """Wait, not for ever, for what cancelled requests left running."""
        if self._late:
            await asyncio.wait(self._late, timeout=CLEAN_UP_SECS)


class Request:
    """Run blocking calls for one request.

    A thread cannot be cancelled: a call that is under way when its request is, goes on. What it
    uses (descriptors, buffers, the temporary file) must not be taken from under it. So the calls
    enter what must be undone in `stack`, which is unwound, on a thread too, after the last one.
    """

    def __init__(self, late: set[asyncio.Task[None]], what: str, key: str | None, *, quick: bool) -> None:
        self.stack = ExitStack()
        self.key = key
        self.given_up = False
        """Whether nobody waits for the outcome any more; read by calls before they do what shows."""
        self._what = what
        self._quick = quick
        self._late = late
        self._call: asyncio.Future[Any] | None = None

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `work` on a worker thread and wait for it.

        Raises:
            StorageError: for an OSError of `work`; and whatever else it raises.
        """
        return await self.wait(self.start(work, *args, **kwargs))

    def start(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Call `work` on a worker thread, to be waited for with `wait` before the next call."""

        def call() -> T:
            with translated(self._what, self.key):
                return work(*args, **kwargs)

        future = asyncio.get_running_loop().run_in_executor(None, call)
        self._call = future
        return future

    async def end(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `work`, and unwind `stack` in the same call; the last one of a request."""

        def call() -> T:
            with self.stack:
                return work(*args, **kwargs)

        result = await self.run(call)
        self._call = None
        return result

    async def wait(self, future: asyncio.Future[T]) -> T:
        """Wait for a call that was started."""
        return await asyncio.shield(future)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.given_up = error is not None
        if self._call is None or (self._quick and self._call.done()):
            self.stack.close()
            return
        task = asyncio.create_task(self._unwind())
        self._late.add(task)
        task.add_done_callback(self._late.discard)
        await asyncio.wait({task}, timeout=CLEAN_UP_SECS)
        if task.done():
            task.result()

    async def _unwind(self) -> None:
        if self._call is not None:
            await asyncio.wait({self._call})
            self._call.exception()  # seen: the request has ended of another reason, or of this one
        await self.run(self.stack.close)
