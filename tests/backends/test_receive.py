"""Large answers are received past aiohttp's parser, and their connections are used again.

Over real sockets, from a server that sends what each test says.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from ackpt.backends.http.receive import Buffers, receive
from ackpt.options import KiB, MiB
from bench.certificates import make
from tests.backends.gs_support import data_of

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

SECS = 0.2


@dataclass
class Server:
    """Answer each request on a connection with the next of `answers`; the last one is repeated."""

    answers: list[Answer] = field(default_factory=list)
    url: str = ""
    connections: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                await answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.ended.set()
            writer.transport.abort()


def whole(data: bytes, *, more: bytes = b"") -> Answer:
    """Send all of it, and `more`, which nobody has asked for."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data) + data + more)
        await writer.drain()

    return answer


def part(data: bytes, promised: int, then: Callable[[], Awaitable[None]]) -> Answer:
    """Send `data`, which is less than was promised, then do something, and close."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % promised + data)
        await writer.drain()
        await then()
        writer.close()
        await writer.wait_closed()
        raise ConnectionError

    return answer


async def at_once() -> None:
    """Do nothing before the connection is closed."""


@asynccontextmanager
async def serving(
    *answers: Answer, tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None
) -> AsyncIterator[tuple[Server, aiohttp.ClientSession]]:
    made = Server(list(answers))
    listening = await asyncio.start_server(
        made.serve, "127.0.0.1", 0, ssl=None if tls is None else tls[0], backlog=10
    )
    port = listening.sockets[0].getsockname()[1]
    made.url = f"http{'' if tls is None else 's'}://127.0.0.1:{port}/object"
    connector = aiohttp.TCPConnector(ssl=True if tls is None else tls[1])
    async with listening, aiohttp.ClientSession(connector=connector, read_bufsize=256 * KiB) as client:
        yield made, client


@pytest.fixture(params=["plain", "tls"])
def tls(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[ssl.SSLContext, ssl.SSLContext] | None:
    if request.param == "plain":
        return None
    certificates = make(tmp_path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificates.server, certificates.key)
    for name, value in certificates.environment().items():
        monkeypatch.setenv(name, value)
    return server, ssl.create_default_context()


async def pieces(
    client: aiohttp.ClientSession, url: str, *, timeout_secs: float = 10
) -> AsyncGenerator[bytes, None]:
    """Receive an answer, and check who receives it: else the rest of a test would say nothing."""
    async with client.get(url) as response:
        connection = response.connection
        assert connection is not None
        assert connection.transport is not None
        usual = connection.protocol
        assert connection.transport.get_protocol() is usual
        async with aclosing(receive(response, Buffers(), timeout_secs=timeout_secs)) as blocks:
            async for block in blocks:
                if response.connection is not None and response.content.total_bytes < 2 * MiB:
                    assert connection.transport is None or connection.transport.get_protocol() is not usual
                yield block


async def whole_of(client: aiohttp.ClientSession, url: str) -> bytes:
    return b"".join([piece async for piece in pieces(client, url)])


async def test_answers_come_whole_over_one_connection(
    tls: tuple[ssl.SSLContext, ssl.SSLContext] | None,
) -> None:
    data, little = data_of(9 * MiB + 17), data_of(300)
    async with serving(whole(data), whole(little), whole(data), tls=tls) as (server, client):
        assert await whole_of(client, server.url) == data
        async with client.get(server.url) as response:
            assert b"".join([each async for each in receive(response, Buffers(), timeout_secs=10)]) == little
        assert await whole_of(client, server.url) == data
        assert server.connections == 1


async def test_what_came_before_the_connection_broke_is_given(
    tls: tuple[ssl.SSLContext, ssl.SSLContext] | None,
) -> None:
    data = data_of(5 * MiB)
    came: list[bytes] = []
    async with serving(part(data, 6 * MiB, at_once), whole(data), tls=tls) as (server, client):
        with pytest.raises(aiohttp.ClientPayloadError):
            async for piece in pieces(client, server.url):
                came.append(piece)
        assert b"".join(came) == data
        assert await whole_of(client, server.url) == data
        assert server.connections == 2


async def test_silence_in_the_middle_ends_the_wait() -> None:
    data, silent = data_of(2 * MiB), asyncio.Event()

    async def silence() -> None:
        await silent.wait()

    came: list[bytes] = []
    async with serving(part(data, 6 * MiB, silence), whole(data)) as (server, client):
        with pytest.raises(TimeoutError):
            async for piece in pieces(client, server.url, timeout_secs=SECS):
                came.append(piece)
        silent.set()
        assert b"".join(came) == data
        assert await whole_of(client, server.url) == data
        assert server.connections == 2


async def test_a_pause_of_ours_is_no_silence_and_stops_the_store() -> None:
    data, sent = data_of(64 * MiB), 0

    async def slices(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data))
        for start in range(0, len(data), MiB):
            writer.write(data[start : start + MiB])
            await writer.drain()
            sent += MiB

    got = 0
    async with serving(slices) as (server, client):
        async for piece in pieces(client, server.url, timeout_secs=SECS):
            if not got:
                await asyncio.sleep(3 * SECS)
                assert sent < len(data) // 2  # what the kernel holds, and a little of ours
            assert piece == data[got : got + len(piece)]
            got += len(piece)
        assert got == len(data)
        assert server.connections == 1


async def test_an_answer_that_is_given_up_ends_its_connection(
    tls: tuple[ssl.SSLContext, ssl.SSLContext] | None,
) -> None:
    data = data_of(32 * MiB)
    async with serving(whole(data), tls=tls) as (server, client):
        blocks = pieces(client, server.url)
        await anext(blocks)
        await blocks.aclose()
        await asyncio.wait_for(server.ended.wait(), 10)
        assert await whole_of(client, server.url) == data
        assert server.connections == 2


async def test_a_wait_that_is_cancelled_ends_its_connection() -> None:
    data, silent = data_of(2 * MiB), asyncio.Event()

    async def silence() -> None:
        silent.set()
        await server.ended.wait()

    async def get() -> None:
        async for _ in pieces(client, server.url):
            pass

    async with serving(part(data, 6 * MiB, silence), whole(data)) as (server, client):
        task = asyncio.create_task(get())
        await silent.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        server.ended.set()
        assert await whole_of(client, server.url) == data
        assert server.connections == 2


async def test_bytes_behind_the_end_are_in_no_later_answer() -> None:
    data = data_of(3 * MiB)
    async with serving(whole(data, more=b"HTTP/1.1 200 OK\r\n"), whole(data)) as (server, client):
        assert await whole_of(client, server.url) == data
        assert await whole_of(client, server.url) == data
        assert server.connections == 2


async def test_a_kept_connection_that_the_store_closes_is_replaced() -> None:
    data = data_of(3 * MiB)
    async with serving(part(data, len(data), at_once), whole(data)) as (server, client):
        assert await whole_of(client, server.url) == data
        await server.ended.wait()
        assert await whole_of(client, server.url) == data
        assert server.connections == 2


async def test_an_answer_without_a_length_comes_as_well() -> None:
    data = data_of(3 * MiB)

    async def chunks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for start in range(0, len(data), MiB):
            writer.write(b"%x\r\n" % MiB + data[start : start + MiB] + b"\r\n")
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    async with serving(chunks) as (server, client):
        for _ in range(2):
            async with client.get(server.url) as response:
                assert (
                    b"".join([each async for each in receive(response, Buffers(), timeout_secs=10)]) == data
                )
        assert server.connections == 1
