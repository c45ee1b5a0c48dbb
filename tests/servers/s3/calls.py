"""One request, taken apart: which operation, on which bucket and object."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from aiohttp import web

from tests.servers.s3.problems import Problem, invalid
from tests.servers.s3.records import Bucket

_HOST = re.compile(r"(?:(?P<bucket>.+)\.)?s3\.(?P<region>[a-z0-9-]+)\.amazonaws\.com")

# By method, whether there is a name, and a word in the query or a header.
_OPERATIONS = (
    ("HEAD", False, None, "HeadBucket"),
    ("GET", False, "list-type", "ListObjectsV2"),
    ("GET", False, "uploads", "ListMultipartUploads"),
    ("POST", False, "delete", "DeleteObjects"),
    ("HEAD", True, None, "HeadObject"),
    ("GET", True, "uploadId", "ListParts"),
    ("GET", True, None, "GetObject"),
    ("PUT", True, "uploadId", "UploadPart"),
    ("PUT", True, None, "PutObject"),
    ("DELETE", True, "uploadId", "AbortMultipartUpload"),
    ("DELETE", True, None, "DeleteObject"),
    ("POST", True, "uploads", "CreateMultipartUpload"),
    ("POST", True, "uploadId", "CompleteMultipartUpload"),
)


@dataclass(slots=True, kw_only=True)
class Call:
    """Hold a request; `host_region` is what the host's name says, None where it says nothing."""

    request: web.Request
    bucket_name: str
    name: str
    host_region: str | None
    query: Mapping[str, str]
    operation: str
    data: bytes = b""
    crc32c: int | None = None
    bucket: Bucket = field(init=False)

    @property
    def headers(self) -> Mapping[str, str]:
        """Return the headers, by names in any case."""
        return self.request.headers

    @classmethod
    def of(cls, request: web.Request) -> Call:
        """Take a request apart: the bucket is in the host's name or in the path.

        https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html
        """
        path, _, text = request.raw_path.partition("?")
        if "://" in path:  # sent to a proxy
            path = "/" + path.split("://", 1)[1].partition("/")[2]
        query = {
            unquote(key): unquote(value)
            for key, _, value in (pair.partition("=") for pair in text.split("&") if pair)
        }
        match = _HOST.fullmatch(request.headers.get("Host", ""))
        if match is not None and match["bucket"]:
            bucket, name = match["bucket"], path[1:]
        else:
            bucket, _, name = path[1:].partition("/")
        return cls(
            request=request,
            bucket_name=unquote(bucket),
            name=unquote(name),
            host_region=None if match is None else match["region"],
            query=query,
            operation=_operation(request, bool(name), query),
        )

    def range(self, size: int) -> tuple[int, int] | None:
        """Return the bytes that `Range` asks for (RFC 9110, section 14.2); None where it asks for none.

        Raises:
            Problem: it begins behind the end.
        """
        text = self.headers.get("Range")
        if text is None:
            return None
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", text)
        if match is None:
            raise invalid("this test server knows ranges from the beginning only")
        start, stop = int(match[1]), min(size, int(match[2]) + 1 if match[2] else size)
        if start >= size:
            message = "The requested range is not satisfiable"
            raise Problem(416, "InvalidRange", message, {"Content-Range": f"bytes */{size}"})
        return start, stop


def _operation(request: web.Request, named: bool, query: Mapping[str, str]) -> str:
    for method, with_name, word, operation in _OPERATIONS:
        if (method, with_name) == (request.method, named) and (word is None or word in query):
            if operation in ("PutObject", "UploadPart") and "x-amz-copy-source" in request.headers:
                return {"PutObject": "CopyObject", "UploadPart": "UploadPartCopy"}[operation]
            return operation
    raise Problem(405, "MethodNotAllowed", "not a request of this test server")
