"""Bodies that misbehave on purpose: they fail, stall, lie, cancel or are damaged on the way."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from crc32c import crc32c

from ackpt.backends.base import Body
from ackpt.options import KiB

BLOCK_BYTES = 128 * KiB


class _HalfwayBody(Body):
    """Give bytes until `after` of them are out, then do something; `read` does it before giving any."""

    def __init__(self, data: bytes, *, after: int = 0) -> None:
        self._data = data
        self._after = after

    @property
    def size(self) -> int:
        """Return the number of bytes announced."""
        return len(self._data)

    async def crc32c(self) -> int:
        """Return the CRC-32C of the bytes announced."""
        return crc32c(self._data)

    async def __aiter__(self) -> AsyncGenerator[memoryview, None]:
        """Give the bytes in blocks; the turn comes before the block that would go past `after`."""
        view = memoryview(self._data)
        turned = False
        for start in range(0, len(view), BLOCK_BYTES):
            if not turned and start + BLOCK_BYTES > self._after:
                turned = True
                await self._turn()
            yield view[start : start + BLOCK_BYTES]
        if not turned:
            await self._turn()

    async def read(self) -> bytes:
        """Do what this body does halfway, then give the bytes if that has not ended it."""
        await self._turn()
        return self._data

    @abstractmethod
    async def _turn(self) -> None:
        """Do what this body is for."""


class FailingBody(_HalfwayBody):
    """Raise `error` halfway: the staged file has gone, or has changed."""

    def __init__(self, data: bytes, error: Exception, *, after: int = 0) -> None:
        super().__init__(data, after=after)
        self._error = error

    async def _turn(self) -> None:
        raise self._error


class StallingBody(_HalfwayBody):
    """Wait halfway for ever, or until cancelled; `reached` is set when that begins."""

    def __init__(self, data: bytes, *, after: int = 0) -> None:
        super().__init__(data, after=after)
        self.reached = asyncio.Event()

    async def _turn(self) -> None:
        self.reached.set()
        await asyncio.Event().wait()


class CancellingBody(_HalfwayBody):
    """Cancel `task` halfway, and go on giving bytes: whoever sends them decides what that does."""

    def __init__(self, data: bytes, *, after: int = 0) -> None:
        super().__init__(data, after=after)
        self.task: asyncio.Task[object] | None = None

    async def _turn(self) -> None:
        if self.task is not None:
            self.task.cancel()


class LyingBody(_HalfwayBody):
    """Announce another checksum than that of the bytes: they were damaged on the way to the backend."""

    async def crc32c(self) -> int:
        """Return a checksum that is wrong."""
        return crc32c(self._data) ^ 1

    async def _turn(self) -> None:
        return None


class _WrappedBody(Body):
    """Give another body's bytes, or less than that; the base of what happens to them on the way."""

    def __init__(self, body: Body) -> None:
        self._body = body

    @property
    def size(self) -> int:
        """Return the number of bytes announced."""
        return self._body.size

    async def crc32c(self) -> int:
        """Return the CRC-32C of what is given."""
        value = 0
        async with aclosing(self.__aiter__()) as blocks:
            async for block in blocks:
                value = crc32c(block, value)
        return value

    async def read(self) -> bytes:
        """Return what is given, at once."""
        async with aclosing(self.__aiter__()) as blocks:
            return b"".join([bytes(block) async for block in blocks])


class InterruptedBody(_WrappedBody):
    """Give the first `after` bytes of another body; then do `turn`, which may raise, and give the rest."""

    def __init__(self, body: Body, after: int, turn: Callable[[], Awaitable[object]]) -> None:
        super().__init__(body)
        self._after = after
        self._turn = turn

    async def crc32c(self) -> int:
        """Return the CRC-32C of all the bytes."""
        return await self._body.crc32c()

    async def __aiter__(self) -> AsyncGenerator[memoryview, None]:
        """Iterate over the blocks, one of them in two."""
        left = self._after
        async with aclosing(self._body.__aiter__()) as blocks:
            async for block in blocks:
                if 0 <= left < len(block):
                    if left:
                        yield block[:left]
                    await self._turn()
                    yield block[left:]
                else:
                    yield block
                left -= len(block)
        if left >= 0:
            await self._turn()


class CutBody(_WrappedBody):
    """Give only the first `stop` bytes of another body, and announce just these."""

    def __init__(self, body: Body, stop: int) -> None:
        super().__init__(body)
        self._stop = min(stop, body.size)

    @property
    def size(self) -> int:
        """Return the number of bytes that are given."""
        return self._stop

    async def __aiter__(self) -> AsyncGenerator[memoryview, None]:
        """Iterate over the blocks, the last one cut."""
        left = self._stop
        async with aclosing(self._body.__aiter__()) as blocks:
            async for block in blocks:
                if left:
                    yield block[:left]
                left -= min(left, len(block))


class DamagedBody(_WrappedBody):
    """Give another body's bytes with one bit flipped, and announce the checksum of just these."""

    def __init__(self, body: Body, at: int) -> None:
        super().__init__(body)
        self._at = at

    async def __aiter__(self) -> AsyncGenerator[memoryview, None]:
        """Iterate over copies of the blocks, one of them damaged."""
        position = 0
        async with aclosing(self._body.__aiter__()) as blocks:
            async for block in blocks:
                copy = bytearray(block)
                if position <= self._at < position + len(copy):
                    copy[self._at - position] ^= 1
                position += len(copy)
                yield memoryview(copy)
