"""Whole blobs: put, get, describe, list, delete.

https://learn.microsoft.com/rest/api/storageservices/operations-on-blobs
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import unquote
from xml.etree import ElementTree as ET

from crc32c import crc32c

from ackpt.backends.az.checksums import (
    CRC64_HEADER,
    METADATA,
    METADATA_HEADER,
    check_announced,
    decode_metadata,
    encode_crc64,
    metadata_headers,
)
from ackpt.backends.az.container import Ask, Container
from ackpt.backends.base import Body, Condition, IfAbsent, IfVersion, ObjectInfo
from ackpt.backends.http import xml
from ackpt.backends.http.message import Content, Reply
from ackpt.backends.http.purpose import Purpose, Subject
from ackpt.errors import NotFoundError, StorageError, UnsupportedError

PUT_HEADERS: Final = {"x-ms-blob-type": "BlockBlob"}


class Blobs:
    """Read and write the blobs of one container, by their keys."""

    def __init__(self, container: Container) -> None:
        self._container = container

    async def put(self, key: str, body: Body, condition: Condition | None) -> ObjectInfo:
        """Write a small blob, announced with its checksum, so that the store refuses damaged bytes.

        https://learn.microsoft.com/rest/api/storageservices/put-blob
        """
        data = await body.read()
        value = crc32c(data)
        await check_announced(body, value, "the object", key)
        abilities = self._container.abilities
        if abilities.confirms is not False:
            try:
                return await self._put(key, data, condition, value)
            except UnsupportedError:
                info = await self._put(key, data, condition, None)
                abilities.give_up()
                return info
        return await self._put(key, data, condition, None)

    async def put_empty(self, key: str) -> None:
        """Write a blob without bytes."""
        await self._put(key, b"", None, None)

    async def get(self, key: str, start: int, stop: int | None) -> AsyncGenerator[bytes, None]:
        """Iterate over the bytes `start` to `stop`.

        https://learn.microsoft.com/rest/api/storageservices/get-blob
        """
        if stop is not None and stop <= start:
            await self.head(key)
            return
        ask = self._ask("GET", key, self._container.purpose("get", key))
        if start or stop is not None:
            span = f"bytes={start}-{'' if stop is None else stop - 1}"
            # 416: the range begins behind the end, and so holds no bytes (RFC 9110, section 15.5.17).
            ask = replace(ask, headers={**ask.headers, "x-ms-range": span}, ok=frozenset({206, 416}))
        async with aclosing(self._container.stream(ask, empty=416)) as blocks:
            async for block in blocks:
                yield block

    async def head(self, key: str) -> ObjectInfo:
        """Describe the blob.

        https://learn.microsoft.com/rest/api/storageservices/get-blob-properties
        """
        purpose = self._container.purpose("head", key)
        reply = await self._container.send(self._ask("HEAD", key, purpose))
        return _described(key, reply, purpose)

    async def list(self, prefix: str) -> AsyncGenerator[ObjectInfo, None]:
        """Iterate over all blobs whose key begins with `prefix`, a page at a time.

        https://learn.microsoft.com/rest/api/storageservices/list-blobs
        """
        purpose = self._container.purpose("list", subject=Subject.BUCKET)
        base = self._container.base
        query = {"restype": "container", "comp": "list", "include": "metadata", "prefix": base + prefix}
        while True:
            reply = await self._container.send(Ask(purpose=purpose, method="GET", query=query))
            root = xml.parse(reply.body)
            if root is None or xml.tag(root) != "EnumerationResults":
                raise StorageError(f"{purpose}: expected a list of blobs, got something else")
            for blobs in xml.children(root, "Blobs"):
                for blob in xml.children(blobs, "Blob"):
                    key = _name(blob, purpose).removeprefix(base)
                    if key:  # the base itself can be a blob: a folder made by other tools
                        yield _listed(key, blob, purpose)
            marker = xml.text(root, "NextMarker")
            if not marker:
                return
            query["marker"] = marker

    async def delete(self, key: str, *, condition: Mapping[str, str] | None = None) -> None:
        """Delete the blob; absent is success, and so is one that `condition`, in headers, spares.

        https://learn.microsoft.com/rest/api/storageservices/delete-blob
        """
        ask = Ask(
            purpose=self._container.purpose("delete", key),
            method="DELETE",
            name=self._container.base + key,
            headers=condition or {},
            ok=frozenset({202} if condition is None else {202, 400, 409, 412}),
        )
        try:
            await self._container.send(ask)
        except NotFoundError:
            return

    async def _put(self, key: str, data: bytes, condition: Condition | None, value: int | None) -> ObjectInfo:
        """Put; `value` is the CRC-32C where the store is to compare checksums."""
        container = self._container
        # Kept only where the store is known to compare: it stays when a store did not even look.
        kept = value if container.abilities.confirms else None
        announced = {} if value is None else {CRC64_HEADER: encode_crc64(data)}
        purpose = replace(container.purpose("put", key, Subject.BUCKET), condition=condition)
        reply = await container.send(
            Ask(
                purpose=purpose,
                method="PUT",
                name=container.base + key,
                headers={
                    **PUT_HEADERS,
                    **container.settings.making,
                    **container.settings.sealing,
                    **condition_headers(condition),
                    **announced,
                    **metadata_headers(kept),
                },
                content=Content.of(data),
                ok=frozenset({201}),
            )
        )
        if value is not None:
            container.abilities.see(reply.headers)
        return ObjectInfo(key=key, size=len(data), version=etag(reply.headers, purpose), crc32c=kept)

    def _ask(self, method: str, key: str, purpose: Purpose) -> Ask:
        return Ask(
            purpose=purpose,
            method=method,
            name=self._container.base + key,
            headers=self._container.settings.key,
        )


def condition_headers(condition: Condition | None) -> dict[str, str]:
    """Return a condition as headers.

    https://learn.microsoft.com/rest/api/storageservices/specifying-conditional-headers-for-blob-service-operations
    """
    match condition:
        case IfAbsent():
            return {"if-none-match": "*"}
        case IfVersion(version):
            return {"if-match": quoted(version)}
    return {}


def quoted(version: str) -> str:
    """Write a version as an ETag (RFC 9110, section 8.8.3)."""
    return f'"{version}"'


def etag(headers: Mapping[str, str], purpose: Purpose) -> str:
    """Return the version that an answer tells.

    Raises:
        StorageError: it tells none.
    """
    found = headers.get("ETag", "").strip('"')
    if not found:
        raise StorageError(f"{purpose}: the answer has no ETag", key=purpose.key)
    return found


def _described(key: str, reply: Reply, purpose: Purpose) -> ObjectInfo:
    try:
        return ObjectInfo(
            key=key,
            size=int(reply.headers["Content-Length"]),
            version=etag(reply.headers, purpose),
            crc32c=decode_metadata(reply.headers.get(METADATA_HEADER)),
            modified=parsedate_to_datetime(reply.headers["Last-Modified"]),
        )
    except (KeyError, ValueError) as error:
        raise StorageError(f"{purpose}: the store's description is malformed ({error})", key=key) from error


def _name(blob: ET.Element, purpose: Purpose) -> str:
    """Return a blob's name; one that XML cannot hold comes percent-encoded, and says so."""
    name = xml.required(blob, "Name", purpose)
    encoded = any(element.get("Encoded") == "true" for element in xml.children(blob, "Name"))
    return unquote(name) if encoded else name


def _listed(key: str, blob: ET.Element, purpose: Purpose) -> ObjectInfo:
    properties = next(iter(xml.children(blob, "Properties")), blob)
    metadata = {
        xml.tag(item).lower(): item.text for element in xml.children(blob, "Metadata") for item in element
    }
    try:
        return ObjectInfo(
            key=key,
            size=int(xml.required(properties, "Content-Length", purpose)),
            version=xml.required(properties, "Etag", purpose).strip('"'),
            crc32c=decode_metadata(metadata.get(METADATA)),
            modified=parsedate_to_datetime(xml.required(properties, "Last-Modified", purpose)),
        )
    except ValueError as error:
        raise StorageError(f"{purpose}: the description of {key} is malformed ({error})", key=key) from error
