"""The `az://` backend: options, credentials, connections and requests put together."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Final, Self, cast

from ackpt.backends.az.blobs import Blobs
from ackpt.backends.az.blocks import Blocks, new_mark
from ackpt.backends.az.container import Container
from ackpt.backends.az.copies import Copies
from ackpt.backends.az.deletions import DELETE_LIMIT, Deletions
from ackpt.backends.az.options import AzOptions
from ackpt.backends.az.tickets import Tickets, split_ticket
from ackpt.backends.az.upload import BLOCK_LIMITS, AzUpload, Uploads
from ackpt.backends.base import (
    Body,
    BulkDeletingBackend,
    Condition,
    CopyingBackend,
    MultipartBackend,
    ObjectInfo,
    Upload,
    UploadInfo,
)
from ackpt.backends.http.undo import undo
from ackpt.errors import InvalidURLError, StorageError, UnsupportedError
from ackpt.options import MiB, read_options
from ackpt.url import StorageURL

_SMALL_BYTES: Final = 1 * MiB
"""Up to here an object is read into memory and put in one request, which costs more than its bytes do."""

_CONTAINER: Final = re.compile(r"[a-z0-9](-?[a-z0-9]){2,62}|\$root|\$web|\$logs")


def _is_tidied(name: str) -> bool:
    """Tell whether a server, or something between, would make another name of this one."""
    return "\\" in name or any(segment in (".", "..") for segment in name.split("/"))


class AzBackend(MultipartBackend, BulkDeletingBackend):
    """Be the objects below `az://container/path`: block blobs of one storage account.

    A version is an ETag, which changes with every write. Conditions are the store's own
    `If-None-Match` and `If-Match`, atomic for puts, uploads and copies
    (https://learn.microsoft.com/rest/api/storageservices/specifying-conditional-headers-for-blob-service-operations).
    Leases are neither taken nor needed.
    """

    def __init__(self, container: str, path: str, options: AzOptions) -> None:
        """Make the backend; no I/O. Raises InvalidOptionError."""
        self.limits = BLOCK_LIMITS
        self.delete_limit = DELETE_LIMIT
        self._container = Container(container, f"{path}/" if path else "", options)
        self._blobs = Blobs(self._container)
        self._deletions = Deletions(self._container, self._blobs)
        self._tickets = Tickets(self._blobs, self._container.base)
        self._uploads = Uploads(self._blobs, Blocks(self._container, self._blobs), self._tickets)

    @classmethod
    def from_url(cls, url: StorageURL) -> Self:
        """Make a backend for `az://container/path?option=value`; the options are those of `AzOptions`.

        It is a `CopyingBackend`, unless blobs are encrypted with a key of the caller's own: the store
        cannot read these by itself.

        Raises:
            InvalidOptionError: no account is named, or an option, or an environment variable, is wrong.
            InvalidURLError: what should be a container's name is none, or the path is one that Azure
                would tidy up.
        """
        if _CONTAINER.fullmatch(url.bucket) is None:
            raise InvalidURLError(
                f"{url}: {url.bucket!r} is no container's name (3 to 63 lower-case letters, digits and "
                "single dashes); expected az://container/path?account=name"
            )
        if _is_tidied(url.path):
            raise InvalidURLError(
                f"{url}: Azure takes a backslash for a slash, and '.' and '..' for folders; "
                "expected a path without them"
            )
        options = read_options(AzOptions, url.options, where=str(url))
        kind = CopyingAzBackend if options.encryption_key_env is None else cls
        return cast(Self, kind(url.bucket, url.path, options))

    async def put(self, key: str, body: Body, *, condition: Condition | None = None) -> ObjectInfo:
        """Write one object; see `Backend.put`.

        Up to 1 MiB in one request that announces the checksum; a larger one as a block, which is
        joined to the object when the store has confirmed what it got.

        Raises:
            ChecksumMismatchError: the bytes arrived damaged; no object was made of them.
            UnsupportedError: the store could take the key for another, or it is kept for uploads.
        """
        self._check_key(key)
        if body.size <= _SMALL_BYTES:
            return await self._blobs.put(key, body, condition)
        return await self._uploads.put(key, body, condition)

    async def get(self, key: str, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        """Iterate over an object's bytes, all of one version; see `Backend.get`."""
        self._check_key(key)
        async with aclosing(self._blobs.get(key, start, stop)) as blocks:
            async for block in blocks:
                yield block

    async def head(self, key: str) -> ObjectInfo:
        """Describe the object; see `Backend.head`."""
        self._check_key(key)
        return await self._blobs.head(key)

    async def list(self, prefix: str = "") -> AsyncGenerator[ObjectInfo, None]:
        """Iterate over the objects; see `Backend.list`. Tickets of uploads are left out."""
        async with aclosing(self._blobs.list(prefix)) as infos:
            async for info in infos:
                if split_ticket(info.key) is None:
                    yield info

    async def delete(self, key: str) -> None:
        """Delete the object; see `Backend.delete`. What an upload has staged under the key goes with it.

        Where the account keeps deleted blobs for a time (soft delete, versions), it is hidden.
        """
        self._check_key(key)
        await self._blobs.delete(key)

    async def delete_many(self, keys: Sequence[str]) -> Mapping[str, StorageError]:
        """Delete up to 256 objects in one request; see `BulkDeletingBackend.delete_many`.

        Raises:
            UnsupportedError: the store does not know such requests, or could take a key for another.
        """
        for key in keys:
            self._check_key(key)
        return await self._deletions.delete(keys)

    async def create_upload(self, key: str) -> Upload:
        """Begin an upload; cancelled on the way, it leaves none.

        Raises:
            UnsupportedError: the key leaves no room for the ticket's name.
        """
        self._check_key(key)
        mark = new_mark()
        request = asyncio.create_task(self._tickets.make(key, mark))
        try:
            await asyncio.shield(request)
        except asyncio.CancelledError:
            await undo(self._drop(key, mark, request))
            raise
        return AzUpload(key, mark, self._uploads)

    async def open_upload(self, key: str, upload_id: str) -> Upload:
        """Go on with an upload; see `MultipartBackend.open_upload`."""
        self._check_key(key)
        await self._tickets.check(key, upload_id)
        return AzUpload(key, upload_id, self._uploads)

    async def list_uploads(self, prefix: str = "") -> AsyncGenerator[UploadInfo, None]:
        """Iterate over the unfinished uploads; see `MultipartBackend.list_uploads`."""
        async with aclosing(self._tickets.list(prefix)) as uploads:
            async for upload in uploads:
                yield upload

    async def aclose(self) -> None:
        """Close the connections; idempotent. Requests after it are a ClosedError."""
        await self._container.aclose()

    async def _drop(self, key: str, mark: str, request: asyncio.Task[None]) -> None:
        try:
            await request
            await self._tickets.delete(key, mark)
        finally:
            request.cancel()

    def _check_key(self, key: str) -> None:
        """Refuse keys that a server, or something between, would tidy up into those of other objects.

        Raises:
            UnsupportedError: the key is such a one, is empty, or is a ticket's name.
        """
        if not key:
            raise UnsupportedError("an object needs a name; got an empty key", key=key)
        if _is_tidied(key):
            raise UnsupportedError(
                f"{key}: Azure takes a backslash for a slash, and '.' and '..' for folders", key=key
            )
        if split_ticket(key) is not None:
            raise UnsupportedError(f"{key}: names that end like this are kept for uploads", key=key)


class CopyingAzBackend(AzBackend, CopyingBackend):
    """Copy inside the store, too."""

    def __init__(self, container: str, path: str, options: AzOptions) -> None:
        """Make the backend; no I/O. Raises InvalidOptionError."""
        super().__init__(container, path, options)
        self._copies = Copies(self._container, self._uploads)

    async def copy(self, source: ObjectInfo, key: str, *, condition: Condition | None = None) -> ObjectInfo:
        """Copy one version of an object inside the store; see `CopyingBackend.copy`.

        Raises:
            UnsupportedError: the store could take the key for another, or it is kept for uploads.
        """
        self._check_key(key)
        return await self._copies.copy(source, key, condition)
