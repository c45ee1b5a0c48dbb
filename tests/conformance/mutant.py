"""What a mutant is: a memory backend with one lie, entered with the law that must catch it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import ClassVar

from crc32c import crc32c

from ackpt.backends.base import (
    Body,
    Upload,
)
from ackpt.backends.memory import MemoryBackend, MemoryUpload

CAUGHT_BY: dict[type[MemoryBackend], str] = {}


def caught_by(law: str) -> Callable[[type[MemoryBackend]], type[MemoryBackend]]:
    """Enter a mutant, with the law that must catch it."""

    def enter(mutant: type[MemoryBackend]) -> type[MemoryBackend]:
        CAUGHT_BY[mutant] = f"test_{law}"
        return mutant

    return enter


class UploadMutant(MemoryBackend):
    """Make uploads of another kind."""

    kind: ClassVar[type[MemoryUpload]] = MemoryUpload

    async def create_upload(self, key: str) -> Upload:
        return self.kind(self, key, (await super().create_upload(key)).id)

    async def open_upload(self, key: str, upload_id: str) -> Upload:
        return self.kind(self, key, (await super().open_upload(key, upload_id)).id)


class HonestBody(Body):
    """Hold bytes, and announce what they are."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def size(self) -> int:
        return len(self._data)

    async def crc32c(self) -> int:
        return crc32c(self._data)

    async def __aiter__(self) -> AsyncGenerator[memoryview, None]:
        yield memoryview(self._data)

    async def read(self) -> bytes:
        return self._data
