"""Requests of multipart uploads, and their documents; no policy.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from urllib.parse import unquote_plus
from xml.etree import ElementTree as ET

from ackpt.backends.base import Condition, ObjectInfo, PartReceipt
from ackpt.backends.http import xml
from ackpt.backends.http.crc32c import encode
from ackpt.backends.http.message import Content
from ackpt.backends.http.purpose import Purpose, Subject
from ackpt.backends.s3.bucket import Ask, Bucket
from ackpt.backends.s3.checksums import (
    ALGORITHM_HEADER,
    FULL_OBJECT,
    TYPE_HEADER,
    from_document,
    from_headers,
)
from ackpt.backends.s3.documents import expected
from ackpt.backends.s3.objects import condition_headers, quoted
from ackpt.errors import StorageError

_LONG_SECS: Final = 600.0
"""The time for the answer to begin where the store has much to do; a completion "could take several
minutes" (https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html).
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadKind:
    """Say what a store keeps of an upload's checksums: of every part (`parts`), and of the whole."""

    parts: bool
    whole: bool

    @classmethod
    def of(cls, algorithm: str | None, kind: str | None) -> UploadKind:
        """Read the store's own words for it."""
        parts = algorithm == "CRC32C"
        return cls(parts=parts, whole=parts and kind == FULL_OBJECT)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedUpload:
    """Describe one unfinished upload of the bucket."""

    key: str
    upload_id: str
    created: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CopySource:
    """Say what a part is copied from: bytes `start` to `stop` of `key`, or all where they are not given."""

    key: str
    headers: Mapping[str, str]
    start: int | None = None
    stop: int | None = None


class UploadApi:
    """Send the requests of multipart uploads in one bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    async def create(self, key: str, checksums: str | None) -> tuple[str, UploadKind]:
        """Begin an upload; return its id, and which checksums the store says it keeps.

        `checksums` is the type to ask for, None for none; "composite" is what a store makes of an
        algorithm without a type.

        https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateMultipartUpload.html
        """
        purpose = self._bucket.purpose("begin an upload of", key, Subject.BUCKET)
        asked = {"content-type": "application/octet-stream"}
        if checksums is not None:
            asked[ALGORITHM_HEADER] = "CRC32C"
        if checksums == FULL_OBJECT:
            asked[TYPE_HEADER] = FULL_OBJECT
        settings = self._bucket.settings
        reply = await self._bucket.send(
            Ask(
                purpose=purpose,
                method="POST",
                name=self._bucket.base + key,
                query={"uploads": ""},
                headers={**settings.writing, **settings.key, **asked},
            )
        )
        root = expected(reply, "InitiateMultipartUploadResult", purpose)
        kind = UploadKind.of(reply.headers.get(ALGORITHM_HEADER), reply.headers.get(TYPE_HEADER))
        return xml.required(root, "UploadId", purpose), kind

    async def put_part(
        self, key: str, upload_id: str, number: int, content: Content, size: int, headers: Mapping[str, str]
    ) -> PartReceipt:
        """Send a part; the receipt's checksum is what the store says it got.

        https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPart.html
        """
        purpose = self._purpose(f"put part {number} of", key)
        reply = await self._bucket.send(
            replace(
                self._ask("PUT", key, upload_id, purpose, partNumber=str(number)),
                headers={**self._bucket.settings.key, **headers},
                content=content,
            )
        )
        etag = reply.headers.get("ETag", "").strip('"')
        if not etag:
            raise StorageError(f"{purpose}: the answer has no ETag", key=key)
        return PartReceipt(number=number, size=size, token=etag, crc32c=from_headers(reply.headers))

    async def copy_part(
        self, key: str, upload_id: str, number: int, source: CopySource, size: int
    ) -> PartReceipt:
        """Make a part of an object's bytes.

        https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPartCopy.html
        """
        purpose = self._bucket.purpose(f"copy part {number} of {key} from", source.key)
        span = {}
        if source.start is not None and source.stop is not None:
            span = {"x-amz-copy-source-range": f"bytes={source.start}-{source.stop - 1}"}
        reply = await self._bucket.send(
            replace(
                self._ask("PUT", key, upload_id, purpose, partNumber=str(number)),
                headers={**source.headers, **span, **self._bucket.settings.key},
                timeout_secs=_LONG_SECS,
            )
        )
        root = expected(reply, "CopyPartResult", purpose)
        etag = xml.required(root, "ETag", purpose).strip('"')
        return PartReceipt(number=number, size=size, token=etag, crc32c=from_document(root))

    async def list_parts(self, key: str, upload_id: str) -> tuple[list[PartReceipt], UploadKind]:
        """Return all parts, by number, and which checksums the store keeps.

        https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListParts.html
        """
        purpose = self._purpose("list the parts of", key)
        receipts: list[PartReceipt] = []
        marker: dict[str, str] = {}
        while True:
            ask = self._ask("GET", key, upload_id, purpose, **marker)
            reply = await self._bucket.send(replace(ask, headers=self._bucket.settings.key))
            root = expected(reply, "ListPartsResult", purpose)
            receipts += [_receipt(part, purpose) for part in xml.children(root, "Part")]
            if xml.text(root, "IsTruncated") != "true":
                kind = UploadKind.of(xml.text(root, "ChecksumAlgorithm"), xml.text(root, "ChecksumType"))
                return receipts, kind
            marker = {"part-number-marker": xml.required(root, "NextPartNumberMarker", purpose)}

    async def complete(
        self,
        key: str,
        upload_id: str,
        receipts: Sequence[PartReceipt],
        condition: Condition | None,
        kind: UploadKind,
    ) -> ObjectInfo:
        """Make the object of these parts, in order of their numbers; the store compares the size.

        https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html
        """
        purpose = replace(self._purpose("complete", key), condition=condition)
        size = sum(receipt.size for receipt in receipts)
        headers = {"x-amz-mp-object-size": str(size), **condition_headers(condition)}
        if kind.whole:
            headers[TYPE_HEADER] = FULL_OBJECT
        reply = await self._bucket.send(
            replace(
                self._ask("POST", key, upload_id, purpose),
                headers={**self._bucket.settings.key, **headers},
                content=Content.of(_completion(receipts, kind), "application/xml"),
                timeout_secs=_LONG_SECS,
            )
        )
        root = expected(reply, "CompleteMultipartUploadResult", purpose)
        etag = xml.required(root, "ETag", purpose).strip('"')
        return ObjectInfo(key=key, size=size, version=etag, crc32c=from_document(root))

    async def abort(self, key: str, upload_id: str) -> None:
        """Drop an upload and its parts.

        https://docs.aws.amazon.com/AmazonS3/latest/API/API_AbortMultipartUpload.html

        Raises:
            NotFoundError: it was completed or aborted.
        """
        ask = self._ask("DELETE", key, upload_id, self._purpose("abort", key))
        await self._bucket.send(replace(ask, ok=frozenset({200, 204})))

    async def list_uploads(self, prefix: str) -> AsyncGenerator[ListedUpload, None]:
        """Iterate over the unfinished uploads to keys that begin with `prefix`.

        https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListMultipartUploads.html
        """
        purpose = self._bucket.purpose("list the uploads of", subject=Subject.BUCKET)
        base = self._bucket.base
        query = {"uploads": "", "encoding-type": "url", "prefix": base + prefix}
        while True:
            reply = await self._bucket.send(Ask(purpose=purpose, method="GET", query=query))
            root = expected(reply, "ListMultipartUploadsResult", purpose)
            encoded = xml.text(root, "EncodingType") == "url"
            for upload in xml.children(root, "Upload"):
                name, initiated = xml.required(upload, "Key", purpose), xml.text(upload, "Initiated")
                yield ListedUpload(
                    key=(unquote_plus(name) if encoded else name).removeprefix(base),
                    upload_id=xml.required(upload, "UploadId", purpose),
                    created=datetime.fromisoformat(initiated) if initiated else None,
                )
            if xml.text(root, "IsTruncated") != "true":
                return
            marker = xml.required(root, "NextKeyMarker", purpose)
            query["key-marker"] = unquote_plus(marker) if encoded else marker
            query["upload-id-marker"] = xml.text(root, "NextUploadIdMarker") or ""

    def _purpose(self, action: str, key: str) -> Purpose:
        return self._bucket.purpose(action, key, Subject.UPLOAD)

    def _ask(self, method: str, key: str, upload_id: str, purpose: Purpose, **query: str) -> Ask:
        name = self._bucket.base + key
        return Ask(purpose=purpose, method=method, name=name, query={**query, "uploadId": upload_id})


def _receipt(part: ET.Element, purpose: Purpose) -> PartReceipt:
    return PartReceipt(
        number=int(xml.required(part, "PartNumber", purpose)),
        size=int(xml.required(part, "Size", purpose)),
        token=xml.required(part, "ETag", purpose).strip('"'),
        crc32c=from_document(part),
    )


def _completion(receipts: Sequence[PartReceipt], kind: UploadKind) -> bytes:
    """Write the list of parts, each with its checksum where the store keeps those."""
    root = ET.Element("CompleteMultipartUpload", xmlns="http://s3.amazonaws.com/doc/2006-03-01/")
    for receipt in sorted(receipts, key=lambda receipt: receipt.number):
        part = ET.SubElement(root, "Part")
        if kind.parts and receipt.crc32c is not None:
            ET.SubElement(part, "ChecksumCRC32C").text = encode(receipt.crc32c)
        ET.SubElement(part, "ETag").text = quoted(receipt.token)
        ET.SubElement(part, "PartNumber").text = str(receipt.number)
    return ET.tostring(root)
