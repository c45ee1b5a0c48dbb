"""Requests signed with keys: signature version 4, by botocore's signer.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

import botocore.auth
import botocore.awsrequest
import botocore.credentials

from ackpt.backends.http.authorization import Authorization
from ackpt.backends.http.message import Request
from ackpt.backends.http.refusal import Refusal
from ackpt.backends.http.renewal import Renewal
from ackpt.backends.s3.credentials import Chain, Keys
from ackpt.errors import StorageError

_log = logging.getLogger(__name__)

CONTENT_HEADER: Final = "x-amz-content-sha256"
UNSIGNED: Final = "UNSIGNED-PAYLOAD"
UNSIGNED_WITH_TRAILER: Final = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"

_RENEW_SECS: Final = 180.0
_PAUSE_SECS: Final = 30.0
_REFUSED_KEYS: Final = frozenset(
    {"ExpiredToken", "TokenRefreshRequired", "InvalidAccessKeyId", "InvalidToken"}
)


class Signatures(Authorization):
    """Sign requests with the keys that botocore finds, renewed before they expire."""

    def __init__(
        self, chain: Chain, region: Callable[[], str], *, now: Callable[[], datetime] | None = None
    ) -> None:
        """Make them without any I/O; `region` is asked at every request."""
        self._chain = chain
        self._region = region
        self._now = now or (lambda: datetime.now(UTC))
        self._keys: Keys | None = None
        self._wait_until = 0.0
        self._current = Renewal(chain.keys, what="credentials for s3://", limit_secs=_RENEW_SECS)
        self._anew = Renewal(chain.found_again, what="credentials for s3://", limit_secs=_RENEW_SECS)

    async def headers(self, request: Request) -> Mapping[str, str]:
        """Return signature, date and token; see `Authorization.headers`."""
        return sign(request, await self._valid_keys(), region=self._region(), now=self._now())

    async def renew(self, refused: Mapping[str, str], refusal: Refusal) -> bool:
        """Look for keys anew, unless another request has done so since `refused` was signed."""
        if refusal.code not in _REFUSED_KEYS:
            return False
        if self._keys is not None and _signed_with(self._keys, refused):
            self._keys = await self._anew()
        return self._keys is not None and not _signed_with(self._keys, refused)

    async def aclose(self) -> None:
        """Give up a renewal under way."""
        await self._current.aclose()
        await self._anew.aclose()

    async def _valid_keys(self) -> Keys:
        if self._keys is None:
            self._keys = await self._current()
        elif self._chain.stale and time.monotonic() >= self._wait_until:
            try:
                self._keys = await self._current()
            except StorageError as error:
                # Stale is not expired: if these keys are refused, the store says so.
                self._wait_until = time.monotonic() + _PAUSE_SECS
                _log.warning(
                    "the credentials for s3:// could not be renewed yet, and are used as they are: %s", error
                )
        return self._keys


def sign(request: Request, keys: Keys, *, region: str, now: datetime) -> dict[str, str]:
    """Return the headers that sign `request`.

    What the body is to be held to is in its `x-amz-content-sha256`; without that, the bytes' hash.
    The signer's parts are called one by one: its `add_auth` logs what it signs, which includes
    tokens and keys.
    """
    given: dict[str, str] = {"x-amz-date": now.strftime("%Y%m%dT%H%M%SZ")}
    if keys.token is not None:
        given["x-amz-security-token"] = keys.token
    if CONTENT_HEADER not in request.headers:
        data = b"" if request.content is None else request.content.data
        given[CONTENT_HEADER] = UNSIGNED if data is None else hashlib.sha256(data).hexdigest()
    kind = {} if request.content is None else {"content-type": request.content.kind}
    signer = botocore.auth.S3SigV4Auth(
        botocore.credentials.ReadOnlyCredentials(keys.access_key, keys.secret_key, keys.token), "s3", region
    )
    unsigned = botocore.awsrequest.AWSRequest(
        method=request.method, url=str(request.url), headers={**kind, **request.headers, **given}
    )
    unsigned.context["timestamp"] = given["x-amz-date"]
    text = signer.string_to_sign(unsigned, signer.canonical_request(unsigned))
    given["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={signer.scope(unsigned)}, "
        f"SignedHeaders={signer.signed_headers(signer.headers_to_sign(unsigned))}, "
        f"Signature={signer.signature(text, unsigned)}"
    )
    return given


def _signed_with(keys: Keys, headers: Mapping[str, str]) -> bool:
    same_key = f"Credential={keys.access_key}/" in headers.get("authorization", "")
    return same_key and headers.get("x-amz-security-token") == keys.token
