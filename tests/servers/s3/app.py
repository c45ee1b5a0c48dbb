"""What happens around every request: where, who, whether they may, faults, log."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from tests.servers.s3.bodies import decode
from tests.servers.s3.calls import Call
from tests.servers.s3.deletions import Deletions
from tests.servers.s3.faults import Fault, Faults
from tests.servers.s3.features import Features
from tests.servers.s3.objects import Objects
from tests.servers.s3.problems import Problem
from tests.servers.s3.records import Bucket, Key
from tests.servers.s3.signature import Verifier
from tests.servers.s3.uploads import Uploads

_READING = frozenset(
    {"HeadBucket", "HeadObject", "GetObject", "ListObjectsV2", "ListParts", "ListMultipartUploads"}
)
_WITH_CHECKSUM = ("x-amz-checksum-crc32c", "x-amz-checksum-algorithm", "x-amz-trailer")
_MAX_NAME_BYTES = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Hold what the log says of one request; `headers` have names in lower case."""

    operation: str
    host: str
    bucket: str
    name: str
    status: int
    headers: dict[str, str]


class S3App:
    """Be the server without its socket."""

    def __init__(self, region: str) -> None:
        self.region = region
        self.buckets: dict[str, Bucket] = {}
        self.keys: dict[str, Key] = {}
        self.faults = Faults()
        self.log: list[Entry] = []
        self.features = Features()
        self.clock_ahead_secs = 0.0
        objects = Objects(self.features)
        uploads = Uploads(self.features, objects)
        self._verifier = Verifier(keys=self.keys, now=lambda: time.time() + self.clock_ahead_secs)
        self._handlers: dict[str, Callable[[Call], web.Response]] = {
            "HeadBucket": lambda call: web.Response(),
            "ListObjectsV2": objects.list,
            "GetObject": objects.get,
            "HeadObject": objects.head,
            "PutObject": objects.put,
            "DeleteObject": objects.delete,
            "DeleteObjects": Deletions(self.features, objects).delete,
            "CopyObject": objects.copy,
            "CreateMultipartUpload": uploads.create,
            "UploadPart": uploads.put_part,
            "UploadPartCopy": uploads.copy_part,
            "ListParts": uploads.list_parts,
            "CompleteMultipartUpload": uploads.complete,
            "AbortMultipartUpload": uploads.abort,
            "ListMultipartUploads": uploads.list,
        }

    def application(self) -> web.Application:
        """Make the aiohttp application."""
        application = web.Application(client_max_size=1 << 30)
        application.router.add_route("*", r"/{target:[\s\S]*}", self._handle)
        return application

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        try:
            call = Call.of(request)
        except Problem as problem:
            return problem.response(request.method)
        fault = self.faults.take(call.operation)
        if fault is not None and fault.action == "refuse":
            response: web.StreamResponse = _refusal(fault).response(request.method)
            response.force_close()
        else:
            try:
                raw = await request.read()
                response = await self._serve(call, raw, fault)
            except Problem as problem:
                response = problem.response(request.method)
        entry = Entry(
            operation=call.operation,
            host=request.headers.get("Host", ""),
            bucket=call.bucket_name,
            name=call.name,
            status=response.status,
            headers={name.lower(): value for name, value in request.headers.items()},
        )
        self.log.append(entry)
        return response

    async def _serve(self, call: Call, raw: bytes, fault: Fault | None) -> web.StreamResponse:
        action = None if fault is None else fault.action
        if action == "corrupt" and raw:
            middle = len(raw) // 2
            raw = raw[:middle] + bytes([raw[middle] ^ 1]) + raw[middle + 1 :]
        self._admit(call)
        if self.features.refuses_checksums and any(name in call.headers for name in _WITH_CHECKSUM):
            message = "A header you provided implies functionality that is not implemented"
            raise Problem(501, "NotImplemented", message)
        call.data, call.crc32c = decode(call.request, raw, trailers=self.features.trailers)
        if fault is not None and action == "status":
            raise _refusal(fault)
        if fault is not None and action == "late_error":
            return await _slowly(call.request, _refusal(fault).document())
        if action == "reset_before":
            return _reset(call.request)
        response = self._handlers[call.operation](call)
        if action == "reset_after":
            return _reset(call.request)
        if action in ("slow", "late_end"):
            assert isinstance(response.body, bytes)
            return await _slowly(call.request, response.body if action == "slow" else b"")
        if action == "truncate":
            return await _cut(call.request, response)
        return response

    def _admit(self, call: Call) -> None:
        """Find the bucket, in this region, and find out whether the caller may do this there."""
        bucket = self.buckets.get(call.bucket_name)
        region = call.host_region or self.region
        who = None
        if "Authorization" in call.headers and (bucket is None or bucket.region == region):
            who = self._verifier.caller(call.request, region)
        if bucket is None:
            raise Problem(404, "NoSuchBucket", "The specified bucket does not exist")
        call.bucket = bucket
        told = {"x-amz-bucket-region": bucket.region}
        if bucket.region != region:
            # https://docs.aws.amazon.com/AmazonS3/latest/userguide/Redirects.html
            message = (
                "The bucket you are attempting to access must be addressed using the specified endpoint."
            )
            where = f"{bucket.name}.s3.{bucket.region}.amazonaws.com"
            raise Problem(301, "PermanentRedirect", message, told, Bucket=bucket.name, Endpoint=where)
        reading = call.operation in _READING
        if who is None and not (bucket.public and reading):
            raise Problem(403, "AccessDenied", "Access Denied", told)
        if who is not None and who.read_only and not reading:
            raise Problem(403, "AccessDenied", "User is not authorized to perform this", told)
        if bucket.requester_pays and call.headers.get("x-amz-request-payer") != "requester":
            raise Problem(403, "AccessDenied", "Access Denied")
        if len(call.name.encode()) > _MAX_NAME_BYTES:
            raise Problem(400, "KeyTooLongError", "Your key is too long", MaxSizeAllowed="1024")


def _refusal(fault: Fault) -> Problem:
    headers = {} if fault.retry_after is None else {"Retry-After": fault.retry_after}
    return Problem(fault.status, fault.code, fault.message, headers)


async def _slowly(request: web.Request, body: bytes) -> web.StreamResponse:
    """Begin with 200 and white space, as the service does while it works, then send the document.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html
    """
    response = web.StreamResponse(headers={"Content-Type": "application/xml"})
    await response.prepare(request)
    for _ in range(3):
        await response.write(b" \n")
        await asyncio.sleep(0.001)
    if body:
        await response.write(body)
    await response.write_eof()
    return response


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
