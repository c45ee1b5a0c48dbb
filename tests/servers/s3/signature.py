"""Signature version 4, checked: written from the documentation, and from no client.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, unquote

from aiohttp import web

from tests.servers.s3.problems import Problem
from tests.servers.s3.records import Key

_SKEW_SECS = 15 * 60
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/,]+)/(?P<date>\d{8})/(?P<region>[^/,]+)/(?P<service>[^/,]+)/"
    r"aws4_request, ?SignedHeaders=(?P<headers>[a-z0-9;-]+), ?Signature=(?P<signature>[0-9a-f]{64})"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """Find out who sends a request; `now` returns POSIX time."""

    keys: Mapping[str, Key]
    now: Callable[[], float] = time.time

    def caller(self, request: web.Request, region: str) -> Key | None:
        """Return whose request it is, None for nobody's.

        Raises:
            Problem: it is signed, and not as it must be.
        """
        header = request.headers.get("Authorization")
        if header is None:
            return None
        match = _AUTHORIZATION.fullmatch(header)
        if match is None:
            raise Problem(400, "AuthorizationHeaderMalformed", "The authorization header is malformed.")
        key = self._key(request, match)
        if match["region"] != region:
            message = f"the region '{match['region']}' is wrong; expecting '{region}'"
            raise Problem(400, "AuthorizationHeaderMalformed", message, Region=region)
        if match["service"] != "s3":
            raise Problem(400, "AuthorizationHeaderMalformed", "incorrect service")
        self._check_date(request, match["date"])
        signed = match["headers"].split(";")
        _check_signed(request, signed)
        expected = _signature(request, key, match["date"], region, signed)
        if not hmac.compare_digest(expected, match["signature"]):
            raise Problem(
                403,
                "SignatureDoesNotMatch",
                "The request signature we calculated does not match the signature you provided.",
            )
        return key

    def _key(self, request: web.Request, match: re.Match[str]) -> Key:
        """https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html (ExpiredToken, InvalidToken)"""
        key = self.keys.get(match["key"])
        if key is None:
            message = "The AWS access key ID that you provided does not exist in our records."
            raise Problem(403, "InvalidAccessKeyId", message)
        if request.headers.get("x-amz-security-token") != key.token:
            raise Problem(400, "InvalidToken", "The provided token is malformed or otherwise not valid.")
        if key.ends is not None and key.ends < self.now():
            raise Problem(400, "ExpiredToken", "The provided token has expired.")
        return key

    def _check_date(self, request: web.Request, date: str) -> None:
        """The time must be within 15 minutes, and its day that of the scope."""
        text = request.headers.get("x-amz-date", "")
        try:
            moment = datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        except ValueError:
            raise Problem(403, "AccessDenied", "AWS authentication requires a valid Date") from None
        if not text.startswith(date):
            raise Problem(400, "AuthorizationHeaderMalformed", "Invalid credential date")
        if abs(moment.timestamp() - self.now()) > _SKEW_SECS:
            raise Problem(
                403,
                "RequestTimeTooSkewed",
                "The difference between the request time and the server's time is too large.",
                RequestTime=text,
                ServerTime=datetime.fromtimestamp(self.now(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            )


def _check_signed(request: web.Request, signed: list[str]) -> None:
    """Want the host, the content's type and every `x-amz-` header signed, in alphabetical order."""
    wanted = {"host"} | {
        name.lower()
        for name in request.headers
        if name.lower().startswith("x-amz-") or name.lower() == "content-type"
    }
    if signed != sorted(signed) or wanted - set(signed):
        missing = ", ".join(sorted(wanted - set(signed)))
        raise Problem(
            403, "AccessDenied", f"There were headers present in the request which were not signed: {missing}"
        )
    if "x-amz-content-sha256" not in request.headers:
        raise Problem(400, "MissingSecurityHeader", "Missing required header: x-amz-content-sha256")


def _signature(request: web.Request, key: Key, date: str, region: str, signed: list[str]) -> str:
    path, _, query = request.raw_path.partition("?")
    if "://" in path:  # sent to a proxy
        path = "/" + path.split("://", 1)[1].partition("/")[2]
    pairs = sorted(
        (_encode(unquote(name)), _encode(unquote(value)))
        for name, _, value in (pair.partition("=") for pair in query.split("&") if pair)
    )
    headers = [
        f"{name}:{','.join(' '.join(value.split()) for value in request.headers.getall(name, ['']))}\n"
        for name in signed
    ]
    canonical = "\n".join(
        [
            request.method,
            "/".join(_encode(unquote(segment)) for segment in path.split("/")),
            "&".join(f"{name}={value}" for name, value in pairs),
            "".join(headers),
            ";".join(signed),
            request.headers["x-amz-content-sha256"],
        ]
    )
    scope = f"{date}/{region}/s3/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join(["AWS4-HMAC-SHA256", request.headers["x-amz-date"], scope, digest])
    secret = f"AWS4{key.secret_key}".encode()
    for step in (date, region, "s3", "aws4_request"):
        secret = hmac.new(secret, step.encode(), hashlib.sha256).digest()
    return hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()


def _encode(text: str) -> str:
    """Encode every byte but letters, digits and `-._~` ("UriEncode")."""
    return quote(text, safe="-._~")
