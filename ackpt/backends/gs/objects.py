"""Whole objects by the JSON API: put, get, describe, list, move, delete.

https://cloud.google.com/storage/docs/json_api/v1/objects
"""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from yarl import URL

from ackpt.backends.base import Body, Condition, IfAbsent, IfVersion, ObjectInfo
from ackpt.backends.gs.checksum import HASH_HEADER, check_object
from ackpt.backends.gs.endpoint import Endpoint
from ackpt.backends.gs.errors import condition_failed
from ackpt.backends.gs.json_object import json_object, read_page, read_resource
from ackpt.backends.http.crc32c import encode
from ackpt.backends.http.message import Content, Request
from ackpt.backends.http.purpose import Purpose, Subject
from ackpt.backends.http.session import Session
from ackpt.errors import BucketNotFoundError, NotFoundError, StorageError
from ackpt.options import MiB

FIELDS: Final = "name,generation,size,crc32c,updated"
"""What is asked of an object's resource."""

_SMALL_BYTES: Final = 1 * MiB
"""Up to here a body is held in memory: a request's own cost exceeds that of its bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectSettings:
    """Say how objects are written: the parameters, fields and headers of an insert.

    `key_headers` (a customer-supplied key) go with every request for bytes or checksums.
    """

    storage_class: str | None = None
    predefined_acl: str | None = None
    kms_key: str | None = None
    key_headers: Mapping[str, str]

    def query(self) -> dict[str, str]:
        """Return the parameters of https://cloud.google.com/storage/docs/json_api/v1/objects/insert."""
        given = {"predefinedAcl": self.predefined_acl, "kmsKeyName": self.kms_key}
        return {name: value for name, value in given.items() if value is not None}

    def copy_query(self) -> dict[str, str]:
        """Return the parameters of https://cloud.google.com/storage/docs/json_api/v1/objects/rewrite."""
        given = {"destinationPredefinedAcl": self.predefined_acl, "destinationKmsKeyName": self.kms_key}
        return {name: value for name, value in given.items() if value is not None}

    def resource(self) -> dict[str, str]:
        """Return the fields of the object's resource."""
        fields = {"contentType": "application/octet-stream"}
        return fields if self.storage_class is None else {**fields, "storageClass": self.storage_class}


class Objects:
    """Read and write the objects of one bucket whose names begin with `base`.

    Keys are names without `base`; errors tell keys.
    """

    def __init__(self, session: Session, endpoint: Endpoint, base: str, settings: ObjectSettings) -> None:
        self._session = session
        self._endpoint = endpoint
        self._base = base
        self._settings = settings
        self._bucket_seen = False
        self._insert_urls: dict[type, URL] = {}
        self._listing = Purpose(action="list", bucket=endpoint.bucket, subject=Subject.BUCKET)

    async def put(self, key: str, body: Body, condition: Condition | None) -> ObjectInfo:
        """Insert an object with its checksum, so that the store refuses damaged bytes.

        The upload is a `multipart` one: the metadata, which holds the checksum, and the bytes
        (https://cloud.google.com/storage/docs/uploading-objects#rest-upload-objects). The checksum
        goes into the header as well, as Google's clients send it.
        """
        # First: the checksum is free after it.
        pieces = await body.hold() if body.size <= _SMALL_BYTES else None
        crc = await body.crc32c()
        resource = {"name": self._base + key, "crc32c": encode(crc), **self._settings.resource()}
        reply = await self._session.send(
            Request(
                method="POST",
                url=self._insert_url(condition, key),
                headers={HASH_HEADER: f"crc32c={encode(crc)}", **self._settings.key_headers},
                purpose=self._purpose("put", key, Subject.BUCKET, condition),
                content=related(resource, body, pieces),
            )
        )
        self._bucket_seen = True
        info = self.info(key, json_object(reply, self._purpose("put", key)))
        await self.check(info, size=body.size, crc32c=crc)
        return info

    async def get(self, key: str, start: int, stop: int | None) -> AsyncGenerator[bytes, None]:
        """Iterate over the bytes `start` to `stop`, as they are stored.

        `Accept-Encoding: gzip` keeps the store from decompressing
        (https://cloud.google.com/storage/docs/transcoding#gzip-gzip).
        """
        if stop is not None and stop <= start:
            await self.head(key)
            return
        headers = {"Accept-Encoding": "gzip", **self._settings.key_headers}
        ok = frozenset({200})
        if start or stop is not None:
            headers["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
            # 416: the range begins behind the end, and so holds no bytes (RFC 9110, section 15.5.17).
            # 200 would be other bytes than were asked for: of a server that takes no ranges.
            ok = frozenset({206, 416})
        request = Request(
            method="GET",
            url=self._endpoint.object(self._base + key, alt="media"),
            headers=headers,
            purpose=self._purpose("get", key),
            ok=ok,
        )
        try:
            async with aclosing(self._session.stream(request, empty=416)) as blocks:
                async for block in blocks:
                    yield block
        except NotFoundError:
            await self.check_bucket(key)
            raise

    async def head(self, key: str) -> ObjectInfo:
        """Describe the live object."""
        purpose = self._purpose("head", key)
        try:
            reply = await self._session.send(
                Request(
                    method="GET",
                    url=self._endpoint.object(self._base + key, fields=FIELDS),
                    headers=self._settings.key_headers,
                    purpose=purpose,
                )
            )
        except NotFoundError:
            await self.check_bucket(key)
            raise
        self._bucket_seen = True
        return self.info(key, json_object(reply, purpose))

    async def list(self, prefix: str) -> AsyncGenerator[ObjectInfo, None]:
        """Iterate over all objects whose key begins with `prefix`, a page at a time."""
        token = ""
        while True:
            page = await self._page(prefix, token)
            for info in read_page(page, self._listing):
                key = info.key.removeprefix(self._base)
                if key:  # the base itself can be an object: a folder made by other tools
                    yield replace(info, key=key)
            token = str(page.get("nextPageToken", ""))
            if not token:
                return

    async def delete(self, key: str, *, version: str | None = None) -> None:
        """Delete the live object, or only if it is `version`; absent, or another, is success."""
        condition = {} if version is None else {"ifGenerationMatch": version}
        try:
            reply = await self._session.send(
                Request(
                    method="DELETE",
                    url=self._endpoint.object(self._base + key, **condition),
                    purpose=self._purpose("delete", key),
                    ok=frozenset({200, 204} | ({412} if condition else set())),
                )
            )
        except NotFoundError:
            await self.check_bucket(key)
        else:
            self._bucket_seen = self._bucket_seen or reply.status < 300

    async def move(self, source: ObjectInfo, key: str, condition: Condition | None) -> ObjectInfo:
        """Rename an object of ours, atomically, over what `condition` allows.

        No bytes are copied, no soft-deleted copy is kept and no early deletion is billed:
        https://cloud.google.com/storage/docs/json_api/v1/objects/move

        Raises:
            AlreadyExistsError, ConditionFailedError: `condition` does not hold; both are as they were.
            NotFoundError: the source is not there.
        """
        purpose = self._purpose("complete", key, condition=condition)
        reply = await self._session.send(
            Request(
                method="POST",
                url=self._endpoint.move(
                    self._base + source.key,
                    self._base + key,
                    ifSourceGenerationMatch=source.version,
                    fields=FIELDS,
                    **condition_query(condition, key),
                ),
                headers=self._settings.key_headers,
                purpose=purpose,
            )
        )
        return self.info(key, json_object(reply, purpose))

    async def check(self, info: ObjectInfo, *, size: int, crc32c: int | None) -> None:
        """Compare a new object with what was sent; one that differs is deleted, if it is still that one.

        Raises:
            ChecksumMismatchError: it differs.
            StorageError: it has another size.
        """
        discard = partial(self.delete, info.key, version=info.version)
        await check_object(info, size=size, crc32c=crc32c, discard=discard)

    def info(self, key: str, fields: Mapping[str, object]) -> ObjectInfo:
        """Read an object's resource; raises as `read_resource`."""
        return read_resource(key, fields)

    async def _page(self, prefix: str, token: str) -> dict[str, object]:
        query = {"prefix": self._base + prefix, "fields": f"items({FIELDS}),nextPageToken"}
        if token:
            query["pageToken"] = token
        url = self._endpoint.objects(**query)
        reply = await self._session.send(Request(method="GET", url=url, purpose=self._listing))
        self._bucket_seen = True
        return json_object(reply, self._listing)

    async def check_bucket(self, key: str) -> None:
        """Find out, once, whether an absent object is one in an absent bucket: the answers look alike.

        Raises:
            BucketNotFoundError: there is no bucket.
        """
        if self._bucket_seen:
            return
        purpose = self._purpose("look for", key, Subject.BUCKET)
        url = self._endpoint.objects(prefix=self._base + key, maxResults="1", fields="nextPageToken")
        try:
            await self._session.send(Request(method="GET", url=url, purpose=purpose))
        except BucketNotFoundError:
            raise
        except StorageError:
            # Not allowed to list, say: then the bucket may be there, and the first answer stands.
            return
        self._bucket_seen = True

    def _insert_url(self, condition: Condition | None, key: str) -> URL:
        """Return where objects are inserted; kept where the URL is the same for all of them."""
        url = self._insert_urls.get(type(condition))
        if url is None:
            query = {**self._settings.query(), **condition_query(condition, key)}
            url = self._endpoint.upload(uploadType="multipart", fields=FIELDS, **query)
            if not isinstance(condition, IfVersion):
                self._insert_urls[type(condition)] = url
        return url

    def _purpose(
        self,
        action: str,
        key: str,
        subject: Subject = Subject.OBJECT,
        condition: Condition | None = None,
    ) -> Purpose:
        return Purpose(
            action=action, bucket=self._endpoint.bucket, key=key, subject=subject, condition=condition
        )


def condition_query(condition: Condition | None, key: str) -> dict[str, str]:
    """Return a condition as a parameter: https://cloud.google.com/storage/docs/request-preconditions.

    Raises:
        ConditionFailedError: the version is no generation, so no object has it.
    """
    match condition:
        case IfAbsent():
            return {"ifGenerationMatch": "0"}
        case IfVersion(version):
            if not version.isascii() or not version.isdigit() or int(version) == 0:
                raise condition_failed(condition, key, found="another one")
            return {"ifGenerationMatch": version}
    return {}


def related(resource: Mapping[str, str], body: Body, pieces: Sequence[bytes | memoryview] | None) -> Content:
    """Put metadata and bytes (`pieces`, if in memory) into one `multipart/related` body (RFC 2387).

    The boundary is random: bytes that hold it would end the body early.
    """
    boundary = f"ackpt-{secrets.token_hex(16)}"
    head = (
        f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n"
        f"{json.dumps(dict(resource))}\r\n"
        f"--{boundary}\r\nContent-Type: application/octet-stream\r\n\r\n"
    ).encode()
    tail = f"\r\n--{boundary}--".encode()
    kind = f"multipart/related; boundary={boundary}"
    if pieces is not None:
        return Content.held((head, *pieces, tail), kind)

    async def blocks() -> AsyncGenerator[bytes | memoryview, None]:
        yield head
        async with aclosing(body.__aiter__()) as blocks:
            async for block in blocks:
                yield block
        yield tail

    return Content(blocks=blocks, size=len(head) + body.size + len(tail), kind=kind)
