"""A store that reads every byte that is sent, keeps none of a large object's, and has no limits."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Self

from ackpt.backends.base import (
    Body,
    Condition,
    MultipartBackend,
    ObjectInfo,
    PartLimits,
    PartReceipt,
    Upload,
    UploadInfo,
)
from ackpt.errors import UnsupportedError
from ackpt.url import StorageURL


class SinkBackend(MultipartBackend):
    """Take bytes as fast as the client brings them; for measuring the client alone."""

    limits = PartLimits(min_part_bytes=1, max_part_bytes=2**40, max_parts=2**20)

    def __init__(self) -> None:
        self.bytes_read = 0
        self.parts = 0

    @classmethod
    def from_url(cls, url: StorageURL) -> Self:
        """Make one for any URL."""
        return cls()

    async def read(self, body: Body) -> int:
        """Read a body; return its checksum."""
        async for block in body:
            self.bytes_read += len(block)
        return await body.crc32c()

    async def put(self, key: str, body: Body, *, condition: Condition | None = None) -> ObjectInfo:
        """Read the body and forget it."""
        return ObjectInfo(key=key, size=body.size, version="1", crc32c=await self.read(body))

    def get(self, key: str, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        """Refuse: nothing is kept."""
        raise UnsupportedError(f"{key}: nothing is kept here", key=key)

    async def head(self, key: str) -> ObjectInfo:
        """Refuse: nothing is kept."""
        raise UnsupportedError(f"{key}: nothing is kept here", key=key)

    async def list(self, prefix: str = "") -> AsyncGenerator[ObjectInfo, None]:
        """List nothing."""
        return
        yield

    async def delete(self, key: str) -> None:
        """Have nothing to delete."""

    async def create_upload(self, key: str) -> Upload:
        """Begin an upload."""
        return SinkUpload(self, key)

    async def open_upload(self, key: str, upload_id: str) -> Upload:
        """Go on with an upload."""
        return SinkUpload(self, key)

    async def list_uploads(self, prefix: str = "") -> AsyncGenerator[UploadInfo, None]:
        """List nothing."""
        return
        yield


class SinkUpload(Upload):
    """Count the parts."""

    id = "sink"

    def __init__(self, backend: SinkBackend, key: str) -> None:
        self.key = key
        self._backend = backend

    async def put_part(self, number: int, body: Body) -> PartReceipt:
        """Read the part and forget it."""
        crc = await self._backend.read(body)
        self._backend.parts += 1
        return PartReceipt(number=number, size=body.size, token=str(number), crc32c=crc)

    async def parts(self) -> Sequence[PartReceipt]:
        """Know of no parts."""
        return ()

    async def complete(
        self, receipts: Sequence[PartReceipt], *, condition: Condition | None = None
    ) -> ObjectInfo:
        """Say that the object is there."""
        return ObjectInfo(key=self.key, size=sum(each.size for each in receipts), version="1")

    async def abort(self) -> None:
        """Have nothing to drop."""
