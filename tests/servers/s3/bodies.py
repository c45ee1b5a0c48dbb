"""Request bodies, held to what the request says of them: size, hash, framing and checksum.

https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-auth-using-authorization-header.html
https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html
"""

from __future__ import annotations

import base64
import hashlib
import re

from aiohttp import web
from crc32c import crc32c

from tests.servers.s3.problems import Problem, invalid

_WITH_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
_MIN_CHUNK_BYTES = 8 << 10
_HASH = re.compile(r"[0-9a-f]{64}")


def decode(request: web.Request, raw: bytes, *, trailers: bool = True) -> tuple[bytes, int | None]:
    """Return the bytes meant, and the CRC-32C that came with them, which is theirs.

    Raises:
        Problem: the body is not what the request says.
    """
    said = request.headers.get("x-amz-content-sha256", "UNSIGNED-PAYLOAD")
    if said == _WITH_TRAILER:
        if not trailers:
            raise Problem(
                501, "NotImplemented", "A header you provided implies functionality not implemented."
            )
        data, given = _unframed(request, raw)
    elif said == "UNSIGNED-PAYLOAD" or _HASH.fullmatch(said):
        data, given = raw, request.headers.get("x-amz-checksum-crc32c")
        if said != "UNSIGNED-PAYLOAD" and hashlib.sha256(raw).hexdigest() != said:
            message = "The provided 'x-amz-content-sha256' header does not match what was computed."
            raise Problem(400, "XAmzContentSHA256Mismatch", message)
    else:
        raise Problem(400, "InvalidArgument", "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, …")
    if given is None:
        return data, None
    try:
        value = int.from_bytes(base64.b64decode(given, validate=True), "big")
    except ValueError:
        raise invalid("Value for x-amz-checksum-crc32c header is invalid.") from None
    if value != crc32c(data):
        raise Problem(400, "BadDigest", "The CRC32C you specified did not match the calculated checksum.")
    return data, value


def _unframed(request: web.Request, raw: bytes) -> tuple[bytes, str]:
    if "aws-chunked" not in request.headers.get("Content-Encoding", ""):
        raise invalid("The Content-Encoding must include aws-chunked.")
    name = request.headers.get("x-amz-trailer", "")
    if name != "x-amz-checksum-crc32c":
        raise invalid("The value specified in the x-amz-trailer header is not supported")
    if "x-amz-checksum-crc32c" in request.headers:
        raise invalid("Expecting a single x-amz-checksum- header")
    data, position, last = bytearray(), 0, 0
    while True:
        end = raw.find(b"\r\n", position)
        if end < 0 or not re.fullmatch(rb"[0-9a-f]+", raw[position:end]):
            raise Problem(400, "IncompleteBody", "The request body terminated unexpectedly")
        size = int(raw[position:end], 16)
        position = end + 2
        if size == 0:
            break
        if data and last < _MIN_CHUNK_BYTES:
            message = "Only the last chunk is allowed to have a size less than 8192 bytes"
            raise Problem(403, "InvalidChunkSizeError", message)
        data += raw[position : position + size]
        if raw[position + size : position + size + 2] != b"\r\n":
            raise Problem(400, "IncompleteBody", "The request body terminated unexpectedly")
        position, last = position + size + 2, size
    if request.headers.get("x-amz-decoded-content-length") != str(len(data)):
        raise Problem(400, "IncompleteBody", "You did not provide the number of bytes specified")
    trailer = re.fullmatch(rb"x-amz-checksum-crc32c:([A-Za-z0-9+/=]+)\r\n\r\n", raw[position:])
    if trailer is None:
        raise Problem(
            400, "MalformedTrailerError", "The request contained trailing data that was not well-formed"
        )
    return bytes(data), trailer.group(1).decode()
