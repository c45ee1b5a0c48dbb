"""Blocks: staged under a blob's name, invisible, and joined to the blob in one atomic step; no policy.

https://learn.microsoft.com/rest/api/storageservices/operations-on-block-blobs
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final
from xml.etree import ElementTree as ET

from ackpt.backends.az.blobs import Blobs, condition_headers, etag
from ackpt.backends.az.checksums import Measured, metadata_headers
from ackpt.backends.az.container import Ask, Container
from ackpt.backends.base import Body, Condition, ObjectInfo
from ackpt.backends.http import xml
from ackpt.backends.http.message import Content
from ackpt.backends.http.purpose import Purpose, Subject
from ackpt.errors import NotFoundError, StorageError

_LONG_SECS: Final = 600.0
"""The time for an answer where the store has much to do: joining, and copying."""

_BEFORE_AZURE: Final = "Mon, 01 Jan 2001 00:00:00 GMT"
_CREATED: Final = frozenset({201})
_BLOCK: Final = re.compile(rb"ackpt-([0-9a-f]{16})-([0-9]{5})")


def new_mark() -> str:
    """Make what tells the blocks of one upload from those of any other."""
    return secrets.token_hex(8)


def block_id(mark: str, number: int) -> str:
    """Return a block's id: all of one length, as the blocks of one blob must have.

    https://learn.microsoft.com/rest/api/storageservices/put-block#uri-parameters
    """
    return base64.b64encode(f"ackpt-{mark}-{number:05d}".encode()).decode()


class Blocks:
    """Stage and join blocks in one container."""

    def __init__(self, container: Container, blobs: Blobs) -> None:
        self._container = container
        self._blobs = blobs

    async def put(self, key: str, block: str, body: Body, *, what: str) -> int | None:
        """Stage a body in one pass; return its CRC-32C where the store confirms that it got just that.

        https://learn.microsoft.com/rest/api/storageservices/put-block

        Raises:
            ChecksumMismatchError: it arrived damaged; it is staged all the same, until it is put again.
        """
        measured = Measured(body)
        reply = await self._container.send(
            Ask(
                # A container that is not there says so in words; any other 404 would be a riddle.
                purpose=self._container.purpose(f"put {what} of", key, Subject.BUCKET),
                method="PUT",
                name=self._container.base + key,
                query={"comp": "block", "blockid": block},
                headers=self._container.settings.sealing,
                content=measured.content,
                ok=_CREATED,
            )
        )
        self._container.abilities.see(reply.headers)
        return await measured.check(reply.headers, what, key)

    async def copy(
        self, key: str, block: str, source: ObjectInfo, start: int, stop: int, condition: Mapping[str, str]
    ) -> None:
        """Stage bytes `start` to `stop` of another blob; `condition` is about that one, in headers.

        https://learn.microsoft.com/rest/api/storageservices/put-block-from-url
        """
        await self._container.send(
            Ask(
                purpose=self._container.purpose(f"copy to {key} from", source.key),
                method="PUT",
                name=self._container.base + key,
                query={"comp": "block", "blockid": block},
                headers={
                    **await self._container.source(source.key),
                    **condition,
                    "x-ms-source-range": f"bytes={start}-{stop - 1}",
                    **self._container.settings.sealing,
                },
                ok=_CREATED,
                timeout_secs=_LONG_SECS,
            )
        )

    async def staged(self, key: str, mark: str) -> list[tuple[int, int]]:
        """Return number and size of the blocks with that mark, by number.

        https://learn.microsoft.com/rest/api/storageservices/get-block-list
        """
        purpose = self._container.purpose("list the parts of", key)
        ask = Ask(
            purpose=purpose,
            method="GET",
            name=self._container.base + key,
            query={"comp": "blocklist", "blocklisttype": "uncommitted"},
        )
        try:
            reply = await self._container.send(ask)
        except NotFoundError:
            return []  # nothing was staged yet, and nothing joined
        root = xml.parse(reply.body)
        if root is None or xml.tag(root) != "BlockList":
            raise StorageError(f"{purpose}: expected a list of blocks, got something else", key=key)
        blocks = [
            block
            for listed in xml.children(root, "UncommittedBlocks")
            for block in xml.children(listed, "Block")
        ]
        found = [(number, size) for block in blocks for number, size in _numbered(block, mark, purpose)]
        return sorted(found)

    async def join(
        self, key: str, blocks: Sequence[str], *, size: int, condition: Condition | None, crc32c: int | None
    ) -> ObjectInfo:
        """Make the blob of these blocks, in this order; atomic, also under a condition.

        Any other block staged under the name is dropped.
        https://learn.microsoft.com/rest/api/storageservices/put-block-list

        Raises:
            AlreadyExistsError, ConditionFailedError: `condition` does not hold; nothing changed.
            NotFoundError: a block is not there.
        """
        purpose = replace(
            self._container.purpose("complete", key, Subject.UPLOAD),
            condition=condition,
        )
        root = ET.Element("BlockList")
        for block in blocks:
            ET.SubElement(root, "Uncommitted").text = block
        settings = self._container.settings
        reply = await self._container.send(
            Ask(
                purpose=purpose,
                method="PUT",
                name=self._container.base + key,
                query={"comp": "blocklist"},
                headers={
                    "x-ms-blob-content-type": "application/octet-stream",
                    **settings.making,
                    **settings.sealing,
                    **condition_headers(condition),
                    **metadata_headers(crc32c),
                },
                content=Content.of(ET.tostring(root, "utf-8", xml_declaration=True), "application/xml"),
                ok=_CREATED,
                timeout_secs=_LONG_SECS,
            )
        )
        return ObjectInfo(key=key, size=size, version=etag(reply.headers, purpose), crc32c=crc32c)

    async def drop(self, key: str) -> None:
        """Drop what is staged under a name where there is no blob; a blob is left as it is.

        "The client may call Delete Blob to delete uncommitted blobs"
        (https://learn.microsoft.com/rest/api/storageservices/delete-blob#remarks). Where a blob is
        there, it keeps what is staged over it until its next write, or for a week.
        A blob that appears meanwhile is spared by its time: it was modified after the date. The
        condition made for this, `If-None-Match: *`, is one that the service does not heed here
        (https://github.com/apache/opendal/issues/8176).
        """
        try:
            await self._blobs.head(key)
        except NotFoundError:
            await self._blobs.delete(key, condition={"if-unmodified-since": _BEFORE_AZURE})


def _numbered(block: ET.Element, mark: str, purpose: Purpose) -> list[tuple[int, int]]:
    """Return number and size of a block, if it has that mark."""
    try:
        match = _BLOCK.fullmatch(base64.b64decode(xml.required(block, "Name", purpose), validate=True))
        if match is None or match[1].decode() != mark:
            return []
        return [(int(match[2]), int(xml.required(block, "Size", purpose)))]
    except (binascii.Error, ValueError) as error:
        raise StorageError(
            f"{purpose}: the list of blocks is malformed ({error})", key=purpose.key
        ) from error
