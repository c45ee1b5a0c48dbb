"""The bytes of a large answer, taken off the connection past aiohttp's parser.

The parser's part is over when the headers are read: from there on an answer of a known length is
that many bytes, and to have them copied once more, in pieces that each cost several turns of the
loop, is most of what a restore costs. So the transport is given another protocol until they have
come. Only what asyncio and aiohttp document, or show without an underscore, is used for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from typing import Final

import aiohttp

_BUFFER_BYTES: Final = 256 << 10
"""As much as asyncio takes from a socket at once; that it stays in the cache was measured to matter."""

_AHEAD_BYTES: Final = 4 * _BUFFER_BYTES
"""What is held before the transport stops reading."""

_WORTH_BYTES: Final = 4 * _BUFFER_BYTES
"""Smaller answers are left to aiohttp."""


class Buffers:
    """Lend buffers to transports, the one that came back last first: it is warm in the cache.

    As many as connections read at the same moment, so one, on loops that read and tell in one go.
    """

    __slots__ = ("_idle",)

    def __init__(self) -> None:
        """Begin without any."""
        self._idle: list[memoryview] = []

    def take(self) -> memoryview:
        """Lend one."""
        return self._idle.pop() if self._idle else memoryview(bytearray(_BUFFER_BYTES))

    def give(self, buffer: memoryview) -> None:
        """Take one back."""
        self._idle.append(buffer)


async def receive(
    response: aiohttp.ClientResponse, buffers: Buffers, *, timeout_secs: float
) -> AsyncGenerator[bytes, None]:
    """Iterate over the body of an answer whose headers have come, as its bytes come.

    The connection can be used again when all of them have.

    Raises:
        aiohttp.ClientError: the connection ended before.
        TimeoutError: nothing came for `timeout_secs`.
    """
    receiver = _begin(response, buffers, timeout_secs)
    if receiver is None:
        # As it came: pieces of one size would be cut, and put together, by copying.
        async for block, _ in response.content.iter_chunks():
            yield block
        return
    try:
        while (piece := await receiver.next()) is not None:
            yield piece
    finally:
        receiver.close()


def _begin(response: aiohttp.ClientResponse, buffers: Buffers, timeout_secs: float) -> _Receiver | None:
    """Take an answer over, if it is one whose end is told by its length alone, and worth it.

    In one go: no byte may come between the taking of what has come and the change of protocols.
    """
    connection, left = response.connection, response.content_length
    if (
        connection is None  # all has come, or has failed
        or connection.transport is None
        or connection.transport.is_closing()
        or connection.protocol is None
        or connection.transport.get_protocol() is not connection.protocol
        or left is None
        or left < _WORTH_BYTES
        or "Transfer-Encoding" in response.headers  # which goes before a length: RFC 9112, section 6.3
        or response.content.total_bytes > left - _BUFFER_BYTES
    ):
        return None
    come: deque[bytes] = deque()
    while piece := response.content.read_nowait():
        come.append(piece)
    left -= sum(map(len, come))
    return _Receiver(response, connection.transport, connection.protocol, come, left, buffers, timeout_secs)


class _Receiver(asyncio.BufferedProtocol):
    """Be a transport's protocol, in place of aiohttp's, until `left` bytes have come."""

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        transport: asyncio.Transport,
        usual: aiohttp.client_proto.ResponseHandler,
        come: deque[bytes],
        left: int,
        buffers: Buffers,
        timeout_secs: float,
    ) -> None:
        self._content = response.content
        self._transport = transport
        self._usual = usual
        self._come = come
        self._held = sum(map(len, come))
        self._left = left
        self._buffers = buffers
        self._buffer: memoryview | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self._paused = False
        self._closed = False
        usual.read_timeout = None  # until the next request: it would see nothing move
        usual.start_timeout()
        self._timeout_secs = timeout_secs
        self._loop = asyncio.get_running_loop()
        self._moved = self._loop.time()
        self._timer = self._loop.call_later(timeout_secs, self._look)
        transport.set_protocol(self)

    async def next(self) -> bytes | None:
        """Return what has come next; None at the end."""
        while not self._come:
            if self._error is not None:
                raise self._error
            if not self._left:
                return None
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        piece = self._come.popleft()
        self._held -= len(piece)
        if self._paused and self._held < _AHEAD_BYTES:
            self._paused = False
            self._moved = self._loop.time()
            self._transport.resume_reading()
        return piece

    def close(self) -> None:
        """Give the connection back to aiohttp: to be used again, or to be closed if bytes are missing."""
        if self._closed:
            return
        self._closed = True
        self._timer.cancel()
        self._transport.set_protocol(self._usual)
        if not self._left and self._error is None:
            self._content.feed_eof()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Lend the transport a buffer for what comes next, and one byte behind it."""
        if self._buffer is None:
            self._buffer = self._buffers.take()
        return self._buffer[: self._left + 1]

    def buffer_updated(self, nbytes: int) -> None:
        """Take what has come."""
        if self._buffer is None:
            raise RuntimeError("the transport has written to a buffer that it was not lent")
        if nbytes > self._left:  # more than was announced: what would the next answer begin with?
            nbytes = self._left
            self._usual.force_close()
        self._come.append(bytes(self._buffer[:nbytes]))
        self._buffers.give(self._buffer)
        self._buffer = None
        self._held += nbytes
        self._left -= nbytes
        self._moved = self._loop.time()
        self._wake()
        if not self._left:
            self.close()
        elif self._held >= _AHEAD_BYTES and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool | None:
        """Let the connection be closed."""
        self._usual.eof_received()
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail: this is told while bytes are missing."""
        self._usual.connection_lost(exc)
        self._fail(aiohttp.ClientPayloadError(f"it was closed while {self._left} bytes were to come"), exc)

    def pause_writing(self) -> None:
        """Pass it on."""
        self._usual.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._usual.resume_writing()

    def _look(self) -> None:
        """End the wait for a byte when it has lasted too long; our own pauses are none."""
        now = self._loop.time()
        due = (self._moved if self._waiter is not None else now) + self._timeout_secs
        if due <= now:
            self._fail(TimeoutError(), None)
        else:
            self._timer = self._loop.call_at(due, self._look)

    def _fail(self, error: Exception, cause: BaseException | None) -> None:
        error.__cause__ = cause
        self._error = self._error or error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
