"""Several requests of the JSON API in one: https://cloud.google.com/storage/docs/batch"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from email.message import Message

from aiohttp import web
from multidict import CIMultiDict

from tests.servers.gcs.exchange import Exchange, Part
from tests.servers.gcs.problems import Problem, invalid

_LIMIT = 100
_LIMIT_BYTES = 10_000_000
_BOUNDARY = "batch_of_answers"
_LINE = re.compile(r"([A-Z]+) (/\S*) HTTP/1\.1")

Do = Callable[[Exchange], Awaitable[web.StreamResponse]]


class Batches:
    """Take batches apart, and put the answers together."""

    def __init__(self, do: Do) -> None:
        self._do = do

    async def answer(self, exchange: Exchange) -> web.StreamResponse:
        """Answer each part, in the order of the parts."""
        body = await exchange.read()
        if len(body) >= _LIMIT_BYTES:
            raise Problem(413, "EntityTooLarge", "uploadTooLarge", "the batch is too large")
        parts = _parts(body, _boundary(exchange.headers.get("Content-Type", "")))
        if len(parts) > _LIMIT:
            raise invalid("The batch request could not be processed: too many parts.")
        answers = []
        for content_id, part in parts:
            # "The HTTP headers for the outer batch request, except for the Content- headers such as
            # Content-Type, also apply to each nested request", unless that has its own.
            for name, value in exchange.headers.items():
                if not name.lower().startswith("content-") and name not in part.headers:
                    part.headers[name] = value
            inner = Exchange.of(part, exchange.pace)
            if not inner.operation.startswith("objects.") or inner.operation == "objects.get_media":
                raise invalid("The batch holds a request that is none for batches.")
            answers.append((content_id, await self._do(inner)))
        text = "".join(_written(content_id, response) for content_id, response in answers)
        return web.Response(
            body=f"{text}--{_BOUNDARY}--\r\n".encode(),
            headers={"Content-Type": f"multipart/mixed; boundary={_BOUNDARY}"},
        )


def _boundary(kind: str) -> str:
    message = Message()
    message["Content-Type"] = kind
    boundary = message.get_boundary()
    if message.get_content_type() != "multipart/mixed" or not boundary:
        raise invalid("Expected multipart/mixed with a boundary.")
    return boundary


def _parts(body: bytes, boundary: str) -> list[tuple[str | None, Part]]:
    """Take the body apart, which must be as RFC 2046, section 5.1.1 says."""
    text = body.decode("ascii")
    first, last = f"--{boundary}\r\n", f"\r\n--{boundary}--\r\n"
    if not text.startswith(first) or not text.endswith(last):
        raise invalid("Failed to parse batch request: no parts, or no end.")
    return [
        _part(piece) for piece in text.removeprefix(first).removesuffix(last).split(f"\r\n--{boundary}\r\n")
    ]


def _part(piece: str) -> tuple[str | None, Part]:
    about, blank, message = piece.partition("\r\n\r\n")
    fields = _fields(about)
    head, end, rest = message.partition("\r\n\r\n")
    line, _, lines = head.partition("\r\n")
    match = _LINE.fullmatch(line)
    if not blank or not end or rest or match is None or fields.get("Content-Type") != "application/http":
        raise invalid("Failed to parse batch request: a part is no HTTP request, or no application/http.")
    part = Part(method=match[1], raw_path=match[2], headers=_fields(lines))
    return fields.get("Content-ID"), part


def _fields(lines: str) -> CIMultiDict[str]:
    fields: CIMultiDict[str] = CIMultiDict()
    for line in lines.split("\r\n") if lines else []:
        name, separator, value = line.partition(": ")
        if not separator:
            raise invalid("Failed to parse batch request: a header is none.")
        fields[name] = value
    return fields


def _written(content_id: str | None, response: web.StreamResponse) -> str:
    """Write an answer; its id is the request's, with `response-` in front."""
    assert isinstance(response, web.Response)
    about = "Content-Type: application/http\r\n"
    if content_id is not None:
        marked = f"<response-{content_id[1:]}" if content_id.startswith("<") else f"response-{content_id}"
        about += f"Content-ID: {marked}\r\n"
    text = response.text or ""
    headers = {**response.headers, "Content-Length": str(len(text.encode()))}
    fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return (
        f"--{_BOUNDARY}\r\n{about}\r\nHTTP/1.1 {response.status} {response.reason}\r\n{fields}\r\n{text}\r\n"
    )
