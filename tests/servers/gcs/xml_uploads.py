"""Multipart uploads of the XML API: parts in any order, put together by a last request.

https://cloud.google.com/storage/docs/multipart-uploads
"""

from __future__ import annotations

import asyncio
import uuid
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.servers.gcs.blobs import Blob, BlobFolder
from tests.servers.gcs.catalog import Catalog, Preconditions, check_name
from tests.servers.gcs.exchange import Exchange, Hashes, customer_key, given_hashes
from tests.servers.gcs.problems import (
    Problem,
    crc_mismatch,
    invalid,
    length_required,
    md5_mismatch,
    no_upload,
)
from tests.servers.gcs.records import Records
from tests.servers.gcs.resources import STORAGE_CLASSES, store
from tests.servers.gcs.xml_documents import (
    complete_result,
    initiate_result,
    list_parts_result,
    list_uploads_result,
    read_complete,
)

MIN_PART = 5 << 20
MAX_PART = 5 << 30
MAX_PARTS = 10_000
"""https://cloud.google.com/storage/quotas#requests"""

_PAGE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Hold one part as it was put last."""

    number: int
    etag: str
    blob: Blob
    crc32c: str
    modified: str


@dataclass(slots=True, kw_only=True)
class MultipartUpload:
    """Hold one upload that is neither completed nor aborted."""

    id: str
    bucket: str
    name: str
    initiated: str
    metadata: dict[str, Any]
    key_sha256: str | None
    parts: dict[int, Part] = field(default_factory=dict)


class XmlUploads:
    """Answer the XML API's multipart requests."""

    def __init__(self, folder: Path, catalog: Catalog, blobs: BlobFolder) -> None:
        self._catalog = catalog
        self._blobs = blobs
        self._records = Records(folder / "multipart")
        self._uploads: dict[str, MultipartUpload] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        for record in self._records:
            parts = [Part(**{**each, "blob": Blob(**each["blob"])}) for each in record["parts"].values()]
            record["parts"] = {part.number: part for part in parts}
            self._uploads[record["id"]] = MultipartUpload(**record)

    def open_uploads(self, bucket: str | None = None) -> list[str]:
        """Return the names of the objects, of one bucket or all, that uploads are open for."""
        return sorted(each.name for each in self._uploads.values() if bucket in (None, each.bucket))

    def expire(self) -> int:
        """Drop all uploads, as a bucket's lifecycle rule does; return how many there were."""
        uploads = list(self._uploads.values())
        for each in uploads:
            self._end(each)
        return len(uploads)

    async def initiate(self, exchange: Exchange) -> web.StreamResponse:
        """https://cloud.google.com/storage/docs/xml-api/post-object-multipart."""
        if exchange.length() != 0:
            raise invalid("Content-Length: expected 0")
        _no_preconditions(exchange)
        self._catalog.bucket(exchange.bucket)
        check_name(exchange.name)
        headers = exchange.headers
        metadata: dict[str, Any] = {"contentType": headers.get("Content-Type", "application/octet-stream")}
        storage_class = headers.get("x-goog-storage-class", "STANDARD")
        if storage_class not in STORAGE_CLASSES:
            raise invalid(f"Invalid storage class: {storage_class!r}", "InvalidStorageClass")
        metadata["storageClass"] = storage_class
        if "x-goog-encryption-kms-key-name" in headers:
            metadata["kmsKeyName"] = headers["x-goog-encryption-kms-key-name"]
        if "x-goog-acl" in headers:
            metadata["acl"] = headers["x-goog-acl"]
        upload = MultipartUpload(
            id=uuid.uuid4().hex,
            bucket=exchange.bucket,
            name=exchange.name,
            initiated=self._catalog.now("microseconds"),
            metadata=metadata,
            key_sha256=customer_key(headers),
        )
        self._uploads[upload.id] = upload
        self._keep(upload)
        return initiate_result(upload.bucket, upload.name, upload.id)

    async def put_part(self, exchange: Exchange) -> web.StreamResponse:
        """https://cloud.google.com/storage/docs/xml-api/put-object-multipart."""
        length = exchange.length()
        _no_preconditions(exchange)
        upload = self._upload(exchange)
        text = exchange.query["partNumber"]
        if not text.isdigit() or not 1 <= int(text) <= MAX_PARTS:
            raise invalid(f"Part number must be an integer between 1 and {MAX_PARTS}, inclusive.")
        if length > MAX_PART:
            raise Problem(400, "EntityTooLarge", "uploadTooLarge", "The part is larger than 5 GiB.")
        given = given_hashes(exchange.headers)
        blob_id = self._blobs.new()
        try:
            with self._blobs.writer(blob_id) as file:
                async for piece in exchange.body():
                    file.write(piece)
            blob = Blob(id=blob_id, size=length)
            digest = self._blobs.digest([blob], md5=given.md5 is not None)
            if given.crc32c not in (None, digest.crc32c):
                raise crc_mismatch(str(given.crc32c), digest.crc32c)
            if given.md5 not in (None, digest.md5):
                raise md5_mismatch(str(given.md5), digest.md5)
            if upload.id not in self._uploads:
                raise no_upload()  # it was completed or aborted while the bytes came in
        except BaseException:
            self._blobs.discard([blob_id])
            raise
        number = int(text)
        old = upload.parts.get(number)
        part = Part(
            number=number,
            etag=f'"{uuid.uuid4().hex}"',
            blob=blob,
            crc32c=digest.crc32c,
            modified=self._catalog.now("microseconds"),
        )
        upload.parts[number] = part
        self._keep(upload)
        if old is not None:
            self._blobs.discard([old.blob.id])
        return web.Response(headers={"ETag": part.etag, "x-goog-hash": f"crc32c={part.crc32c}"})

    async def list_parts(self, exchange: Exchange) -> web.StreamResponse:
        """https://cloud.google.com/storage/docs/xml-api/get-object-multipart."""
        upload = self._upload(exchange)
        after = _whole(exchange, "part-number-marker", 0)
        limit = min(_whole(exchange, "max-parts", _PAGE), _PAGE)
        parts = [part for number, part in sorted(upload.parts.items()) if number > after]
        shown = [(part.number, part.modified, part.etag, part.blob.size) for part in parts[:limit]]
        return list_parts_result(
            upload.bucket, upload.name, upload.id, shown, after=after, limit=limit, more=len(parts) > limit
        )

    async def complete(self, exchange: Exchange) -> web.StreamResponse:
        """https://cloud.google.com/storage/docs/xml-api/post-object-complete."""
        _no_preconditions(exchange)
        if exchange.request.content_length is None:
            raise length_required()
        # Of two requests that complete one upload, the second waits, and then finds it gone.
        async with self._locks[exchange.query["uploadId"]]:
            return await self._complete(exchange, self._upload(exchange))

    async def _complete(self, exchange: Exchange, upload: MultipartUpload) -> web.StreamResponse:
        chosen: list[Part] = []
        for number, etag in read_complete(await exchange.read()):
            part = upload.parts.get(number)
            if part is None or part.etag.strip('"') != etag.strip('"'):
                raise invalid(f"Part {number} was not found or its ETag differs.", "InvalidPart")
            if chosen and number <= chosen[-1].number:
                raise invalid("The list of parts was not in ascending order.", "InvalidPartOrder")
            chosen.append(part)
        for part in chosen[:-1]:
            if part.blob.size < MIN_PART:
                message = f"Part {part.number} is smaller than the minimum allowed size of {MIN_PART} bytes."
                raise invalid(message, "EntityTooSmall")
        stored = await store(
            self._catalog,
            self._blobs,
            bucket=upload.bucket,
            name=upload.name,
            parts=tuple(part.blob for part in chosen),
            given=Hashes(),
            conditions=Preconditions(),
            metadata=upload.metadata,
            key_sha256=upload.key_sha256,
            md5=False,  # "MD5 hashes don't exist for objects uploaded using this method"
        )
        del self._uploads[upload.id]
        self._records.remove(upload.id)
        used = {part.number for part in chosen}
        self._blobs.discard([part.blob.id for number, part in upload.parts.items() if number not in used])
        return complete_result(exchange.base, upload.bucket, upload.name, f'"{stored.etag}"')

    async def abort(self, exchange: Exchange) -> web.StreamResponse:
        """https://cloud.google.com/storage/docs/xml-api/delete-multipart."""
        async with self._locks[exchange.query["uploadId"]]:
            self._end(self._upload(exchange))
        return web.Response(status=204)

    async def list(self, exchange: Exchange) -> web.StreamResponse:
        """https://cloud.google.com/storage/docs/xml-api/get-bucket-uploads."""
        self._catalog.bucket(exchange.bucket)
        query = exchange.query
        limit = min(_whole(exchange, "max-uploads", _PAGE), _PAGE)
        key, upload_id = query.get("key-marker", "").encode(), query.get("upload-id-marker", "")
        found = sorted(
            (each.name.encode(), each.id, each.initiated)
            for each in self._uploads.values()
            if each.bucket == exchange.bucket and each.name.startswith(query.get("prefix", ""))
        )
        # With no upload-id-marker the list goes on behind the key, with one behind that upload.
        after = [each for each in found if each[0] > key or (each[0] == key and "" < upload_id < each[1])]
        shown = [(name.decode(), ident, initiated) for name, ident, initiated in after[:limit]]
        return list_uploads_result(
            exchange.bucket,
            shown,
            prefix=query.get("prefix", ""),
            limit=limit,
            more=len(after) > limit,
            encode=query.get("encoding-type") == "url",
        )

    def _upload(self, exchange: Exchange) -> MultipartUpload:
        self._catalog.bucket(exchange.bucket)
        upload = self._uploads.get(exchange.query["uploadId"])
        if upload is None or (upload.bucket, upload.name) != (exchange.bucket, exchange.name):
            raise no_upload()
        if exchange.method in ("PUT", "POST") and customer_key(exchange.headers) != upload.key_sha256:
            # "you must use the same headers and values in each part upload" (and to complete)
            raise invalid("The encryption key is not the one the upload was begun with.")
        return upload

    def _end(self, upload: MultipartUpload) -> None:
        del self._uploads[upload.id]
        self._records.remove(upload.id)
        self._blobs.discard([part.blob.id for part in upload.parts.values()])

    def _keep(self, upload: MultipartUpload) -> None:
        self._records.put(upload.id, asdict(upload))


def _no_preconditions(exchange: Exchange) -> None:
    """Refuse what the service does not do, lest a client relies on it.

    "Preconditions are not supported in the requests":
    https://cloud.google.com/storage/docs/multipart-uploads#considerations
    """
    for name in exchange.headers:
        if name.lower().startswith("x-goog-if-") or name.lower() in ("if-match", "if-none-match"):
            raise invalid(f"{name} is not supported in multipart uploads", "InvalidArgument")


def _whole(exchange: Exchange, name: str, default: int) -> int:
    text = exchange.query.get(name, "")
    if not text:
        return default
    if not text.isdigit():
        raise invalid(f"{name}: expected a whole number, got {text!r}")
    return int(text)
