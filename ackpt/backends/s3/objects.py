"""Whole objects: put, get, describe, list, delete.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import unquote_plus
from xml.etree import ElementTree as ET

from ackpt.backends.base import Body, Condition, IfAbsent, IfVersion, ObjectInfo
from ackpt.backends.http import xml
from ackpt.backends.http.crc32c import compare, encode
from ackpt.backends.http.message import Content, Reply
from ackpt.backends.http.purpose import Purpose, Subject
from ackpt.backends.s3.bucket import Ask, Bucket
from ackpt.backends.s3.checksums import CRC32C_HEADER, from_headers
from ackpt.backends.s3.documents import expected
from ackpt.backends.s3.signature import CONTENT_HEADER, UNSIGNED
from ackpt.errors import NotFoundError, PermissionDeniedError, StorageError, UnsupportedError
from ackpt.options import MiB

_ETAG: Final = re.compile(r"[\x21\x23-\x7e]+")

_SMALL_BYTES: Final = 1 * MiB
"""Up to here a body is held in memory: a request's own cost exceeds that of its bytes."""


class Objects:
    """Read and write the objects of one bucket, by their keys."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._bucket_seen = False

    async def put(self, key: str, body: Body, condition: Condition | None) -> ObjectInfo:
        """Write an object with its checksum, so that the store refuses damaged bytes.

        The checksum is in a header, which costs a large body a pass of its own: a store that does
        not know the header leaves it out of account, while one that does not know trailers would
        take them, and their framing, for the object's bytes.
        https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html
        """
        abilities = self._bucket.abilities
        if abilities.checksums:
            try:
                return await self._put(key, body, condition, checksum=True)
            except UnsupportedError:
                info = await self._put(key, body, condition, checksum=False)
                abilities.give_up_checksums()
                return info
        return await self._put(key, body, condition, checksum=False)

    async def get(self, key: str, start: int, stop: int | None) -> AsyncGenerator[bytes, None]:
        """Iterate over the bytes `start` to `stop`.

        https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
        """
        if stop is not None and stop <= start:
            await self.head(key)
            return
        ask = self._ask("GET", key, self._bucket.purpose("get", key))
        if start or stop is not None:
            span = f"bytes={start}-{'' if stop is None else stop - 1}"
            # 416: the range begins behind the end, and so holds no bytes (RFC 9110, section 15.5.17).
            ask = replace(ask, headers={**ask.headers, "range": span}, ok=frozenset({206, 416}))
        async with aclosing(self._bucket.stream(ask, empty=416)) as blocks:
            async for block in blocks:
                yield block

    async def head(self, key: str) -> ObjectInfo:
        """Describe the object.

        https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html
        """
        purpose = self._bucket.purpose("head", key)
        ask = self._ask("HEAD", key, purpose, {"x-amz-checksum-mode": "ENABLED"})
        try:
            reply = await self._bucket.send(ask)
        except NotFoundError:
            if not self._bucket_seen:
                await self._explain(key)
            raise
        except PermissionDeniedError:
            await self._explain(key)
            raise
        except StorageError as error:
            # Without a document there is no telling expired keys from a malformed request.
            if type(error) is not StorageError:
                raise
            await self._explain(key)
            reply = await self._bucket.send(ask)
        self._bucket_seen = True
        return _described(key, reply, purpose)

    async def list(self, prefix: str) -> AsyncGenerator[ObjectInfo, None]:
        """Iterate over all objects whose key begins with `prefix`, a page at a time.

        https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
        """
        purpose = self._bucket.purpose("list", subject=Subject.BUCKET)
        # Encoded: XML cannot hold every character that a key can.
        query = {"list-type": "2", "encoding-type": "url", "prefix": self._bucket.base + prefix}
        while True:
            reply = await self._bucket.send(Ask(purpose=purpose, method="GET", query=query))
            root = expected(reply, "ListBucketResult", purpose)
            self._bucket_seen = True
            encoded = xml.text(root, "EncodingType") == "url"
            for item in xml.children(root, "Contents"):
                name = xml.required(item, "Key", purpose)
                key = (unquote_plus(name) if encoded else name).removeprefix(self._bucket.base)
                if key:  # the base itself can be an object: a folder made by other tools
                    yield _listed(key, item, purpose)
            if xml.text(root, "IsTruncated") != "true":
                return
            query["continuation-token"] = xml.required(root, "NextContinuationToken", purpose)

    async def delete(self, key: str) -> None:
        """Delete the object; absent is success.

        In a bucket with versions it is hidden, and a lifecycle rule makes it go
        (https://docs.aws.amazon.com/AmazonS3/latest/userguide/DeletingObjectVersions.html).
        """
        ask = Ask(
            purpose=self._bucket.purpose("delete", key),
            method="DELETE",
            name=self._bucket.base + key,
            ok=frozenset({200, 204}),
        )
        try:
            await self._bucket.send(ask)
        except NotFoundError:
            return  # some stores answer so; Amazon does not

    async def _put(self, key: str, body: Body, condition: Condition | None, *, checksum: bool) -> ObjectInfo:
        # First: the checksum is free after it.
        pieces = await body.hold() if body.size <= _SMALL_BYTES else None
        crc = await body.crc32c() if checksum else None
        purpose = replace(self._bucket.purpose("put", key, Subject.BUCKET), condition=condition)
        reply = await self._bucket.send(
            Ask(
                purpose=purpose,
                method="PUT",
                name=self._bucket.base + key,
                headers={
                    **self._bucket.settings.writing,
                    **self._bucket.settings.key,
                    **condition_headers(condition),
                    **({} if crc is None else {CRC32C_HEADER: encode(crc)}),
                    CONTENT_HEADER: UNSIGNED,
                },
                content=content_of(body) if pieces is None else Content.held(pieces),
            )
        )
        self._bucket_seen = True
        stored = from_headers(reply.headers)
        if crc is not None:
            compare("the object", sent=crc, stored=stored, key=key)
        return ObjectInfo(key=key, size=body.size, version=_etag(reply.headers, purpose), crc32c=stored)

    async def _explain(self, key: str) -> None:
        """Ask again in a way that is answered in words: a HEAD has none.

        Raises the error that the words tell. Keys that have expired are renewed on the way.
        """
        purpose = self._bucket.purpose("head", key)
        ask = self._ask("GET", key, purpose, {"range": "bytes=0-0"})
        await self._bucket.send(replace(ask, ok=frozenset({200, 206, 416})))

    def _ask(self, method: str, key: str, purpose: Purpose, headers: Mapping[str, str] | None = None) -> Ask:
        return Ask(
            purpose=purpose,
            method=method,
            name=self._bucket.base + key,
            headers={**(headers or {}), **self._bucket.settings.key},
        )


def condition_headers(condition: Condition | None) -> dict[str, str]:
    """Return a condition as headers: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html."""
    match condition:
        case IfAbsent():
            return {"if-none-match": "*"}
        case IfVersion(version):
            return {"if-match": quoted(version)}
    return {}


def content_of(body: Body) -> Content:
    """Make a streamed request body of an object's or a part's."""
    return Content(blocks=body.__aiter__, size=body.size)


def is_etag(version: str) -> bool:
    """Tell whether a version can be an ETag's at all (RFC 9110, section 8.8.3)."""
    return _ETAG.fullmatch(version) is not None


def quoted(etag: str) -> str:
    """Write a version as an ETag (RFC 9110, section 8.8.3)."""
    return f'"{etag}"'


def _described(key: str, reply: Reply, purpose: Purpose) -> ObjectInfo:
    modified = reply.headers.get("Last-Modified")
    try:
        return ObjectInfo(
            key=key,
            size=int(reply.headers["Content-Length"]),
            version=_etag(reply.headers, purpose),
            crc32c=from_headers(reply.headers),
            modified=None if modified is None else parsedate_to_datetime(modified).replace(tzinfo=UTC),
        )
    except (KeyError, ValueError) as error:
        raise StorageError(f"{purpose}: the store's description is malformed ({error})", key=key) from error


def _listed(key: str, item: ET.Element, purpose: Purpose) -> ObjectInfo:
    try:
        return ObjectInfo(
            key=key,
            size=int(xml.required(item, "Size", purpose)),
            version=xml.required(item, "ETag", purpose).strip('"'),
            modified=datetime.fromisoformat(xml.required(item, "LastModified", purpose)),
        )
    except ValueError as error:
        raise StorageError(f"{purpose}: the description of {key} is malformed ({error})", key=key) from error


def _etag(headers: Mapping[str, str], purpose: Purpose) -> str:
    etag = headers.get("ETag", "").strip('"')
    if not etag:
        raise StorageError(f"{purpose}: the answer has no ETag", key=purpose.key)
    return etag
