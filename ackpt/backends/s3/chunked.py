"""A body in `aws-chunked` framing, whose checksum comes behind it: one pass over the bytes; pure.

https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Final

from ackpt.backends.base import Body
from ackpt.backends.http.crc32c import encode
from ackpt.backends.http.message import Content
from ackpt.backends.s3.checksums import CRC32C_HEADER
from ackpt.backends.s3.signature import CONTENT_HEADER, UNSIGNED_WITH_TRAILER
from ackpt.errors import StorageError
from ackpt.options import MiB

CHUNK_BYTES: Final = 1 * MiB
"""At least 8 KiB, but for the last (…/sigv4-streaming.html); MinIO takes up to 16 MiB."""

_TRAILER_BYTES: Final = len(f"0\r\n{CRC32C_HEADER}:{encode(0)}\r\n\r\n")


def chunked(body: Body) -> tuple[Content, dict[str, str]]:
    """Return a body with its CRC-32C as a trailer, and the headers that announce that."""
    headers = {
        "content-encoding": "aws-chunked",
        "x-amz-decoded-content-length": str(body.size),
        "x-amz-trailer": CRC32C_HEADER,
        CONTENT_HEADER: UNSIGNED_WITH_TRAILER,
    }
    return Content(blocks=partial(_framed, body), size=_framed_size(body.size)), headers


async def _framed(body: Body) -> AsyncGenerator[bytes | memoryview, None]:
    sent, room = 0, 0
    async with aclosing(body.__aiter__()) as blocks:
        async for block in blocks:
            if sent + len(block) > body.size:
                raise StorageError(f"a body of {body.size} bytes gave more")
            while len(block):
                if not room:
                    room = min(CHUNK_BYTES, body.size - sent)
                    yield f"{room:x}\r\n".encode()
                piece = block[:room]
                yield piece
                sent += len(piece)
                room -= len(piece)
                block = block[len(piece) :]
                if not room:
                    yield b"\r\n"
    if sent != body.size:
        raise StorageError(f"a body of {body.size} bytes gave {sent}")
    yield f"0\r\n{CRC32C_HEADER}:{encode(await body.crc32c())}\r\n\r\n".encode()


def _framed_size(size: int) -> int:
    whole, rest = divmod(size, CHUNK_BYTES)
    framed = whole * (len(f"{CHUNK_BYTES:x}") + 4 + CHUNK_BYTES)
    if rest:
        framed += len(f"{rest:x}") + 4 + rest
    return framed + _TRAILER_BYTES
