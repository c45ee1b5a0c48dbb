"""The two halves of a save alone: a store that takes no time, and a checkpoint that lies staged already."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

from ackpt.backends.base import Backend, Body, Condition, ObjectInfo
from ackpt.backends.memory import MemoryBackend
from ackpt.checkpoint.staged import StagedFile
from ackpt.snapshot.base import Snapshot
from ackpt.transfer.body import BytesBody
from ackpt.url import StorageURL

SMALL_BYTES = 2**20


class InstantBackend(Backend):
    """Take large objects unread, and keep small ones (manifest, state file) in memory."""

    def __init__(self, kept: MemoryBackend) -> None:
        self._kept = kept
        self._sizes: dict[str, int] = {}

    @classmethod
    def from_url(cls, url: StorageURL) -> Self:
        """Make one for any URL."""
        return cls(MemoryBackend.from_url(url))

    async def put(self, key: str, body: Body, *, condition: Condition | None = None) -> ObjectInfo:
        """Say that the object is there."""
        if body.size <= SMALL_BYTES:
            return await self._kept.put(key, body, condition=condition)
        empty = await self._kept.put(key, BytesBody(b""), condition=condition)
        self._sizes[key] = body.size
        return self._pretend(empty)

    def get(self, key: str, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        """Read what was kept."""
        return self._kept.get(key, start, stop)

    async def head(self, key: str) -> ObjectInfo:
        """Describe what was kept."""
        return self._pretend(await self._kept.head(key))

    async def list(self, prefix: str = "") -> AsyncGenerator[ObjectInfo, None]:
        """List what was kept."""
        async for info in self._kept.list(prefix):
            yield self._pretend(info)

    async def delete(self, key: str) -> None:
        """Delete what was kept."""
        await self._kept.delete(key)
        self._sizes.pop(key, None)

    def _pretend(self, info: ObjectInfo) -> ObjectInfo:
        if info.key not in self._sizes:
            return info
        return replace(info, size=self._sizes[info.key], crc32c=None)


class ReadySnapshot(Snapshot):
    """Stage files by linking them: they lie on the staging folder's filesystem, and are not copied."""

    def __init__(self, files: Sequence[Path], *, step: int) -> None:
        self.step = step
        self._files = files

    def stage(self, folder: Path, prefix: str) -> Iterator[StagedFile]:
        """Link file after file."""
        for file in self._files:
            key = f"{prefix}.{file.name}"
            os.link(file, folder / key)
            yield StagedFile(key=key, path=folder / key, size=file.stat().st_size)

    def release(self) -> None:
        """Hold nothing."""
