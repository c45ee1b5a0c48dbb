"""Single-request uploads of the JSON API: the bare bytes, or metadata and bytes together.

https://cloud.google.com/storage/docs/uploads-downloads
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from aiohttp import web

from tests.servers.gcs.blobs import Blob, BlobFolder
from tests.servers.gcs.catalog import Catalog, Preconditions, check_name
from tests.servers.gcs.exchange import Exchange, Hashes, customer_key, given_hashes
from tests.servers.gcs.json_api import parse_object
from tests.servers.gcs.problems import Problem, invalid
from tests.servers.gcs.resources import ACLS, answer, resource, store, writable

_HEAD_LIMIT = 1 << 20
_BOUNDARY = re.compile(r'multipart/related\s*;.*boundary="?([^";]+)"?', re.IGNORECASE)


class JsonUploads:
    """Answer `POST /upload/storage/v1/b/<bucket>/o`.

    https://cloud.google.com/storage/docs/json_api/v1/objects/insert
    """

    def __init__(self, catalog: Catalog, blobs: BlobFolder) -> None:
        self._catalog = catalog
        self._blobs = blobs

    async def media(self, exchange: Exchange) -> web.StreamResponse:
        """Take the bytes as they are; everything else is in the query and the headers."""
        exchange.length()
        return await self._insert(exchange, exchange.body(), {}, given_hashes(exchange.headers))

    async def multipart(self, exchange: Exchange) -> web.StreamResponse:
        """Take a `multipart/related` body: the metadata as JSON, then the bytes.

        https://cloud.google.com/storage/docs/uploading-objects (REST, multipart upload).
        """
        exchange.length()
        match = _BOUNDARY.match(exchange.headers.get("Content-Type", ""))
        if match is None:
            raise invalid("Content-Type: expected multipart/related with a boundary")
        boundary = match.group(1).encode()
        body = exchange.body()
        fields, first = await _read_head(body, boundary)
        given = given_hashes(exchange.headers)
        # A checksum in the metadata is checked as well: …/json_api/v1/objects#crc32c
        for name, value in (("crc32c", fields.get("crc32c")), ("md5", fields.get("md5Hash"))):
            if value is not None:
                if getattr(given, name) not in (None, value):
                    raise invalid(f"two different values of {name} were given")
                given = replace(given, **{name: value})
        return await self._insert(exchange, _without_tail(first, body, boundary), fields, given)

    async def _insert(
        self, exchange: Exchange, data: AsyncIterator[bytes], fields: dict[str, Any], given: Hashes
    ) -> web.StreamResponse:
        check_target(self._catalog, exchange, fields)
        conditions = Preconditions.of(exchange.query)
        key = customer_key(exchange.headers)
        blob_id = self._blobs.new()
        try:
            with self._blobs.writer(blob_id) as file:
                async for piece in data:
                    file.write(piece)
            stored = await store(
                self._catalog,
                self._blobs,
                bucket=exchange.bucket,
                name=exchange.name,
                parts=(Blob(id=blob_id, size=self._blobs.size(blob_id)),),
                given=given,
                conditions=conditions,
                metadata=object_metadata(exchange, fields),
                key_sha256=key,
            )
        except BaseException:
            self._blobs.discard([blob_id])
            raise
        return answer(resource(stored, key_sha256=key))


def check_target(catalog: Catalog, exchange: Exchange, fields: dict[str, Any]) -> None:
    """Settle the name of the object to come, and check what can be checked before its bytes.

    Raises:
        Problem: 404 for the bucket, 400 for the name or an option, 412 for a precondition.
    """
    catalog.bucket(exchange.bucket)
    names = {fields.get("name"), exchange.query.get("name")} - {None}
    if len(names) != 1:
        raise Problem(400, "InvalidArgument", "required", "Required: exactly one object name")
    exchange.name = str(names.pop())
    check_name(exchange.name)
    acl = exchange.query.get("predefinedAcl", "private")
    if acl not in ACLS:
        raise invalid(f"Invalid predefinedAcl: {acl!r}")
    if "kmsKeyName" in exchange.query and customer_key(exchange.headers) is not None:
        raise invalid("a Cloud KMS key and a customer-supplied key exclude each other")
    Preconditions.of(exchange.query).check(catalog.generation(exchange.bucket, exchange.name))


def object_metadata(exchange: Exchange, fields: dict[str, Any]) -> dict[str, Any]:
    """Return what is kept of an insert's metadata, its query included."""
    metadata = writable(fields)
    if "kmsKeyName" in exchange.query:
        metadata["kmsKeyName"] = exchange.query["kmsKeyName"]
    if "predefinedAcl" in exchange.query:
        metadata["acl"] = exchange.query["predefinedAcl"]
    return metadata


async def _read_head(body: AsyncIterator[bytes], boundary: bytes) -> tuple[dict[str, Any], bytes]:
    """Read up to where the bytes begin; return the metadata, and what came of the bytes already."""
    head = b""
    opening = b"--" + boundary + b"\r\n"
    async for piece in body:
        head += piece
        sections = head.split(b"\r\n--" + boundary + b"\r\n", 1)
        if len(sections) == 2 and b"\r\n\r\n" in sections[1]:
            if not sections[0].startswith(opening) or b"\r\n\r\n" not in sections[0]:
                break
            document = sections[0].split(b"\r\n\r\n", 1)[1]
            return parse_object(document), sections[1].split(b"\r\n\r\n", 1)[1]
        if len(head) > _HEAD_LIMIT:
            break
    raise invalid("the multipart body is malformed")


async def _without_tail(first: bytes, body: AsyncIterator[bytes], boundary: bytes) -> AsyncIterator[bytes]:
    """Pass the bytes on, but for the closing boundary, which has to be there."""
    closing = b"\r\n--" + boundary + b"--"
    keep = len(closing) + 2
    held = first
    async for piece in body:
        held += piece
        if len(held) > keep:
            yield held[:-keep]
            held = held[-keep:]
    data, separator, after = held.rpartition(closing)
    if not separator or after not in (b"", b"\r\n"):
        raise invalid("the multipart body is malformed: no closing boundary")
    yield data
