"""Which request is which operation, and what happens around every one: tokens, faults, log."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from tests.servers.gcs.admin import Admin
from tests.servers.gcs.batches import Batches
from tests.servers.gcs.blobs import BlobFolder
from tests.servers.gcs.catalog import Catalog, check_name
from tests.servers.gcs.compositions import Compositions
from tests.servers.gcs.exchange import BodyLost, Exchange
from tests.servers.gcs.faults import Fault, Faults
from tests.servers.gcs.json_api import JsonApi
from tests.servers.gcs.json_uploads import JsonUploads
from tests.servers.gcs.pace import Pace
from tests.servers.gcs.problems import Problem, unauthorized
from tests.servers.gcs.resumable import ResumableUploads
from tests.servers.gcs.rewrites import Rewrites
from tests.servers.gcs.xml_uploads import XmlUploads

_log = logging.getLogger(__name__)

Handler = Callable[[Exchange], Awaitable[web.StreamResponse]]

_LINGER_TURNS = 50
_MOVING = (
    "objects.get_media",
    "objects.insert",
    "objects.insert_media",
    "resumable.put",
    "multipart.put_part",
)
_TOO_MANY = Fault(operation="*", action="refuse", status=503)
_BY_SESSION = ("resumable.put", "resumable.status", "resumable.cancel")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Hold what the log says of one request; `port` tells connections apart.

    `authorized` says that there was an `Authorization`, whether or not one was wanted.
    """

    operation: str
    bucket: str
    name: str
    status: int
    received: int
    chunked: bool
    port: int
    content_range: str | None
    authorized: bool


class GCSApp:
    """Be the server without its socket; one folder holds all that it keeps."""

    def __init__(self, folder: Path, *, rate: float | None = None) -> None:
        self.pace = Pace(rate)
        self.faults = Faults()
        self.tokens: set[str] | None = None
        self.most: int | None = None
        self._moving = 0
        self.log: list[Entry] = []
        self.under_way: list[Exchange] = []
        self.speaks_xml = True
        self.speaks_batches = True
        blobs = BlobFolder(folder / "blobs")
        self.catalog = Catalog(folder, blobs)
        self.resumable = ResumableUploads(folder, self.catalog, blobs)
        self.multipart = XmlUploads(folder, self.catalog, blobs)
        self.rewrites = Rewrites(self.catalog, blobs)
        self._admin = Admin(self)
        json_api, uploads = JsonApi(self.catalog, blobs), JsonUploads(self.catalog, blobs)
        self._handlers: dict[str, Handler] = {
            "buckets.get": json_api.get_bucket,
            "buckets.insert": json_api.insert_bucket,
            "objects.get": json_api.get_metadata,
            "objects.get_media": json_api.get_media,
            "objects.list": json_api.list,
            "objects.delete": json_api.delete,
            "objects.move": json_api.move,
            "objects.rewrite": self.rewrites.rewrite,
            "batch": Batches(self._part).answer,
            "objects.compose": Compositions(self.catalog, blobs).compose,
            "objects.insert": uploads.multipart,
            "objects.insert_media": uploads.media,
            "resumable.start": self.resumable.start,
            "resumable.put": self.resumable.put,
            "resumable.status": self.resumable.put,
            "resumable.cancel": self.resumable.cancel,
            "multipart.initiate": self.multipart.initiate,
            "multipart.put_part": self.multipart.put_part,
            "multipart.list_parts": self.multipart.list_parts,
            "multipart.complete": self.multipart.complete,
            "multipart.abort": self.multipart.abort,
            "multipart.list": self.multipart.list,
        }

    def application(self) -> web.Application:
        """Make the aiohttp application."""
        application = web.Application()
        application.router.add_route("*", "/_admin/{what}", self._admin.handle)
        application.router.add_route("*", "/{target:.*}", self._handle)
        return application

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        try:
            exchange = Exchange.of(request, self.pace)
        except Problem as problem:
            return problem.as_json()
        fault: Fault | None = None
        try:
            handler = self._handler(exchange)
            fault = self.faults.take(exchange.operation)
            self.under_way.append(exchange)
            response = await self._serve(exchange, handler, fault)
        except Problem as problem:
            response = problem.as_xml() if exchange.operation.startswith("multipart.") else problem.as_json()
        except BodyLost:
            response = web.Response(status=400)
            self._note(exchange, 0)
            _reset(request)
            return response
        finally:
            if exchange in self.under_way:
                self.under_way.remove(exchange)
        self._note(exchange, response.status)
        return response

    async def _serve(self, exchange: Exchange, handler: Handler, fault: Fault | None) -> web.StreamResponse:
        action = None if fault is None else fault.action
        if fault is not None:
            if action == "slow":
                await asyncio.sleep(fault.seconds)
            elif action == "status":
                async for _ in exchange.body():
                    pass
                return _refusal(exchange, fault)
            elif action in ("refuse", "hang_up"):
                await _read_some(exchange, fault.after_bytes)
                return await _refuse(exchange.request, _refusal(exchange, fault), linger=action == "refuse")
            elif action == "reset_before":
                await _read_some(exchange, fault.after_bytes)
                _reset(exchange.request)
                return web.Response(status=400)
            elif action == "truncate":
                exchange.extra["truncate_to"] = str(fault.after_bytes)
            elif action == "corrupt":
                exchange.corrupt_at = fault.after_bytes
        self._authorize(exchange)
        self._bill(exchange)
        if self.most is not None and exchange.operation in _MOVING:
            return await self._if_not_too_many(exchange, handler, self.most)
        response = await handler(exchange)
        if action == "reset_after":
            _reset(exchange.request)
        elif action == "wrong_checksum":
            _falsify(response)
        return response

    async def _part(self, exchange: Exchange) -> web.StreamResponse:
        """Do what a part of a batch asks for; in the log, it is the batch that was asked."""
        try:
            fault = self.faults.take(f"batch.{exchange.operation}")
            if fault is not None:
                return _refusal(exchange, fault)
            self._authorize(exchange)
            self._bill(exchange)
            return await self._handler(exchange)(exchange)
        except Problem as problem:
            return problem.as_json()

    async def _if_not_too_many(self, exchange: Exchange, handler: Handler, most: int) -> web.StreamResponse:
        """Answer 503 to a request with bytes beyond so many at a time; it is not counted itself.

        https://cloud.google.com/storage/docs/request-rate
        """
        if self._moving >= most:
            return await _refuse(exchange.request, _refusal(exchange, _TOO_MANY), linger=True)
        self._moving += 1
        try:
            return await handler(exchange)
        finally:
            self._moving -= 1

    def _authorize(self, exchange: Exchange) -> None:
        """Check the bearer token, where tokens are wanted.

        A session URI is an authorization by itself
        (https://cloud.google.com/storage/docs/resumable-uploads#session-uris).
        """
        header = exchange.headers.get("Authorization")
        if self.tokens is None or (header is None and exchange.operation in _BY_SESSION):
            return
        scheme, _, token = (header or "").partition(" ")
        if scheme != "Bearer" or token not in self.tokens:
            raise unauthorized()

    def _handler(self, exchange: Exchange) -> Handler:
        handler = self._handlers.get(exchange.operation)
        if exchange.operation.startswith("multipart."):
            if not self.speaks_xml:
                exchange.operation = "unknown"
                raise Problem(404, "NotFound", "notFound", "Not Found")
            if handler is None:
                raise Problem(501, "NotImplemented", "notImplemented", "not a request of this test server")
            if exchange.name:
                check_name(exchange.name)
        if handler is None or (exchange.operation == "batch" and not self.speaks_batches):
            raise Problem(404, "NotFound", "notFound", "Not Found")
        return handler

    def _bill(self, exchange: Exchange) -> None:
        """Want a project to bill where the requester pays.

        https://cloud.google.com/storage/docs/requester-pays
        """
        if not exchange.bucket or exchange.operation in _BY_SESSION:
            return
        bucket = self.catalog.bucket(exchange.bucket)
        payer = exchange.query.get("userProject", exchange.headers.get("x-goog-user-project"))
        if bucket.get("billing", {}).get("requesterPays") and not payer:
            message = "Bucket is a requester pays bucket but no user project provided."
            raise Problem(400, "UserProjectMissing", "required", message)

    def _note(self, exchange: Exchange, status: int) -> None:
        transport = exchange.request.transport
        peer = None if transport is None else transport.get_extra_info("peername")
        entry = Entry(
            operation=exchange.operation,
            bucket=exchange.bucket,
            name=exchange.name,
            status=status,
            received=exchange.received,
            chunked=exchange.headers.get("Transfer-Encoding") is not None,
            port=peer[1] if peer else 0,
            content_range=exchange.headers.get("Content-Range"),
            authorized="Authorization" in exchange.headers,
        )
        self.log.append(entry)
        _log.debug("%s", entry)


async def _read_some(exchange: Exchange, count: int) -> None:
    if count:
        async for _ in exchange.body():
            if exchange.received >= count:
                return


def _refusal(exchange: Exchange, fault: Fault) -> web.Response:
    headers = {} if fault.retry_after is None else {"Retry-After": fault.retry_after}
    if fault.body is not None:
        return web.Response(status=fault.status, text=fault.body, headers=headers)
    problem = Problem(fault.status, "FaultOnDemand", "faultOnDemand", "a fault was asked for", headers)
    return problem.as_xml() if exchange.operation.startswith("multipart.") else problem.as_json()


async def _refuse(request: web.Request, response: web.Response, *, linger: bool) -> web.Response:
    """Answer, and close the connection without reading the rest of the body.

    Closed at once, the unread bytes make the kernel send a reset, which may overtake the answer;
    so servers of the better kind linger until the client has read it and closed.
    """
    response.force_close()
    await response.prepare(request)
    await response.write_eof()
    if linger and request.transport is not None:
        request.transport.pause_reading()
        for _ in range(_LINGER_TURNS):
            if request.transport is None or request.transport.is_closing():
                break
            await asyncio.sleep(0.01)
    if request.transport is not None:
        request.transport.close()
    return response


def _reset(request: web.Request) -> None:
    """Close the connection with a RST instead of a FIN: what a dying server or proxy does."""
    transport = request.transport
    if transport is None:
        return
    sock = transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _falsify(response: web.StreamResponse) -> None:
    if "x-goog-hash" in response.headers:
        response.headers["x-goog-hash"] = "crc32c=AAAAAQ=="
    if isinstance(response, web.Response) and response.content_type == "application/json" and response.text:
        fields = json.loads(response.text)
        fields.get("resource", fields)["crc32c"] = "AAAAAQ=="
        response.text = json.dumps(fields)
