"""Resumable uploads: sessions that take an object's bytes in order, over any number of requests.

https://cloud.google.com/storage/docs/resumable-uploads and
https://cloud.google.com/storage/docs/performing-resumable-uploads
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from tests.servers.gcs.blobs import Blob, BlobFolder
from tests.servers.gcs.catalog import Catalog, Preconditions
from tests.servers.gcs.exchange import BodyLost, Exchange, Hashes, customer_key, given_hashes
from tests.servers.gcs.json_api import parse_object
from tests.servers.gcs.json_uploads import check_target, object_metadata
from tests.servers.gcs.problems import Problem, invalid
from tests.servers.gcs.records import Records
from tests.servers.gcs.resources import answer, resource, store

GRANULARITY = 256 << 10
"""Bytes are kept in multiples of this, but for the last: …/performing-resumable-uploads#chunked-upload"""

_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


@dataclass(slots=True, kw_only=True)
class Session:
    """Hold one session; `state` is open, done, cancelled or expired."""

    id: str
    bucket: str
    name: str
    blob: str
    conditions: dict[str, int | None]
    metadata: dict[str, Any]
    given: dict[str, str | None]
    key_sha256: str | None
    state: str = "open"
    generation: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentRange:
    """Hold a request's `Content-Range`: bytes `start` to `stop`, both None for a question."""

    start: int | None
    stop: int | None
    total: int | None


class ResumableUploads:
    """Answer the requests to sessions."""

    def __init__(self, folder: Path, catalog: Catalog, blobs: BlobFolder) -> None:
        self._catalog = catalog
        self._blobs = blobs
        self._records = Records(folder / "sessions")
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._sessions = {each["id"]: Session(**each) for each in self._records}

    def expire(self, state: str = "expired") -> int:
        """End all open sessions, as a week does; return how many there were."""
        ended = [each for each in self._sessions.values() if each.state == "open"]
        for each in ended:
            self._end(each, state)
        return len(ended)

    def open_sessions(self, bucket: str | None = None) -> list[str]:
        """Return the names of the objects, of one bucket or all, that sessions are open for."""
        sessions = [each for each in self._sessions.values() if bucket in (None, each.bucket)]
        return sorted(each.name for each in sessions if each.state == "open")

    async def start(self, exchange: Exchange) -> web.StreamResponse:
        """Begin a session; its URI is in `Location`.

        https://cloud.google.com/storage/docs/performing-resumable-uploads#initiate-session
        """
        exchange.length()
        fields = parse_object(await exchange.read())
        check_target(self._catalog, exchange, fields)
        given = given_hashes(exchange.headers)
        given = Hashes(crc32c=fields.get("crc32c", given.crc32c), md5=fields.get("md5Hash", given.md5))
        session = Session(
            id=uuid.uuid4().hex,
            bucket=exchange.bucket,
            name=exchange.name,
            blob=self._blobs.new(),
            conditions=asdict(Preconditions.of(exchange.query)),
            metadata=object_metadata(exchange, fields),
            given=asdict(given),
            key_sha256=customer_key(exchange.headers),
        )
        self._sessions[session.id] = session
        self._keep(session)
        target = urlencode({"uploadType": "resumable", "name": session.name, "upload_id": session.id})
        location = f"{exchange.base}/upload/storage/v1/b/{session.bucket}/o?{target}"
        headers = {"Location": location, "X-GUploader-UploadID": session.id}
        return web.Response(status=200, headers=headers)

    async def cancel(self, exchange: Exchange) -> web.StreamResponse:
        """Cancel: 499. https://cloud.google.com/storage/docs/performing-resumable-uploads#cancel-upload."""
        session = self._open(exchange)
        exchange.length()
        self._end(session, "cancelled")
        return web.Response(status=499)

    async def put(self, exchange: Exchange) -> web.StreamResponse:
        """Take bytes, or answer how many there are."""
        length = exchange.length()
        session = self._session(exchange)
        asked = _content_range(exchange, length)
        key = customer_key(exchange.headers)
        if session.state == "done":
            return answer(resource(self._catalog.get(session.bucket, session.name), key_sha256=key))
        session = self._open(exchange)
        if key != session.key_sha256:
            raise Problem(400, "InvalidArgument", "customerEncryptionKeyIsIncorrect", "wrong or no key")
        # A request whose client went away ends at once; the next one waits for that.
        async with self._locks[session.id]:
            if asked.start is not None and asked.stop is not None:
                await self._append(session, exchange, asked)
            if asked.total is not None and self._blobs.size(session.blob) == asked.total:
                return await self._finish(session, exchange, before=asked.start)
        return self._incomplete(session)

    async def _append(self, session: Session, exchange: Exchange, asked: ContentRange) -> None:
        assert asked.start is not None
        assert asked.stop is not None
        held = self._blobs.size(session.blob)
        if asked.start != held:
            # The service answers bytes from beyond what it has with a 503 and this text; bytes that
            # it has already must not come again ("do not resend", …#resume-upload).
            message = (
                "Invalid request.  According to the Content-Range header, the upload offset is "
                f"{asked.start} byte(s), which does not continue the uploaded size of {held} byte(s)."
            )
            raise Problem(503 if asked.start > held else 400, "InvalidArgument", "invalid", message)
        last = asked.total is not None and asked.stop == asked.total
        if not last and (asked.stop - asked.start) % GRANULARITY:
            raise invalid(
                "Invalid request. The number of bytes uploaded is required to be a multiple of "
                f"{GRANULARITY}, except for the final request. The received request contained "
                f"{asked.stop - asked.start} bytes."
            )
        try:
            with self._blobs.writer(session.blob) as file:
                async for piece in exchange.body():
                    file.write(piece)
        except BodyLost:
            # What has come stays, in whole multiples: the next question tells the client how much.
            got = self._blobs.size(session.blob)
            self._blobs.truncate(session.blob, max(held, got - got % GRANULARITY))
            raise

    async def _finish(
        self, session: Session, exchange: Exchange, *, before: int | None
    ) -> web.StreamResponse:
        size = self._blobs.size(session.blob)
        given = given_hashes(exchange.headers)
        try:
            stored = await store(
                self._catalog,
                self._blobs,
                bucket=session.bucket,
                name=session.name,
                parts=(Blob(id=session.blob, size=size),),
                # Checksums may come with the first request or the last one; clients of Google's send
                # `x-goog-hash` with the last (googleapis/python-storage#1654, google-cloud-cpp#15815).
                given=replace(
                    given,
                    crc32c=given.crc32c or session.given["crc32c"],
                    md5=given.md5 or session.given["md5"],
                ),
                conditions=Preconditions(**session.conditions),
                metadata=session.metadata,
                key_sha256=session.key_sha256,
            )
        except Problem:
            if before is not None:
                self._blobs.truncate(session.blob, before)
            raise
        session.state, session.generation = "done", stored.generation
        self._keep(session)
        return answer(resource(stored, key_sha256=session.key_sha256))

    def _incomplete(self, session: Session) -> web.StreamResponse:
        """308, with what is there in `Range`, and no `Range` where there is nothing.

        https://cloud.google.com/storage/docs/performing-resumable-uploads#status-check
        """
        held = self._blobs.size(session.blob)
        headers = {"Range": f"bytes=0-{held - 1}"} if held else {}
        return web.Response(status=308, reason="Resume Incomplete", headers=headers)

    def _session(self, exchange: Exchange) -> Session:
        session = self._sessions.get(exchange.query.get("upload_id", ""))
        if session is None or session.bucket != exchange.bucket:
            raise Problem(404, "NoSuchUpload", "notFound", "No such upload session.")
        exchange.name = session.name
        return session

    def _open(self, exchange: Exchange) -> Session:
        """Return a session that still takes bytes.

        A session of more than a week answers 410 or 404
        (https://cloud.google.com/storage/docs/resumable-uploads#session-uris).
        """
        session = self._session(exchange)
        if session.state == "expired":
            raise Problem(410, "NoSuchUpload", "gone", "The upload session has expired.")
        if session.state != "open":
            raise Problem(404, "NoSuchUpload", "notFound", f"The upload session is {session.state}.")
        return session

    def _end(self, session: Session, state: str) -> None:
        session.state = state
        self._blobs.discard([session.blob])
        self._keep(session)

    def _keep(self, session: Session) -> None:
        self._records.put(session.id, asdict(session))


def _content_range(exchange: Exchange, length: int) -> ContentRange:
    text = exchange.headers.get("Content-Range")
    if text is None:
        return ContentRange(start=0, stop=length, total=length)
    match = _RANGE.fullmatch(text)
    if match is None:
        raise invalid(f"Failed to parse Content-Range header: {text!r}")
    first, last, total = match.groups()
    size = None if total == "*" else int(total)
    if first is None:
        if length:
            raise invalid("Content-Range: a question about the state has no body")
        return ContentRange(start=None, stop=None, total=size)
    start, stop = int(first), int(last) + 1
    if stop - start != length or (size is not None and stop > size):
        raise invalid(f"Content-Range {text!r} does not fit a body of {length} bytes")
    return ContentRange(start=start, stop=stop, total=size)
