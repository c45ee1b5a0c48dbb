"""An answer with an error status: what it says, and what a store's own dialect makes of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from ackpt.backends.http.purpose import Purpose
from ackpt.errors import StorageError

_MESSAGE_CHARS = 300
_TOKEN = re.compile(r"\b(Bearer|Basic) [\w.~+/=-]+", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Hold what an answer with an error status says.

    `code` is the store's own name of the error; empty where the body is none of its error
    documents (a proxy's page, another server's). `details` are further words of the answer that
    the dialect keeps for its errors.
    """

    status: int
    code: str = ""
    message: str = ""
    retry_after_secs: float | None = None
    details: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        status: int,
        headers: Mapping[str, str],
        code: str,
        message: str,
        details: Mapping[str, str] | None = None,
    ) -> Refusal:
        """Make one: the message on one line, cut, without a token it repeats; `Retry-After` read."""
        return cls(
            status=status,
            code=code,
            message=_TOKEN.sub(r"\1 …", " ".join(message.split()))[:_MESSAGE_CHARS],
            retry_after_secs=parse_retry_after(headers.get("Retry-After"), datetime.now(UTC)),
            details=details or {},
        )

    def __str__(self) -> str:
        return ", ".join(part for part in (f"HTTP {self.status}", self.code, self.message) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """Hold how one kind of store says no: `read` understands an answer, `translate` chooses the error.

    `read` takes the status, the headers and the beginning of the body.
    """

    read: Callable[[int, Mapping[str, str], bytes], Refusal]
    translate: Callable[[Purpose, Refusal], StorageError]


def parse_retry_after(text: str | None, now: datetime) -> float | None:
    """Read `Retry-After`, seconds or a date (RFC 9110, section 10.2.3); None for neither."""
    if text is None:
        return None
    if text.strip().isascii() and text.strip().isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())
