"""What goes over a connection: a request with its purpose and its body, and the answer to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from multidict import CIMultiDictProxy
from yarl import URL

from ackpt.backends.http.payload import Blocks, whole
from ackpt.backends.http.purpose import Purpose


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """Hold a request's body: its blocks, which can be begun again, their size and their type.

    `data` are the bytes themselves where they are in memory as one piece. Those that are `in_hand`
    are in memory: reading them cannot fail.
    """

    blocks: Blocks
    size: int
    kind: str = "application/octet-stream"
    data: bytes | None = field(default=None, repr=False)
    in_hand: bool = False

    @classmethod
    def of(cls, data: bytes, kind: str = "application/octet-stream") -> Content:
        """Make a body of bytes."""
        return cls(blocks=whole(data), size=len(data), kind=kind, data=data, in_hand=True)

    @classmethod
    def held(cls, pieces: Sequence[bytes | memoryview], kind: str = "application/octet-stream") -> Content:
        """Make a body of pieces in memory, which stay as they are until the request has ended."""
        return cls(blocks=whole(*pieces), size=sum(map(len, pieces)), kind=kind, in_hand=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Hold one request; `ok` are the statuses that are answers, any other is an error.

    `timeout_secs`, where given, is the time until the answer begins. Without `authorize` nothing
    is sent that tells who we are: for an address that somebody else gave us.
    """

    method: str
    url: URL = field(repr=False)
    purpose: Purpose
    ok: frozenset[int] = frozenset({200})
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    content: Content | None = None
    timeout_secs: float | None = None
    authorize: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """Hold an answer whose body has been read."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes = field(repr=False)
