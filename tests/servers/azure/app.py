"""What happens around every request: who asks, whether they may, faults, log."""

from __future__ import annotations

import secrets
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from aiohttp import web

from tests.servers.azure.authorization import Credentials
from tests.servers.azure.batches import Batches
from tests.servers.azure.blobs import Blobs
from tests.servers.azure.blocks import Blocks
from tests.servers.azure.calls import READING, Call
from tests.servers.azure.problems import Problem
from tests.servers.azure.records import Container, Features

Action = Literal[
    "status",  # answer with the error, having read the body, and do nothing
    "reset_before",  # read the body, reset the connection, and do nothing
    "reset_after",  # do it, and reset the connection in place of an answer
    "corrupt",  # change one bit of the body on its way in
    "truncate",  # send half of a blob's bytes, then close
]
_MAX_NAME_CHARS = 1024


@dataclass(slots=True, kw_only=True)
class Fault:
    """Hold one fault and how often it is still to strike."""

    operation: str
    action: Action
    count: int = 1
    status: int = 503
    code: str = "ServerBusy"
    retry_after: str | None = None

    def problem(self) -> Problem:
        """Make the refusal."""
        headers = {} if self.retry_after is None else {"Retry-After": self.retry_after}
        return Problem(self.status, self.code, "The server is busy.", headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Hold what the log says of one request; `headers` have names in lower case."""

    operation: str
    name: str
    status: int
    headers: dict[str, str]


class AzureApp:
    """Be the server without its socket."""

    def __init__(self, account: str) -> None:
        self.containers: dict[str, Container] = {}
        self.faults: list[Fault] = []
        self.log: list[Entry] = []
        self.features = Features()
        self.clock_ahead = timedelta()
        self.credentials = Credentials(
            account=account, key=secrets.token_bytes(64), now=lambda: datetime.now(UTC) + self.clock_ahead
        )
        blobs, blocks = Blobs(self.features), Blocks(self.features)
        batches = Batches(self.features, self._part)
        self._handlers: dict[str, Callable[[Call], web.Response]] = {
            "ListBlobs": blobs.list,
            "BlobBatch": batches.answer,
            "GetBlob": blobs.get,
            "GetBlobProperties": blobs.head,
            "PutBlob": blobs.put,
            "DeleteBlob": blobs.delete,
            "CopyBlobFromURL": blobs.copy,
            "PutBlock": blocks.put,
            "PutBlockFromURL": blocks.copy,
            "GetBlockList": blocks.list,
            "PutBlockList": blocks.join,
        }

    def application(self) -> web.Application:
        """Make the aiohttp application."""
        application = web.Application(client_max_size=1 << 30)
        application.router.add_route("*", "/{target:.*}", self._handle)
        return application

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        try:
            call = Call.of(request)
        except Problem as problem:
            return problem.response(request.method)
        fault = next((each for each in self.faults if each.operation == call.operation), None)
        if fault is not None:
            fault.count -= 1
            if not fault.count:
                self.faults.remove(fault)
        try:
            call.data = await request.read()
            response = await self._serve(call, fault)
        except Problem as problem:
            response = problem.response(request.method)
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.log.append(
            Entry(operation=call.operation, name=call.name, status=response.status, headers=headers)
        )
        return response

    async def _serve(self, call: Call, fault: Fault | None) -> web.StreamResponse:
        action = None if fault is None else fault.action
        self._admit(call)
        if fault is not None and action == "status":
            raise fault.problem()
        if action == "reset_before":
            return _reset(call.request)
        if action == "corrupt" and call.data:
            middle = len(call.data) // 2
            call.data = call.data[:middle] + bytes([call.data[middle] ^ 1]) + call.data[middle + 1 :]
        response = self._handlers[call.operation](call)
        if action == "reset_after":
            return _reset(call.request)
        if action == "truncate":
            return await _cut(call.request, response)
        return response

    def _part(self, call: Call) -> web.Response:
        """Do what a part of a batch asks for; in the log, it is the batch that was asked."""
        try:
            fault = next((each for each in self.faults if each.operation == f"BlobBatch.{call.name}"), None)
            if fault is not None:
                fault.count -= 1
                if not fault.count:
                    self.faults.remove(fault)
                raise fault.problem()
            self.credentials.admit(call)
            return self._handlers[call.operation](call)
        except Problem as problem:
            return problem.response(call.request.method)

    def _admit(self, call: Call) -> None:
        """https://learn.microsoft.com/rest/api/storageservices/versioning-for-the-azure-storage-services"""
        if "x-ms-version" not in call.headers:
            raise Problem(400, "MissingRequiredHeader", "An HTTP header that's mandatory is not specified.")
        container = self.containers.get(call.container_name)
        call.container = container or Container(name=call.container_name)
        self.credentials.admit(call)
        if call.account != self.credentials.account or container is None:
            raise Problem(404, "ContainerNotFound", "The specified container does not exist.")
        if "x-ms-copy-source" in call.headers:
            self.credentials.admit_source(call)
        if len(call.name) > _MAX_NAME_CHARS and call.operation not in READING:
            raise Problem(
                400, "InvalidResourceName", "The specifed resource name contains invalid characters."
            )


async def _cut(request: web.Request, whole: web.Response) -> web.StreamResponse:
    """Announce all the bytes, send half of them, and close."""
    assert isinstance(whole.body, bytes)
    response = web.StreamResponse(status=whole.status, headers={"ETag": whole.headers["ETag"]})
    response.content_length = len(whole.body)
    await response.prepare(request)
    await response.write(whole.body[: len(whole.body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response


def _reset(request: web.Request) -> web.Response:
    """Close the connection with a RST instead of a FIN: what a dying server or proxy does."""
    transport = request.transport
    if transport is not None:
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response(status=400)
