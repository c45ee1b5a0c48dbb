"""A body without bytes: of the object that says that an upload is open."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from ackpt.backends.base import Body


class EmptyBody(Body):
    """Have no bytes."""

    __slots__ = ()

    @property
    def size(self) -> int:
        """Return 0."""
        return 0

    async def crc32c(self) -> int:
        """Return the checksum of nothing."""
        return 0

    async def __aiter__(self) -> AsyncGenerator[memoryview, None]:
        """Give no block."""
        blocks: tuple[memoryview, ...] = ()
        for block in blocks:
            yield block

    async def read(self) -> bytes:
        """Return no bytes."""
        return b""
