"""An attempt that shows no sign of life is ended, so that no request waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from types import TracebackType
from typing import Self

from ackpt.backends.base import Body, CopyLocal, LocalBody
from ackpt.errors import TransientError


class Watch:
    """End what runs inside (`async with`) when nothing has moved for `secs`, as a `TransientError`.

    What moves says so with `pulse`; while it is `resting` (our own work, not the store's) the time
    stands still. The end is a cancellation of the task inside, so that its connection is given up.
    One timer for each watch: a pulse costs a reading of the clock.
    """

    __slots__ = ("_limit", "_loop", "_moved", "_secs", "_timer", "_what", "resting")

    def __init__(self, secs: float, *, what: str) -> None:
        """Take the time in seconds, and what is watched, for the error ("part 3 of model.ckpt-5.index")."""
        self._secs = secs
        self._what = what
        self.resting = False

    def pulse(self) -> None:
        """Say that something has moved."""
        self._moved = self._loop.time()

    async def __aenter__(self) -> Self:
        """Begin to watch the task that enters."""
        self._loop = asyncio.get_running_loop()
        self.pulse()
        self._limit = asyncio.timeout(None)
        await self._limit.__aenter__()
        self._timer = self._loop.call_at(self._moved + self._secs, self._look)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Watch no longer.

        Raises:
            TransientError: it was ended for want of progress.
        """
        self._timer.cancel()
        try:
            await self._limit.__aexit__(kind, error, traceback)
        except TimeoutError:
            raise TransientError(
                f"{self._what}: nothing moved for {self._secs:g} s, so the connection was given up"
            ) from error

    def _look(self) -> None:
        now = self._loop.time()
        due = (now if self.resting else self._moved) + self._secs
        if due <= now:
            self._limit.reschedule(now)
        else:
            self._timer = self._loop.call_at(due, self._look)


def watched(body: Body, watch: Watch) -> Body:
    """Wrap `body` so that what is taken from it is a pulse, and reading it is rest; it stays a local one."""
    return _WatchedLocalBody(body, watch) if isinstance(body, LocalBody) else WatchedBody(body, watch)


class WatchedBody(Body):
    """Be `inner`, whose every block that is taken from it is a pulse; reading it is rest."""

    __slots__ = ("_inner", "_watch")

    def __init__(self, inner: Body, watch: Watch) -> None:
        self._inner = inner
        self._watch = watch

    @property
    def size(self) -> int:
        """Return the number of bytes."""
        return self._inner.size

    async def crc32c(self) -> int:
        """Return the CRC-32C of the bytes."""
        self._watch.resting = True
        try:
            return await self._inner.crc32c()
        finally:
            self._moving()

    async def __aiter__(self) -> AsyncGenerator[memoryview, None]:
        """Iterate over the bytes in blocks; see `Body.__aiter__`."""
        blocks = self._inner.__aiter__()
        self._watch.resting = True
        try:
            async for block in blocks:
                self._moving()
                yield block
                self._watch.resting = True
        finally:
            self._moving()
            await blocks.aclose()

    async def read(self) -> bytes:
        """Return all the bytes at once; see `Body.read`."""
        self._watch.resting = True
        try:
            return await self._inner.read()
        finally:
            self._moving()

    async def hold(self) -> Sequence[bytes | memoryview]:
        """Return all the bytes in pieces; see `Body.hold`."""
        self._watch.resting = True
        try:
            return await self._inner.hold()
        finally:
            self._moving()

    def _moving(self) -> None:
        self._watch.resting = False
        self._watch.pulse()


class _WatchedLocalBody(WatchedBody, LocalBody):
    """Be a local one, each of whose stretches is a pulse when its copy begins, and when it has ended."""

    __slots__ = ()

    _inner: LocalBody

    async def hand_over(self, copy: CopyLocal) -> None:
        """Have the bytes copied from file to file; see `LocalBody.hand_over`."""

        async def moving(descriptor: int, start: int, stop: int, value: int) -> int:
            self._moving()
            value = await copy(descriptor, start, stop, value)
            self._watch.resting = True
            return value

        self._watch.resting = True
        try:
            await self._inner.hand_over(moving)
        finally:
            self._moving()
