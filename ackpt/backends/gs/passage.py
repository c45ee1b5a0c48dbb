"""Which bytes of a part are sent now, which the store has already, and which wait for more."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from crc32c import crc32c

from ackpt.backends.base import Body
from ackpt.errors import StorageError
from ackpt.options import KiB

GRANULARITY: Final = 256 * KiB
"""A resumable upload's requests, but for the last, bring a multiple of this.

https://cloud.google.com/storage/docs/performing-resumable-uploads#chunked-upload
"""


class Passage:
    """Work out what of one part is to be sent, pass it on, and hold back what fills no multiple.

    `begin` is where the part begins in the object, `end` where it ends; the bytes before it that
    are not sent yet are `tail`. What is sent is `stored` to `stop`.
    """

    def __init__(self, body: Body, *, begin: int, stored: int, tail: bytes, crc: int) -> None:
        self._body = body
        self._begin = begin
        self._before = tail
        self._crc = crc
        self.stored = stored
        self.end = begin + body.size
        self.stop = self.end - self.end % GRANULARITY
        self.size = max(0, self.stop - stored)
        self.tail = tail
        self.crc = crc
        if stored < begin - len(tail):
            raise StorageError(f"the store has {stored} bytes, and had {begin - len(tail)} before")

    async def blocks(self) -> AsyncGenerator[bytes | memoryview, None]:
        """Iterate over what is to be sent; `tail` and `crc` are set when it ends. Can be begun again."""
        crc, held, position = self._crc, bytearray(), self._begin - len(self._before)
        for block in self._split(memoryview(self._before), position, held):
            yield block
        position = self._begin
        async with aclosing(self._body.__aiter__()) as blocks:
            async for block in blocks:
                crc = crc32c(block, crc)
                for piece in self._split(block, position, held):
                    yield piece
                position += len(block)
        self.tail, self.crc = bytes(held), crc

    def _split(self, block: memoryview, position: int, held: bytearray) -> list[memoryview]:
        """Return what of a block at `position` is to be sent now; add to `held` what is behind."""
        first, last = max(self.stored - position, 0), max(self.stop - position, 0)
        held += block[last:]
        piece = block[first:last]
        return [piece] if len(piece) else []
