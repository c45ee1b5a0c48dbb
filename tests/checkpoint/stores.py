"""Stores for tests of the checkpoint room: in memory, with small helpers to look into them and fill them."""

from __future__ import annotations

from contextlib import aclosing

from ackpt.backends.base import Backend
from ackpt.checkpoint.manifest import Manifest
from ackpt.transfer.body import BytesBody


async def put(backend: Backend, key: str, data: bytes = b"abc") -> None:
    await backend.put(key, BytesBody(data))


async def put_checkpoint(backend: Backend, manifest: Manifest) -> None:
    """Put a manifest and what it names."""
    for each in manifest.objects:
        await put(backend, each.key)
    await put(backend, manifest.key, manifest.to_json())


async def keys(backend: Backend) -> set[str]:
    async with aclosing(backend.list()) as objects:
        return {info.key async for info in objects}


async def read(backend: Backend, key: str) -> bytes:
    async with aclosing(backend.get(key)) as blocks:
        return b"".join([block async for block in blocks])
