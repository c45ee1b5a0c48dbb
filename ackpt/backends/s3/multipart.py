"""Large objects in parallel parts, each with its checksum, joined by the store in one atomic step."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from ackpt.backends.base import Body, Condition, ObjectInfo, PartLimits, PartReceipt, Upload
from ackpt.backends.http.crc32c import compare, encode
from ackpt.backends.http.undo import undo
from ackpt.backends.s3.checksums import CRC32C_HEADER, Abilities
from ackpt.backends.s3.chunked import chunked
from ackpt.backends.s3.objects import Objects, content_of
from ackpt.backends.s3.signature import CONTENT_HEADER, UNSIGNED
from ackpt.backends.s3.upload_api import UploadApi, UploadKind
from ackpt.errors import (
    AuthenticationError,
    ChecksumMismatchError,
    NotFoundError,
    StorageError,
    TransientError,
    UnsupportedError,
)
from ackpt.options import GiB, MiB

MULTIPART_LIMITS: Final = PartLimits(min_part_bytes=5 * MiB, max_part_bytes=5 * GiB, max_parts=10_000)
"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html"""


async def begin(api: UploadApi, abilities: Abilities, key: str) -> tuple[str, UploadKind]:
    """Begin an upload with the best checksums that the store takes.

    Cancelled on the way, it still learns the upload's id and drops it: nobody else could.
    """
    request = asyncio.create_task(_create(api, abilities, key))
    try:
        return await asyncio.shield(request)
    except asyncio.CancelledError:
        await undo(_drop(api, key, request))
        raise


async def _create(api: UploadApi, abilities: Abilities, key: str) -> tuple[str, UploadKind]:
    """Ask for checksums of one kind after the other, until the store does not refuse; then stay with it."""
    kinds = abilities.upload_kinds
    for number, kind in enumerate(kinds):
        try:
            begun = await api.create(key, kind)
        except StorageError as error:
            # Refused for what it says, not for who asks or where.
            if type(error) not in (StorageError, UnsupportedError) or kind is None:
                raise
        else:
            abilities.upload_kinds = kinds[number:]
            return begun
    raise AssertionError("the last kind is none at all, and its refusal is raised")


async def _drop(api: UploadApi, key: str, request: asyncio.Task[tuple[str, UploadKind]]) -> None:
    try:
        upload_id, _ = await request
        await api.abort(key, upload_id)
    finally:
        request.cancel()


class S3Upload(Upload):
    """Be one multipart upload; its parts go in any order, many at a time.

    A store that keeps CRC-32C says so when the upload begins. Then each part carries its checksum,
    behind the bytes, so that one pass over them is enough; a store that says nothing of checksums
    is sent plain parts.
    """

    def __init__(
        self,
        key: str,
        upload_id: str,
        kind: UploadKind,
        *,
        api: UploadApi,
        objects: Objects,
        abilities: Abilities,
        settle: Callable[[str, Condition | None], Awaitable[Condition | None]],
    ) -> None:
        """Go on with an upload; `settle` returns the condition that is the store's to check."""
        self.key = key
        self.id = upload_id
        self._kind = kind
        self._api = api
        self._objects = objects
        self._abilities = abilities
        self._settle = settle
        self._completed = False

    async def put_part(self, number: int, body: Body) -> PartReceipt:
        """Send one part; see `Upload.put_part`.

        Raises:
            ChecksumMismatchError: it arrived damaged, and was not kept.
        """
        self._check_open()
        if not self._kind.parts:
            return await self._api.put_part(
                self.key, self.id, number, content_of(body), body.size, {CONTENT_HEADER: UNSIGNED}
            )
        receipt = await self._put_checked(number, body)
        compare(f"part {number}", sent=await body.crc32c(), stored=receipt.crc32c, key=self.key)
        return receipt

    async def parts(self) -> Sequence[PartReceipt]:
        """Return the parts the store has, with their checksums where it keeps them."""
        self._check_open()
        receipts, _ = await self._api.list_parts(self.key, self.id)
        return receipts

    async def complete(
        self, receipts: Sequence[PartReceipt], *, condition: Condition | None = None
    ) -> ObjectInfo:
        """Join the parts; atomic, also under a condition.

        Where the store's answer tells no checksum of the object, it is asked for the size: an
        object of another size would go unnoticed otherwise.
        """
        self._check_open()
        settled = await self._settle(self.key, condition)
        info = await self._api.complete(self.key, self.id, receipts, settled, self._kind)
        self._completed = True
        if info.crc32c is None:
            head = await self._objects.head(self.key)
            if head.version == info.version:
                return head
        return info

    async def abort(self) -> None:
        """Drop the parts; one that is completed or gone is left as it is."""
        if self._completed:
            return
        try:
            await self._api.abort(self.key, self.id)
        except NotFoundError:
            return

    async def _put_checked(self, number: int, body: Body) -> PartReceipt:
        """Send a part with its checksum: behind it, unless the store has refused that.

        The first such part is the test. A store that knows no trailers refuses it in one way or
        another; if it takes the same part with the checksum in front, that was the reason.
        """
        if self._abilities.trailers is not False:
            content, headers = chunked(body)
            try:
                receipt = await self._api.put_part(self.key, self.id, number, content, body.size, headers)
            except StorageError as error:
                if self._abilities.trailers or not _may_be_the_trailer(error):
                    raise
            else:
                self._abilities.trailers = True
                return receipt
        headers = {CRC32C_HEADER: encode(await body.crc32c()), CONTENT_HEADER: UNSIGNED}
        receipt = await self._api.put_part(self.key, self.id, number, content_of(body), body.size, headers)
        if self._abilities.trailers is None:
            self._abilities.give_up_trailers()
        return receipt

    def _check_open(self) -> None:
        """Raise where the upload was completed: Amazon answers a second completion as it did the first."""
        if self._completed:
            raise NotFoundError(f"{self.key}: the upload was completed", key=self.key)


def _may_be_the_trailer(error: StorageError) -> bool:
    """Tell whether a refusal can come of a framing that a store does not know."""
    if isinstance(error, ChecksumMismatchError | AuthenticationError):
        return True  # it took the framing for bytes, or its announcement for a hash
    return not isinstance(error, TransientError | NotFoundError)
