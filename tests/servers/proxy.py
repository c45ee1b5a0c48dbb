"""A TCP proxy for tests, in front of a server, that resets every so manieth connection."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

_BLOCK_BYTES = 64 * 1024


@dataclass(slots=True)
class Proxy:
    """Count the connections that bring more than `after_bytes`; every `every`th is reset just then."""

    every: int
    after_bytes: int
    url: str = ""
    connections: int = 0
    resets: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
        """Pass one connection on, until one side closes it or it is reset."""
        open_ones = [writer]
        tasks: list[asyncio.Task[None]] = []
        try:
            there, back = await asyncio.open_connection("127.0.0.1", port)
            open_ones.append(back)
            tasks.append(asyncio.create_task(self._bring(reader, back, writer)))
            tasks.append(asyncio.create_task(_copy(there, writer)))
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            for each in open_ones:
                each.transport.abort() if each.transport.is_closing() else each.close()

    async def _bring(
        self, reader: asyncio.StreamReader, there: asyncio.StreamWriter, client: asyncio.StreamWriter
    ) -> None:
        seen, counted = 0, False
        with suppress(OSError):
            while block := await reader.read(_BLOCK_BYTES):
                seen += len(block)
                if seen > self.after_bytes and not counted:
                    counted = True
                    self.connections += 1
                    if self.connections % self.every == 0:
                        self.resets += 1
                        _reset(client)
                        return
                there.write(block)
                await there.drain()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while block := await reader.read(_BLOCK_BYTES):
            writer.write(block)
            await writer.drain()


@asynccontextmanager
async def proxy(port: int, *, every: int, after_bytes: int = 0) -> AsyncIterator[Proxy]:
    """Run a proxy in front of the server at `port`, in the running loop."""
    made = Proxy(every, after_bytes)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await made.serve(reader, writer, port)
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(list(tasks))
        await server.wait_closed()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with a RST, as a proxy does that gives up on a connection."""
    sock = writer.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
