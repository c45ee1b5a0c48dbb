"""The ways to fetch objects into files: ours, verified and durable, and the peers'."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from io import FileIO
from pathlib import Path

from bench.loopback import BUCKET, declared
from bench.uploads import AT_ONCE, google_bucket, obstore_gs_store

Fetch = Callable[[Sequence[Path]], Awaitable[None]]
"""Fetch into files, whose names are the objects'."""

Way = Callable[[str, AsyncExitStack], Awaitable[Fetch]]
"""Open a client for an endpoint, to be closed at the end; return what it fetches with."""

PART_BYTES = 32 * 2**20


async def ackpt(endpoint: str, stack: AsyncExitStack) -> Fetch:
    """Fetch as a restore does: in ranges, each byte verified, the file durable before it has its name."""
    from ackpt.engine.store import Store
    from ackpt.transfer.download import download_object

    store = Store(f"gs://{BUCKET}?endpoint={endpoint}&anonymous=true")
    stack.push_async_callback(store.aclose)

    async def fetch(files: Sequence[Path]) -> None:
        transfer = store.transfer()
        async with asyncio.TaskGroup() as group:
            for file in files:
                size, crc32c = declared(file.name)
                get = partial(
                    download_object, store.backend, file.name, file, transfer, size=size, crc32c=crc32c
                )
                group.create_task(get())

    return fetch


async def obstore_stream(endpoint: str, stack: AsyncExitStack) -> Fetch:
    """Fetch with obstore, a stream for each object, which Python writes."""
    import obstore

    store = obstore_gs_store(endpoint)

    async def one(file: Path) -> None:
        found = await obstore.get_async(store, file.name)
        with _written(file) as out:
            async for block in found.stream():
                out.write(block)

    return partial(_each, one)


async def obstore_verified(endpoint: str, stack: AsyncExitStack) -> Fetch:
    """Fetch with obstore, a stream for each object, and do what a restore does: verify, sync, rename."""
    import obstore
    from crc32c import crc32c

    store = obstore_gs_store(endpoint)

    async def one(file: Path) -> None:
        found = await obstore.get_async(store, file.name)
        aside, value = file.with_name(f"{file.name}.part"), 0
        with _written(aside) as out:
            async for block in found.stream():
                value = crc32c(block, value)
                out.write(block)
            await asyncio.to_thread(os.fsync, out.fileno())
        if value != declared(file.name)[1]:
            raise ValueError(f"{file.name}: came with crc32c {value:08x}")
        aside.rename(file)

    return partial(_each, one)


async def obstore_ranges(endpoint: str, stack: AsyncExitStack) -> Fetch:
    """Fetch with obstore, ranges of each object at a time, which Python writes."""
    import obstore

    store = obstore_gs_store(endpoint)
    room = asyncio.Semaphore(AT_ONCE)

    async def part(file: Path, start: int, stop: int) -> None:
        async with room:
            data = await obstore.get_range_async(store, file.name, start=start, end=stop)
            await asyncio.to_thread(_write, file, memoryview(data), start)

    async def one(file: Path) -> None:
        size, _ = declared(file.name)
        await asyncio.to_thread(file.touch)
        await asyncio.gather(
            *(part(file, start, min(start + PART_BYTES, size)) for start in range(0, size, PART_BYTES))
        )

    return partial(_each, one)


def _written(file: Path) -> FileIO:
    return FileIO(file, "wb")


def _write(file: Path, data: memoryview, start: int) -> None:
    with file.open("r+b", buffering=0) as out:
        out.seek(start)
        out.write(data)


async def google_single(endpoint: str, stack: AsyncExitStack) -> Fetch:
    """Fetch with google-cloud-storage, one stream for each object; it verifies."""
    bucket = google_bucket(endpoint)

    async def fetch(files: Sequence[Path]) -> None:
        for file in files:
            bucket.blob(file.name).download_to_filename(str(file))

    return fetch


async def google_manager(endpoint: str, stack: AsyncExitStack) -> Fetch:
    """Fetch with google-cloud-storage's transfer manager, in threads; it verifies."""
    from google.cloud.storage import transfer_manager

    bucket = google_bucket(endpoint)

    async def fetch(files: Sequence[Path]) -> None:
        for file in files:
            transfer_manager.download_chunks_concurrently(
                bucket.blob(file.name),
                str(file),
                worker_type=transfer_manager.THREAD,
                max_workers=AT_ONCE,
            )

    return fetch


async def _each(one: Callable[[Path], Awaitable[None]], files: Sequence[Path]) -> None:
    await asyncio.gather(*map(one, files))


WAYS: dict[str, tuple[Way, str]] = {
    "ackpt": (ackpt, "ackpt"),
    "obstore, a stream": (obstore_stream, "obstore"),
    "obstore, a stream, verified, durable": (obstore_verified, "obstore"),
    "obstore, ranges": (obstore_ranges, "obstore"),
    "google-cloud-storage": (google_single, "google.cloud.storage"),
    "google-cloud-storage, transfer manager": (google_manager, "google.cloud.storage"),
}
"""By the name of the client: how it fetches, and what has to be installed for it."""
