"""Who asks: by the account's key, a shared access signature, a token, or nobody.

https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key
https://learn.microsoft.com/rest/api/storageservices/create-service-sas
https://learn.microsoft.com/rest/api/storageservices/create-account-sas
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.servers.azure.calls import READING, Call
from tests.servers.azure.problems import Problem

_SKEW = timedelta(minutes=15)
_HEADERS = (
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


@dataclass(slots=True, kw_only=True)
class Credentials:
    """Hold what opens the account. `tokens` are valid until a moment; `readers` may only read."""

    account: str
    key: bytes
    tokens: dict[str, datetime] = field(default_factory=dict)
    readers: set[str] = field(default_factory=set)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def admit(self, call: Call) -> None:
        """Let a request in.

        Raises:
            Problem: it may not do this.
        """
        given = call.headers.get("Authorization")
        if "sig" in call.query:
            self._signed(call.query, call.container_name, call.name, reading=call.operation in READING)
        elif given is None:
            if not (call.container.public and call.operation in READING):
                raise Problem(
                    401,
                    "NoAuthenticationInformation",
                    "Server failed to authenticate the request.",
                    {"WWW-Authenticate": "Bearer"},
                )
        elif given.startswith("SharedKey "):
            self._shared_key(call, given)
        else:
            self._token(given)
            if given.removeprefix("Bearer ") in self.readers and call.operation not in READING:
                raise Problem(
                    403,
                    "AuthorizationPermissionMismatch",
                    "This request is not authorized to perform this operation using this permission.",
                )

    def admit_source(self, call: Call) -> None:
        """Let the server read `x-ms-copy-source` on the caller's behalf: by its query, or a token lent.

        https://learn.microsoft.com/rest/api/storageservices/copy-blob-from-url#authorization
        """
        source = urlsplit(call.headers["x-ms-copy-source"])
        _, _, container, name = unquote(source.path).split("/", 3)
        query = dict(parse_qsl(source.query))
        lent = call.headers.get("x-ms-copy-source-authorization")
        if "sig" in query:
            self._signed(query, container, name, reading=True)
        elif lent is not None:
            self._token(lent)
        elif not call.container.public:
            raise Problem(404, "CannotVerifyCopySource", "The specified resource does not exist.")

    def _shared_key(self, call: Call, given: str) -> None:
        self._check_date(call)
        values = {name.lower(): value for name, value in call.headers.items()}
        if values.get("content-length") == "0":
            values["content-length"] = ""
        lines = [call.request.method, *(values.get(name, "") for name in _HEADERS)]
        lines += [f"{name}:{values[name]}" for name in sorted(values) if name.startswith("x-ms-")]
        lines += [f"/{call.account}{call.path}"]
        lines += [f"{name.lower()}:{value}" for name, value in sorted(call.query.items())]
        if given != f"SharedKey {self.account}:{self._sign(lines)}":
            raise _failed(
                "The MAC signature found in the HTTP request is not the same as any computed signature."
            )

    def _check_date(self, call: Call) -> None:
        """https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key#specifying-the-date-header"""
        text = call.headers.get("x-ms-date", "")
        if not text or abs(parsedate_to_datetime(text) - self.now()) > _SKEW:
            raise _failed(
                f"Request date header too old: '{text}'", {"Date": format_datetime(self.now(), usegmt=True)}
            )

    def _token(self, given: str) -> None:
        ends = self.tokens.get(given.removeprefix("Bearer "))
        if ends is None or ends <= self.now():
            raise Problem(
                401,
                "InvalidAuthenticationInfo",
                "Server failed to authenticate the request. Please refer to the www-authenticate header.",
                {"WWW-Authenticate": 'Bearer error="invalid_token"'},
                AuthenticationErrorDetail="Lifetime validation failed. The token is expired.",
            )

    def _signed(self, query: Mapping[str, str], container: str, name: str, *, reading: bool) -> None:
        """Check a service SAS of a blob or of a container, or an account SAS."""
        part = query.get
        if "ss" in query:
            lines = [
                self.account,
                *(part(each, "") for each in ("sp", "ss", "srt", "st", "se", "sip", "spr", "sv", "ses")),
                "",
            ]
        else:
            place = f"/blob/{self.account}/{container}" + (f"/{name}" if part("sr") == "b" else "")
            lines = [part("sp", ""), part("st", ""), part("se", ""), place]
            lines += [part(each, "") for each in ("si", "sip", "spr", "sv", "sr", "snapshot", "ses")] + [
                ""
            ] * 5
        if part("sig") != self._sign(lines):
            raise _failed("Signature did not match.")
        if datetime.fromisoformat(query["se"]) <= self.now():
            raise _failed(f"Signature not valid in the specified time frame: Expiry [{query['se']}]")
        if not reading and "w" not in query["sp"]:
            raise Problem(403, "AuthorizationPermissionMismatch", "This request is not authorized.")

    def _sign(self, lines: list[str]) -> str:
        text = "\n".join(lines)
        return base64.b64encode(hmac.new(self.key, text.encode(), hashlib.sha256).digest()).decode()

    def account_sas(self, permissions: str, life: timedelta) -> str:
        """Make a signature that opens the whole account."""
        fields = {
            "sv": "2021-12-02",
            "ss": "b",
            "srt": "co",
            "sp": permissions,
            "se": (self.now() + life).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        lines = [self.account, fields["sp"], "b", "co", "", fields["se"], "", "", fields["sv"], "", ""]
        signature = self._sign(lines).replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")
        return "&".join([*(f"{name}={value}" for name, value in fields.items()), f"sig={signature}"])


def _failed(detail: str, headers: Mapping[str, str] | None = None) -> Problem:
    return Problem(
        403,
        "AuthenticationFailed",
        "Server failed to authenticate the request. Make sure the value of Authorization header is formed "
        "correctly including the signature.",
        headers,
        AuthenticationErrorDetail=detail,
    )
