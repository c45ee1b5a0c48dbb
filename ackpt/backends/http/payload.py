"""A request's body on its way into a connection: streamed, flat in memory, watched for progress."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final

from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_writer import StreamWriter
from aiohttp.payload import Payload

from ackpt.errors import StorageError

_JOINED_BYTES: Final = 16 << 10
_TURN_BYTES: Final = 512 << 10
"""How much is sent in one turn of the loop; a turn costs as much as copying a block."""

Blocks = Callable[[], AsyncGenerator[bytes | memoryview, None]]
"""Begin an iteration over a body's blocks, from the first; a block is valid until the next is asked for."""


class BlocksPayload(Payload):
    """Send `size` bytes of blocks with a Content-Length, one request's worth, once.

    **Blocks may be reused.** From Python 3.12 asyncio's plain transport keeps a reference to what
    the socket did not take at once (before, it copied), and aiohttp's `write` drains only past
    64 KiB, and only down to the transport's low-water mark. A fixed number of buffers is therefore
    only safe for blocks of some sizes. Here the transport's limits are set so that `drain` returns
    when it holds nothing (plain: 0 bytes; TLS: what OpenSSL has not encrypted yet, asyncio compares
    with `>=` there, hence 1), and the next block is asked for after that. The kernel's send buffer
    goes on feeding the network meanwhile.

    **The last byte waits for the body's end.** A body may find out after its last block that its
    file has changed; as long as one byte is missing the store keeps nothing of the request.

    **No wait without a limit.** The store has `stall_secs` to take a block. On any failure or
    cancellation the connection is aborted, since its peer waits for bytes that do not come.
    """

    def __init__(
        self, blocks: Blocks, size: int, *, content_type: str, stall_secs: float, in_hand: bool = False
    ) -> None:
        """Stream `blocks`; those that are `in_hand` cannot fail, and go without the wait at the end."""
        super().__init__(None, content_type=content_type)
        self._in_hand = in_hand
        self._blocks = blocks
        self._size = self._total = size
        self._stall_secs = stall_secs
        self._idle = asyncio.Event()
        self._idle.set()
        self.error: Exception | None = None
        """What the body itself raised: not the connection's fault, and to be told as it is."""

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Refuse: the bytes are not held."""
        raise TypeError("a streamed body cannot be decoded")

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Send the bytes."""
        await self.write_with_length(writer, None)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Send the bytes; aiohttp calls this in a task of its own."""
        assert isinstance(writer, StreamWriter)
        # aiohttp would send the body again by itself on a dropped connection; only the core retries.
        self._consumed = True
        self._idle.clear()
        transport = writer.transport
        try:
            if transport is not None:
                high = 0 if transport.get_extra_info("sslcontext") is None else 1
                transport.set_write_buffer_limits(high=high, low=0)
            await self._send(writer)
        except BaseException:
            if transport is not None:
                transport.abort()
            raise
        finally:
            self._idle.set()

    async def settled(self) -> None:
        """Wait until the body is let go of; the request must have ended, which cancels the sending."""
        await self._idle.wait()

    async def _send(self, writer: StreamWriter) -> None:
        sent, turn, last = 0, 0, b""
        async with aclosing(self._blocks()) as blocks:
            while True:
                try:
                    block = await anext(blocks)
                except StopAsyncIteration:
                    break
                except Exception as error:
                    self.error = error
                    raise
                sent += len(block)
                if sent > self._total:
                    break
                if sent == self._total and len(block) and not self._in_hand:
                    last = bytes(block[-1:])
                    block = memoryview(block)[:-1]
                if len(block) > _JOINED_BYTES:
                    writer.send_headers()  # else they and the first block are copied into one
                await self._write(writer, block)
                del block
                if not self._in_hand and sent >= turn:
                    # A body in the page cache and a socket that takes all would never yield to the
                    # loop, and an early refusal would not be read before the connection is reset.
                    turn = sent + _TURN_BYTES
                    await asyncio.sleep(0)
        if sent != self._total:
            self.error = StorageError(
                f"a body of {self._total} bytes gave {'more' if sent > self._total else sent}"
            )
            raise self.error
        if last:
            await self._write(writer, last)

    async def _write(self, writer: StreamWriter, block: bytes | memoryview) -> None:
        await writer.write(block, drain=False)
        transport = writer.transport
        if transport is not None and transport.get_write_buffer_size():
            async with asyncio.timeout(self._stall_secs):
                await writer.drain()


def whole(*pieces: bytes | memoryview) -> Blocks:
    """Make blocks of what is in memory, as it is: a piece is one system call, whatever its size."""

    async def blocks() -> AsyncGenerator[bytes | memoryview, None]:
        for piece in pieces:
            yield piece

    return blocks
