"""Large objects in parallel parts: a multipart upload to a name aside, then a move into place.

The XML API's completion takes no preconditions and replaces whatever has the name
(https://cloud.google.com/storage/docs/multipart-uploads#considerations). So the parts are put
together under a name aside, `<key>.ackpt-upload-<16 hex digits>`; what came of them is compared
with what was sent; and `Objects: move`, which is atomic and takes a generation, gives it its name
(https://cloud.google.com/storage/docs/json_api/v1/objects/move). A completion under a condition is
thereby as atomic as a put, and no reader ever sees an object that was not compared.
The names aside are not listed as objects; one that a crash left behind is listed as an upload.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, Self

from ackpt.backends.base import Body, Condition, ObjectInfo, PartLimits, PartReceipt, Upload
from ackpt.backends.gs.aside import aside, new_mark
from ackpt.backends.gs.objects import Objects
from ackpt.backends.gs.xml_api import XmlApi, upload_purpose
from ackpt.backends.http.crc32c import compare
from ackpt.backends.http.purpose import Purpose
from ackpt.errors import ChecksumMismatchError, NotFoundError, UploadCompletedError
from ackpt.options import GiB, MiB

MULTIPART_LIMITS: Final = PartLimits(min_part_bytes=5 * MiB, max_part_bytes=5 * GiB, max_parts=10_000)
"""https://cloud.google.com/storage/quotas#requests (XML API multipart uploads)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """Be an upload's id taken apart: the mark in the name aside, and the XML API's id.

    The latter is empty for an object aside that a crash between completion and move left behind.
    """

    mark: str
    upload_id: str

    @classmethod
    def new(cls) -> Self:
        """Make one for an upload that is yet to begin."""
        return cls(mark=new_mark(), upload_id="")

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read an id; None for one that is not of this kind."""
        match = re.fullmatch(r"([0-9a-f]{16}):(.*)", text)
        return None if match is None else cls(mark=match.group(1), upload_id=match.group(2))

    def __str__(self) -> str:
        return f"{self.mark}:{self.upload_id}"

    def aside(self, key: str) -> str:
        """Return the key of the object aside."""
        return aside(key, self.mark)


class MultipartUpload(Upload):
    """Be one multipart upload; its parts go in any order, many at a time."""

    def __init__(
        self, key: str, ticket: Ticket, *, bucket: str, base: str, xml: XmlApi, objects: Objects
    ) -> None:
        self.key = key
        self.id = str(ticket)
        self._upload_id = ticket.upload_id
        self._aside = ticket.aside(key)
        self._name = base + self._aside
        self._bucket = bucket
        self._xml = xml
        self._objects = objects
        self._damaged: set[int] = set()

    async def put_part(self, number: int, body: Body) -> PartReceipt:
        """Send one part, streamed, and compare its checksum with the one the store answers with.

        One pass over the bytes: the store computes its own checksum anyway, and an answer that
        tells it saves reading a part twice. A part that arrived damaged stays in the upload until
        its repeat replaces it; `parts` does not tell it meanwhile.
        """
        purpose = self._purpose(f"put part {number} of")
        receipt = await self._xml.put_part(self._name, self._upload_id, number, body, purpose)
        try:
            compare(f"part {number}", sent=await body.crc32c(), stored=receipt.crc32c, key=self.key)
        except ChecksumMismatchError:
            self._damaged.add(number)
            raise
        self._damaged.discard(number)
        return receipt

    async def parts(self) -> Sequence[PartReceipt]:
        """Return the parts the store has; it tells no checksums.

        Raises:
            UploadCompletedError: what was put together of them lies aside, to be moved into place.
        """
        try:
            self._check_id()
            purpose = self._purpose("list the parts of")
            listed = await self._xml.list_parts(self._name, self._upload_id, purpose)
        except NotFoundError as gone:
            if not await self._is_joined():
                raise
            raise UploadCompletedError(
                f"{self.key}: the parts of this upload are put together already; complete or abort it",
                key=self.key,
            ) from gone
        return [receipt for receipt in listed if receipt.number not in self._damaged]

    async def complete(
        self, receipts: Sequence[PartReceipt], *, condition: Condition | None = None
    ) -> ObjectInfo:
        """Put the parts together aside, check the size, and move the object into place.

        Atomic, also under a condition. May be called again after it failed: what was put together
        already is found aside, and only the move is left.
        """
        aside = await self._join(receipts)
        await self._objects.check(aside, size=sum(receipt.size for receipt in receipts), crc32c=None)
        return await self._objects.move(aside, self.key, condition)

    async def abort(self) -> None:
        """Drop the parts, and what may have been put together of them already."""
        try:
            self._check_id()
            await self._xml.abort(self._name, self._upload_id, self._purpose("abort"))
        except NotFoundError:
            await self._objects.delete(self._aside)
            await self._delete_parts()

    async def _delete_parts(self) -> None:
        """Delete what an upload of another driver has left behind its name aside."""
        async with aclosing(self._objects.list(f"{self._aside}.")) as infos:
            left = [info.key async for info in infos]
        for key in left:
            await self._objects.delete(key)

    def _check_id(self) -> None:
        """Raise NotFoundError where all that is left is an object aside, which a listing has shown."""
        if not self._upload_id:
            raise NotFoundError(f"{self.key}: there is no open upload, only what came of one", key=self.key)

    async def _is_joined(self) -> bool:
        try:
            await self._objects.head(self._aside)
        except NotFoundError:
            return False
        return True

    async def _join(self, receipts: Sequence[PartReceipt]) -> ObjectInfo:
        """Complete the upload to the name aside, unless that has been done."""
        try:
            self._check_id()
            purpose = self._purpose("complete")
            await self._xml.complete(self._name, self._upload_id, receipts, purpose)
        except NotFoundError as gone:
            try:
                return await self._objects.head(self._aside)
            except NotFoundError:
                raise gone from None
        return await self._objects.head(self._aside)

    def _purpose(self, action: str) -> Purpose:
        return upload_purpose(action, self._bucket, self.key)
