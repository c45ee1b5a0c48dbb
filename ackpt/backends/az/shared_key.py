"""Signatures made with an account's key: of requests, and of a permission to read one blob; pure.

https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key
https://learn.microsoft.com/rest/api/storageservices/create-service-sas
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Final
from urllib.parse import unquote, urlencode

from yarl import URL

from ackpt.backends.http.message import Request

_STANDARD: Final = (
    "content-encoding",
    "content-language",
    "content-length",
    "content-md5",
    "content-type",
    "date",
    "if-modified-since",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    "range",
)
_SAS_VERSION: Final = "2021-12-02"
_SAS_LIFE: Final = timedelta(hours=1)


def sign(request: Request, *, account: str, key: bytes, now: datetime) -> dict[str, str]:
    """Return the headers that sign `request` for `account`."""
    given = {"x-ms-date": http_date(now)}
    headers = {name.lower(): value for name, value in {**request.headers, **given}.items()}
    if request.content is not None:
        headers["content-type"] = request.content.kind
        # From version 2015-02-21 on, no length where it is zero.
        headers["content-length"] = str(request.content.size or "")
    text = "\n".join(
        [
            request.method,
            *(headers.get(name, "") for name in _STANDARD),
            *(f"{name}:{headers[name]}" for name in sorted(headers) if name.startswith("x-ms-")),
            _resource(request.url, account),
        ]
    )
    return {**given, "authorization": f"SharedKey {account}:{_signature(key, text)}"}


def reading_sas(container: str, name: str, *, account: str, key: bytes, now: datetime) -> str:
    """Return a query that lets whoever has it read one blob, for an hour."""
    expiry = (now + _SAS_LIFE).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    fields = {"sp": "r", "se": expiry, "sv": _SAS_VERSION, "sr": "b"}
    text = "\n".join(
        [
            fields["sp"],
            "",  # start
            fields["se"],
            f"/blob/{account}/{container}/{name}",
            "",  # stored access policy
            "",  # addresses
            "",  # protocols
            fields["sv"],
            fields["sr"],
            "",  # snapshot
            "",  # encryption scope
            *[""] * 5,  # headers of the answer
        ]
    )
    return urlencode({**fields, "sig": _signature(key, text)})


def http_date(moment: datetime) -> str:
    """Write a moment as HTTP does (RFC 9110, section 5.6.7)."""
    return format_datetime(moment.astimezone(UTC), usegmt=True)


def _resource(url: URL, account: str) -> str:
    """Write the path as it is encoded, and the query's parameters decoded, by name."""
    pairs: Mapping[str, str] = {
        unquote(name).lower(): unquote(value)
        for name, _, value in (pair.partition("=") for pair in url.raw_query_string.split("&") if pair)
    }
    return "\n".join(
        [f"/{account}{url.raw_path}", *(f"{name}:{value}" for name, value in sorted(pairs.items()))]
    )


def _signature(key: bytes, text: str) -> str:
    return base64.b64encode(hmac.new(key, text.encode(), hashlib.sha256).digest()).decode()
