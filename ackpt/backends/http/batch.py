"""Several requests in one, and the answers to them: `multipart/mixed` bodies; pure.

The parts are HTTP messages (RFC 2046, section 5.1; RFC 9112). Cloud Storage and Azure both speak
this, and both keep a part's `Content-ID`, by which an answer is known.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from email.message import Message
from typing import Final

from multidict import CIMultiDict

from ackpt.backends.http.message import Content, Reply, Request

_NUMBER: Final = re.compile(r"(\d+)>?\s*")
_BLANK: Final = re.compile(rb"\r?\n\r?\n")
_STATUS: Final = re.compile(rb"HTTP/\d\.\d (\d{3})\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Hold one part of an answer; `number` is the request's, None where the part is about all of them."""

    number: int | None
    status: int
    headers: CIMultiDict[str]
    body: bytes = field(repr=False)


def batch(requests: Sequence[Request]) -> Content:
    """Put requests without bodies into one body; their numbers are 0, 1 and so on."""
    boundary = f"batch_{secrets.token_hex(16)}"
    parts = [
        f"--{boundary}\r\n"
        "Content-Type: application/http\r\n"
        "Content-Transfer-Encoding: binary\r\n"
        f"Content-ID: {number}\r\n"
        "\r\n"
        f"{_head(request)}\r\n\r\n\r\n"
        for number, request in enumerate(requests)
    ]
    return Content.of(f"{''.join(parts)}--{boundary}--\r\n".encode(), f"multipart/mixed; boundary={boundary}")


def _head(request: Request) -> str:
    fields = [f"{name}: {value}" for name, value in request.headers.items()]
    return "\r\n".join([f"{request.method} {request.url.raw_path_qs} HTTP/1.1", *fields])


def answers(reply: Reply) -> list[Answer] | None:
    """Read the parts of an answer, those that came whole; None for what is no such answer."""
    kind = Message()
    kind["Content-Type"] = reply.headers.get("Content-Type", "")
    boundary = kind.get_boundary()
    if kind.get_content_type() != "multipart/mixed" or not boundary:
        return None
    pieces = re.split(rb"(?:^|\n)--" + re.escape(boundary.encode()), reply.body)
    found = [_answer(piece) for piece in pieces[1:-1]]
    return [answer for answer in found if answer is not None]


def _answer(part: bytes) -> Answer | None:
    about, message = _split(part)
    head, body = _split(message)
    first, _, rest = head.partition(b"\n")
    status = _STATUS.match(first)
    if status is None:
        return None
    number = _NUMBER.search(_fields(about).get("Content-ID", ""))
    return Answer(
        number=None if number is None else int(number[1]),
        status=int(status[1]),
        headers=_fields(rest),
        body=body.strip(),
    )


def _split(message: bytes) -> tuple[bytes, bytes]:
    """Return what comes before the first blank line, and what comes behind it."""
    head, *rest = _BLANK.split(message, maxsplit=1)
    return head, b"".join(rest)


def _fields(lines: bytes) -> CIMultiDict[str]:
    fields: CIMultiDict[str] = CIMultiDict()
    for line in lines.decode("latin-1").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields.add(name.strip(), value.strip())
    return fields
