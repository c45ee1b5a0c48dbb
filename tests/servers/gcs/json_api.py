"""The JSON API without uploads: buckets; objects' metadata, bytes, lists and deletion."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

from aiohttp import web

from tests.servers.gcs.blobs import BlobFolder
from tests.servers.gcs.catalog import Catalog, Preconditions, StoredObject, check_name
from tests.servers.gcs.exchange import Exchange, customer_key
from tests.servers.gcs.problems import Problem, invalid, no_object
from tests.servers.gcs.resources import answer, resource

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class JsonApi:
    """Answer https://cloud.google.com/storage/docs/json_api/v1."""

    def __init__(self, catalog: Catalog, blobs: BlobFolder) -> None:
        self._catalog = catalog
        self._blobs = blobs

    async def get_bucket(self, exchange: Exchange) -> web.StreamResponse:
        """https://cloud.google.com/storage/docs/json_api/v1/buckets/get."""
        return answer(self._bucket(exchange.bucket))

    async def insert_bucket(self, exchange: Exchange) -> web.StreamResponse:
        """https://cloud.google.com/storage/docs/json_api/v1/buckets/insert."""
        if "project" not in exchange.query:
            raise invalid("Required parameter: project", "MissingParameter")
        fields = parse_object(await exchange.read())
        return answer(self._bucket(self._catalog.create_bucket(fields)["name"]))

    async def get_metadata(self, exchange: Exchange) -> web.StreamResponse:
        """https://cloud.google.com/storage/docs/json_api/v1/objects/get."""
        found = self._found(exchange)
        return answer(resource(found, key_sha256=customer_key(exchange.headers)))

    async def get_media(self, exchange: Exchange) -> web.StreamResponse:
        """Send an object's bytes, or a range of them.

        https://cloud.google.com/storage/docs/json_api/v1/objects/get (alt=media) and
        https://cloud.google.com/storage/docs/xml-api/reference-headers#range: a range that begins
        behind the end is a 416.
        """
        found = self._found(exchange)
        key = customer_key(exchange.headers)
        if found.key_sha256 != key:
            reason = "resourceIsEncryptedWithCustomerEncryptionKey"
            if key is not None:
                reason = "customerEncryptionKeyIsIncorrect"
            raise Problem(400, "ResourceIsEncryptedWithCustomerEncryptionKey", reason, "wrong or no key")
        headers = {
            "ETag": f'"{found.etag}"',
            "x-goog-generation": str(found.generation),
            "x-goog-hash": f"crc32c={found.crc32c}",
            "x-goog-stored-content-length": str(found.size),
        }
        start, stop, status = 0, found.size, 200
        if "Range" in exchange.headers:
            start, stop = _range(exchange.headers["Range"], found.size)
            status = 206
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{found.size}"
        response = web.StreamResponse(status=status, headers=headers)
        response.content_length = stop - start
        response.content_type = found.metadata.get("contentType", "application/octet-stream")
        await response.prepare(exchange.request)
        sent, cut = 0, int(exchange.extra.get("truncate_to", stop - start))
        for data in self._blobs.read(found.blobs, start, stop):
            piece = data[: cut - sent]
            await exchange.pace.take(len(piece))
            await response.write(piece)
            sent += len(piece)
            if sent >= cut < stop - start:
                exchange.request.protocol.force_close()
                break
        return response

    async def list(self, exchange: Exchange) -> web.StreamResponse:
        """https://cloud.google.com/storage/docs/json_api/v1/objects/list."""
        query = exchange.query
        limit = _page_size(query.get("maxResults", "1000"))
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        items: list[dict[str, Any]] = []
        folded: list[str] = []
        page: dict[str, Any] = {"kind": "storage#objects"}
        after = _from_token(query.get("pageToken", ""))
        for name in self._catalog.names(exchange.bucket, prefix, after):
            if len(items) + len(folded) == limit:
                page["nextPageToken"] = _to_token(after)
                break
            tail = name[len(prefix) :]
            if delimiter and delimiter in tail:
                fold = prefix + tail[: tail.index(delimiter)] + delimiter
                if fold not in folded:
                    folded.append(fold)
            else:
                found = self._catalog.get(exchange.bucket, name)
                items.append(resource(found))
            after = name
        if items:
            page["items"] = items
        if folded:
            page["prefixes"] = folded
        return answer(page)

    async def delete(self, exchange: Exchange) -> web.StreamResponse:
        """https://cloud.google.com/storage/docs/json_api/v1/objects/delete."""
        found = self._found(exchange, conditions=False)
        self._catalog.delete(found.bucket, found.name, Preconditions.of(exchange.query))
        return web.Response(status=204)

    async def move(self, exchange: Exchange) -> web.StreamResponse:
        """Rename an object atomically; the new name has a new generation.

        https://cloud.google.com/storage/docs/json_api/v1/objects/move
        """
        found = self._found(exchange, conditions=False)
        Preconditions.of(exchange.query, prefix="ifSource").check(found.generation)
        check_name(exchange.to)
        if exchange.to == exchange.name:
            raise invalid("The source and destination must have different object names.")
        moved = self._catalog.move(found, exchange.to, Preconditions.of(exchange.query))
        return answer(resource(moved, key_sha256=customer_key(exchange.headers)))

    def _bucket(self, name: str) -> dict[str, Any]:
        fields = self._catalog.bucket(name)
        return {"kind": "storage#bucket", "id": name, "storageClass": "STANDARD", "location": "US", **fields}

    def _found(self, exchange: Exchange, *, conditions: bool = True) -> StoredObject:
        found = self._catalog.get(exchange.bucket, exchange.name)
        generation = exchange.query.get("generation")
        if generation is not None and generation != str(found.generation):
            raise no_object(exchange.bucket, exchange.name)
        if conditions:
            Preconditions.of(exchange.query).check(found.generation)
        return found


def parse_object(data: bytes) -> dict[str, Any]:
    """Read a JSON object; no bytes are an empty one.

    Raises:
        Problem: 400.
    """
    try:
        fields = json.loads(data) if data.strip() else {}
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise Problem(400, "InvalidArgument", "parseError", "Parse Error")
    return fields


def _range(text: str, size: int) -> tuple[int, int]:
    match = _RANGE.fullmatch(text)
    if match is None or match.group(1) == match.group(2) == "":
        return 0, size
    first, last = match.groups()
    start = int(first) if first else max(0, size - int(last))
    stop = min(size, int(last) + 1) if first and last else size
    if start >= size or start >= stop:
        raise Problem(
            416,
            "InvalidRange",
            "requestedRangeNotSatisfiable",
            "Request range not satisfiable",
            {"Content-Range": f"bytes */{size}"},
        )
    return start, stop


def _page_size(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise invalid(f"maxResults: expected a whole number from 1 up, got {text!r}")
    return min(int(text), 1000)


def _to_token(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode()


def _from_token(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token.encode()).decode()
    except ValueError:
        raise invalid("Invalid page token") from None
