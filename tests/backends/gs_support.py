"""What the tests of the `gs://` backend share: opening it on the test server, bodies, and parts."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from urllib.parse import quote

from ackpt.backends.base import Backend, Body, PartReceipt, Upload
from ackpt.backends.gs import GSBackend
from ackpt.options import MiB
from ackpt.transfer.body import BytesBody
from ackpt.url import StorageURL
from tests.servers.gcs import GCSServer

PART = 5 * MiB


@asynccontextmanager
async def open_gs(
    server: GCSServer, bucket: str, path: str = "run", **options: str
) -> AsyncIterator[GSBackend]:
    """Open the backend on the server, as nobody unless credentials are asked for."""
    if "credentials" not in options:
        options.setdefault("anonymous", "true")
    options.setdefault("endpoint", server.url)
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in options.items())
    place = f"gs://{bucket}/{quote(path)}" if path else f"gs://{bucket}"
    backend = GSBackend.from_url(StorageURL.parse(f"{place}?{query}"))
    try:
        yield backend
    finally:
        await backend.aclose()


def data_of(size: int, seed: int = 0) -> bytes:
    """Make bytes."""
    return random.Random(seed).randbytes(size)


def body_of(data: bytes) -> Body:
    """Make a body."""
    return BytesBody(data)


async def read(backend: Backend, key: str) -> bytes:
    """Get all bytes of an object."""
    async with aclosing(backend.get(key)) as blocks:
        return b"".join([block async for block in blocks])


async def send(upload: Upload, pieces: Sequence[bytes]) -> list[PartReceipt]:
    """Put parts in order."""
    return [await upload.put_part(number, body_of(piece)) for number, piece in enumerate(pieces, 1)]


async def keys(backend: Backend) -> list[str]:
    """List all keys."""
    return [info.key async for info in backend.list()]


async def until(true: Callable[[], bool]) -> None:
    """Wait until the server, which runs in a thread, has got somewhere."""
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 - the server's thread has no event of this loop to set
            await asyncio.sleep(0.01)
