"""Several deletions in one request: https://learn.microsoft.com/rest/api/storageservices/blob-batch"""

from __future__ import annotations

import re
from collections.abc import Callable
from email.message import Message

from aiohttp import web
from multidict import CIMultiDict

from tests.servers.azure.calls import Call, Part
from tests.servers.azure.problems import Problem
from tests.servers.azure.records import Features

_LIMIT = 256
_LIMIT_BYTES = 4 << 20
_BOUNDARY = "batchresponse_of_this_server"
_LINE = re.compile(r"([A-Z]+) (/\S*) HTTP/1\.1")


class Batches:
    """Take batches apart, and put the answers together."""

    def __init__(self, features: Features, do: Callable[[Call], web.Response]) -> None:
        self._features = features
        self._do = do

    def answer(self, call: Call) -> web.Response:
        """Answer each part; a batch that is malformed is answered by one part without an id."""
        if not self._features.batches:
            raise Problem(
                400, "InvalidQueryParameterValue", "Value for one of the query parameters is invalid."
            )
        if call.query.get("restype") != "container":
            raise Problem(
                400, "InvalidQueryParameterValue", "this test server knows containers' batches alone"
            )
        boundary = _boundary(call.headers.get("Content-Type", ""))
        try:
            parts = [(number, self._admitted(part, call)) for number, part in _parts(call.data, boundary)]
        except Problem as problem:
            answers: list[tuple[str | None, web.Response]] = [(None, problem.response("DELETE"))]
        else:
            answers = [(number, self._do(inner)) for number, inner in parts]
        text = "".join(_written(number, response) for number, response in answers)
        return web.Response(
            status=202,
            body=f"{text}--{_BOUNDARY}--".encode(),
            headers={"Content-Type": f"multipart/mixed; boundary={_BOUNDARY}"},
        )

    def _admitted(self, part: Part, outer: Call) -> Call:
        """Hold a part to what the documentation says of the body."""
        if "x-ms-version" in part.headers:
            raise _malformed("The subrequests should not have the x-ms-version header.")
        inner = Call.of(part)
        if (inner.account, inner.container_name) != (outer.account, outer.container_name):
            raise _malformed("Any subrequests must be scoped to the same container.")
        if inner.operation != "DeleteBlob":
            raise _malformed("this test server knows batches of deletions alone")
        inner.container = outer.container
        return inner


def _malformed(message: str) -> Problem:
    return Problem(400, "InvalidInput", f"One of the request inputs is not valid. {message}")


def _boundary(kind: str) -> str:
    message = Message()
    message["Content-Type"] = kind
    boundary = message.get_boundary()
    if message.get_content_type() != "multipart/mixed" or not boundary:
        raise Problem(400, "InvalidHeaderValue", "Expected multipart/mixed with a boundary.")
    return boundary


def _parts(body: bytes, boundary: str) -> list[tuple[str, Part]]:
    if len(body) > _LIMIT_BYTES:
        raise Problem(413, "RequestBodyTooLarge", "The request body is too large.")
    text = body.decode("ascii")
    first, last = f"--{boundary}\r\n", f"\r\n--{boundary}--\r\n"
    if not text.startswith(first) or not text.endswith(last):
        raise _malformed("no parts, or no end")
    pieces = text.removeprefix(first).removesuffix(last).split(f"\r\n--{boundary}\r\n")
    if len(pieces) > _LIMIT:
        raise Problem(400, "ExceedsMaxBatchRequestCount", "The batch operation exceeds maximum number.")
    return [_part(piece) for piece in pieces]


def _part(piece: str) -> tuple[str, Part]:
    about, blank, message = piece.partition("\r\n\r\n")
    fields = _fields(about)
    kind, encoding = fields.get("Content-Type"), fields.get("Content-Transfer-Encoding")
    if not blank or kind != "application/http" or encoding != "binary":
        raise _malformed("a part is no application/http, or not binary")
    head, end, rest = message.partition("\r\n\r\n")
    line, _, lines = head.partition("\r\n")
    match = _LINE.fullmatch(line)
    if not end or rest or match is None:
        raise _malformed("a part is no HTTP request")
    part = Part(method=match[1], raw_path=match[2], headers=_fields(lines))
    return fields["Content-ID"], part


def _fields(lines: str) -> CIMultiDict[str]:
    fields: CIMultiDict[str] = CIMultiDict()
    for line in lines.split("\r\n") if lines else []:
        name, separator, value = line.partition(": ")
        if not separator:
            raise _malformed("a header is none")
        fields[name] = value
    return fields


def _written(number: str | None, response: web.Response) -> str:
    about = "Content-Type: application/http\r\n"
    if number is not None:
        about += f"Content-ID: {number}\r\n"
    fields = "".join(f"{name}: {value}\r\n" for name, value in response.headers.items())
    text = response.text or ""
    return (
        f"--{_BOUNDARY}\r\n{about}\r\nHTTP/1.1 {response.status} {response.reason}\r\n{fields}\r\n{text}\r\n"
    )
