"""One request as the handlers see it: its target taken apart, its body streamed, paced and faulty."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

from aiohttp import web
from aiohttp.web_protocol import RequestPayloadError
from multidict import CIMultiDict

from tests.servers.gcs.pace import Pace
from tests.servers.gcs.problems import Problem, invalid, length_required
from tests.servers.gcs.routes import route

_CHUNK = 256 << 10


class BodyLost(Exception):
    """Tell that the client went away before its body had come in whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Be a request without a body inside a batch: as much of a `web.Request` as handlers of such ask for."""

    method: str
    raw_path: str
    headers: CIMultiDict[str]


@dataclass(slots=True, kw_only=True)
class Exchange:
    """Hold a request and what is known of it so far."""

    request: web.Request | Part
    query: dict[str, str]
    pace: Pace
    operation: str
    bucket: str
    name: str
    to: str = ""
    to_bucket: str = ""
    corrupt_at: int | None = None
    received: int = 0
    extra: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, request: web.Request | Part, pace: Pace) -> Exchange:
        """Take a request's target apart.

        The path's segments are percent-decoded one by one, so that a name may hold any character
        (https://cloud.google.com/storage/docs/request-endpoints#encoding).

        Raises:
            Problem: 400, it is not UTF-8.
        """
        path, _, query = request.raw_path.partition("?")
        try:
            segments = [unquote(part, errors="strict") for part in path.removeprefix("/").split("/")]
            pairs = parse_qsl(query, keep_blank_values=True, errors="strict")
        except UnicodeDecodeError:
            raise invalid("the request's target is not UTF-8") from None
        known = dict(pairs)
        found = route(request.method, segments, known)
        operation = found.operation
        if operation == "resumable.put" and request.headers.get("Content-Range", "").startswith("bytes */*"):
            operation = "resumable.status"
        return cls(
            request=request,
            query=known,
            pace=pace,
            operation=operation,
            bucket=found.bucket,
            name=found.name,
            to=found.to,
            to_bucket=found.to_bucket,
        )

    @property
    def method(self) -> str:
        """Return the HTTP method."""
        return self.request.method

    @property
    def headers(self) -> Mapping[str, str]:
        """Return the request's headers, whose names have no case."""
        return self.request.headers

    @property
    def base(self) -> str:
        """Return the URL that the client used to get here."""
        return f"{self.request.scheme}://{self.request.host}"

    def length(self) -> int:
        """Return the body's declared length.

        Raises:
            Problem: 411, none is given.
        """
        if self.request.content_length is None:
            raise length_required()
        return self.request.content_length

    async def body(self) -> AsyncIterator[bytes]:
        """Iterate over the body as it comes in.

        Raises:
            BodyLost: it ended before its declared length.
        """
        expected, got = self.request.content_length, 0
        try:
            async for data in self.request.content.iter_chunked(_CHUNK):
                got += len(data)
                self.received += len(data)
                await self.pace.take(len(data))
                yield self._damaged(data, got - len(data))
        except (ConnectionError, RequestPayloadError, asyncio.IncompleteReadError) as error:
            raise BodyLost from error
        if expected is not None and got != expected:
            raise BodyLost

    def _damaged(self, data: bytes, position: int) -> bytes:
        """Change one bit of the body, where a fault says so."""
        place = -1 if self.corrupt_at is None else self.corrupt_at - position
        if not 0 <= place < len(data):
            return data
        return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]

    async def read(self, limit: int = 16 << 20) -> bytes:
        """Return the whole body; for documents, not for data."""
        data = bytearray()
        async for piece in self.body():
            data += piece
            if len(data) > limit:
                raise Problem(413, "EntityTooLarge", "uploadTooLarge", "the document is too large")
        return bytes(data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hashes:
    """Hold the checksums that came with a request, base64; None where none was given."""

    crc32c: str | None = None
    md5: str | None = None


def given_hashes(headers: Mapping[str, str]) -> Hashes:
    """Read `x-goog-hash` (also several, or a list in one) and `Content-MD5`.

    https://cloud.google.com/storage/docs/xml-api/reference-headers#xgooghash
    """
    found: dict[str, str] = {}
    lines = headers.getall("x-goog-hash", []) if hasattr(headers, "getall") else []
    for item in ",".join(lines).split(","):
        algorithm, separator, value = item.strip().partition("=")
        if not item.strip():
            continue
        if not separator or algorithm not in ("crc32c", "md5"):
            raise invalid(f"x-goog-hash: expected crc32c=… or md5=…, got {item!r}", "InvalidDigest")
        found[algorithm] = _digest(value, 4 if algorithm == "crc32c" else 16)
    if "Content-MD5" in headers:
        found["md5"] = _digest(headers["Content-MD5"], 16)
    return Hashes(**found)


def _digest(value: str, size: int) -> str:
    try:
        raw = base64.b64decode(value, validate=True)
    except binascii.Error:
        raw = b""
    if len(raw) != size:
        raise invalid(f"a digest of {size} bytes in base64 was expected", "InvalidDigest")
    return value


def customer_key(headers: Mapping[str, str]) -> str | None:
    """Return the SHA-256 (base64) of the customer-supplied key that came with a request.

    https://cloud.google.com/storage/docs/encryption/customer-supplied-keys#request_headers
    """
    names = ("x-goog-encryption-algorithm", "x-goog-encryption-key", "x-goog-encryption-key-sha256")
    algorithm, key, sha256 = (headers.get(name) for name in names)
    if algorithm is None and key is None and sha256 is None:
        return None
    problem = invalid("the customer-supplied encryption key is not valid", "InvalidArgument")
    if algorithm != "AES256" or key is None or sha256 is None:
        raise problem
    try:
        raw = base64.b64decode(key, validate=True)
    except binascii.Error:
        raise problem from None
    if len(raw) != 32 or base64.b64encode(hashlib.sha256(raw).digest()).decode() != sha256:
        raise problem
    return sha256
