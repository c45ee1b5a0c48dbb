"""One request, taken apart: which operation, on which container and blob."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from aiohttp import web
from multidict import CIMultiDict

from tests.servers.azure.problems import Problem
from tests.servers.azure.records import Blob, Container

_OPERATIONS: Mapping[tuple[str, bool, str], str] = {
    ("GET", False, "list"): "ListBlobs",
    ("POST", False, "batch"): "BlobBatch",
    ("HEAD", True, ""): "GetBlobProperties",
    ("GET", True, ""): "GetBlob",
    ("GET", True, "blocklist"): "GetBlockList",
    ("PUT", True, ""): "PutBlob",
    ("PUT", True, "block"): "PutBlock",
    ("PUT", True, "blocklist"): "PutBlockList",
    ("DELETE", True, ""): "DeleteBlob",
}
_COPIES = {"PutBlob": "CopyBlobFromURL", "PutBlock": "PutBlockFromURL"}
READING = frozenset({"ListBlobs", "GetBlobProperties", "GetBlob", "GetBlockList"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Be a request without a body inside a batch: as much of a `web.Request` as handlers of such ask for."""

    method: str
    raw_path: str
    headers: CIMultiDict[str]


@dataclass(slots=True, kw_only=True)
class Call:
    """Hold a request."""

    request: web.Request | Part
    path: str
    account: str
    container_name: str
    name: str
    query: Mapping[str, str]
    operation: str
    data: bytes = b""
    container: Container = field(init=False)

    @property
    def headers(self) -> Mapping[str, str]:
        """Return the headers, by names in any case."""
        return self.request.headers

    @property
    def there(self) -> Blob | None:
        """Return the blob that the request is about, if there is one."""
        return self.container.blobs.get(self.name)

    @classmethod
    def of(cls, request: web.Request | Part) -> Call:
        """Take a request apart; raises Problem."""
        path, _, text = request.raw_path.partition("?")
        query = {
            unquote(key): unquote(value)
            for key, _, value in (pair.partition("=") for pair in text.split("&") if pair)
        }
        account, _, rest = path[1:].partition("/")
        container, _, name = rest.partition("/")
        operation = _OPERATIONS.get((request.method, bool(name), query.get("comp", "")))
        if operation is None:
            raise Problem(405, "UnsupportedHttpVerb", "not a request of this test server")
        if "x-ms-copy-source" in request.headers:
            operation = _COPIES[operation]
        return cls(
            request=request,
            path=path,
            account=account,
            container_name=unquote(container),
            # "Azure Storage Server will replace \ with /": Azure/Azurite, blobStorageContext.middleware.ts
            name=unquote(name).replace("\\", "/"),
            query=query,
            operation=operation,
        )

    def range(self, header: str, size: int) -> tuple[int, int] | None:
        """Return the bytes that a header asks for (RFC 9110, section 14.2); None where it asks for none."""
        text = self.headers.get(header)
        if text is None:
            return None
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", text)
        if match is None:
            raise Problem(400, "InvalidHeaderValue", "this test server knows ranges from the beginning only")
        start, stop = int(match[1]), min(size, int(match[2]) + 1 if match[2] else size)
        if start >= size:
            raise Problem(
                416, "InvalidRange", "The range specified is invalid for the current size of the resource."
            )
        return start, stop
