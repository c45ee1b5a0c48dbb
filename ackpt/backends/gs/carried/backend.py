"""The `gs://` backend on any carrier: the laws of the interface, whoever sends the requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Self

from ackpt.backends.base import (
    Body,
    Condition,
    CopyingBackend,
    MultipartBackend,
    ObjectInfo,
    Upload,
    UploadInfo,
)
from ackpt.backends.gs.aside import check_key, check_room, new_mark, split_aside
from ackpt.backends.gs.carried import names
from ackpt.backends.gs.carried.carrier import Carrier
from ackpt.backends.gs.carried.objects import CarriedObjects
from ackpt.backends.gs.carried.upload import COMPOSED_LIMITS, ComposedUpload
from ackpt.backends.http.undo import undo
from ackpt.errors import InvalidURLError, NotFoundError
from ackpt.url import StorageURL


class CarriedBackend(MultipartBackend, CopyingBackend):
    """Be the objects below `gs://bucket/path`, by way of a client library.

    A version is a generation. Conditions are the store's own preconditions, atomic for puts and
    for uploads. Large objects go in parallel parts, which the store puts together.
    """

    def __init__(self, bucket: str, path: str, carrier: Carrier) -> None:
        """Make the backend; no I/O."""
        self.limits = COMPOSED_LIMITS
        self._base = f"{path}/" if path else ""
        self._objects = CarriedObjects(carrier, bucket, self._base)

    @classmethod
    def from_url(cls, url: StorageURL) -> Self:
        """Refuse: the driver that the URL names makes the carrier first."""
        raise InvalidURLError(f"{url}: use ackpt.open_backend, which reads the option 'driver'")

    async def put(self, key: str, body: Body, *, condition: Condition | None = None) -> ObjectInfo:
        """Write one object; see `Backend.put`.

        Raises:
            ChecksumMismatchError: the bytes arrived damaged, and were not stored.
            UnsupportedError: the key is empty, or a name kept for uploads.
        """
        check_key(key)
        return await self._objects.put(key, body, condition)

    async def get(self, key: str, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        """Iterate over an object's bytes, all of one generation; see `Backend.get`."""
        async with aclosing(self._objects.get(key, start, stop)) as pieces:
            async for piece in pieces:
                yield piece

    async def head(self, key: str) -> ObjectInfo:
        """Describe the object; see `Backend.head`."""
        return await self._objects.head(key)

    async def list(self, prefix: str = "") -> AsyncGenerator[ObjectInfo, None]:
        """Iterate over the objects; see `Backend.list`. Names aside, of uploads, are left out."""
        async with aclosing(self._objects.list(prefix)) as infos:
            async for info in infos:
                if split_aside(info.key) is None:
                    yield info

    async def delete(self, key: str) -> None:
        """Delete the object; see `Backend.delete`."""
        await self._objects.delete(key)

    async def copy(self, source: ObjectInfo, key: str, *, condition: Condition | None = None) -> ObjectInfo:
        """Copy one generation of an object inside the store; see `CopyingBackend.copy`.

        Raises:
            ChecksumMismatchError: the copy has other bytes than the source had, and was deleted.
            UnsupportedError: the key is empty, or a name kept for uploads.
        """
        check_key(key)
        return await self._objects.copy(source, key, condition)

    async def create_upload(self, key: str) -> Upload:
        """Begin an upload; cancelled on the way, nothing of it is left.

        Raises:
            UnsupportedError: the key is too long for an upload, empty, or kept for uploads.
        """
        check_key(key)
        check_room(self._base + key, key, behind=names.LONGEST)
        upload = ComposedUpload(key, new_mark(), self._objects)
        try:
            await upload.begin()
        except asyncio.CancelledError:
            await undo(upload.abort())
            raise
        return upload

    async def open_upload(self, key: str, upload_id: str) -> Upload:
        """Go on with an upload of this driver; see `MultipartBackend.open_upload`."""
        mark = names.parse_id(upload_id)
        if mark is None:
            raise NotFoundError(f"{key}: the upload's id is none of this driver's", key=key)
        upload = ComposedUpload(key, mark, self._objects)
        try:
            await upload.check_open()
        except NotFoundError:
            # Parts that outlived their upload can still be aborted, and nothing else.
            if not await upload.has_left_something():
                raise
        return upload

    async def list_uploads(self, prefix: str = "") -> AsyncGenerator[UploadInfo, None]:
        """Iterate over our unfinished uploads, and over what completed ones could not delete."""
        seen: set[tuple[str, str]] = set()
        async with aclosing(self._objects.list(prefix)) as infos:
            async for info in infos:
                found = split_aside(info.key)
                if found is not None and found not in seen and found[0].startswith(prefix):
                    seen.add(found)
                    yield UploadInfo(key=found[0], upload_id=names.upload_id(found[1]), created=info.modified)

    async def aclose(self) -> None:
        """Close the connections; idempotent. Requests after it are a ClosedError."""
        await self._objects.aclose()
