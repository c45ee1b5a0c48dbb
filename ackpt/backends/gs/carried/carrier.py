"""What a library has to carry: the few requests that the backend is made of, each sent once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from ackpt.backends.base import Body, ObjectInfo
from ackpt.backends.http.purpose import Purpose

COMPOSE_LIMIT = 32
"""Objects that one request puts together: https://cloud.google.com/storage/docs/composite-objects#considerations"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Hold one page of a listing, and what asks for the next one; empty at the end."""

    infos: Sequence[ObjectInfo]
    token: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewritten:
    """Hold what came of one request of a copy: the copy, or the token that goes on with it."""

    info: ObjectInfo | None = None
    token: str = ""


class Carrier(ABC):
    """Send requests about one bucket through a library, with its credentials and its connections.

    Names are whole, and are the keys of the infos returned. `match` is a generation that must be
    live, "0" for none. No method tries a second time. What a library raises is translated here;
    the purpose says whom an error is about.
    """

    @abstractmethod
    async def insert(
        self, name: str, body: Body, crc32c: int, match: str | None, purpose: Purpose
    ) -> ObjectInfo:
        """Write an object, streamed; the store is told the checksum, and refuses other bytes.

        Raises:
            ChecksumMismatchError: it did.
            AlreadyExistsError, ConditionFailedError: `match` is not live.
        """

    @abstractmethod
    def read(
        self, name: str, version: str, start: int, stop: int, purpose: Purpose
    ) -> AsyncGenerator[bytes, None]:
        """Iterate over the bytes `start` to `stop` of one generation; the range is within the object."""

    @abstractmethod
    async def describe(self, name: str, purpose: Purpose) -> ObjectInfo:
        """Describe the live object, NotFoundError where there is none."""

    @abstractmethod
    async def page(self, prefix: str, token: str, purpose: Purpose, *, limit: int | None = None) -> Page:
        """Return one page of the objects whose names begin with `prefix`."""

    @abstractmethod
    async def delete(self, name: str, match: str | None, purpose: Purpose) -> None:
        """Delete the live object; NotFoundError where there is none."""

    @abstractmethod
    async def compose(
        self, sources: Sequence[ObjectInfo], name: str, match: str | None, purpose: Purpose
    ) -> ObjectInfo:
        """Make an object of up to `COMPOSE_LIMIT` others, of exactly these generations, in this order.

        https://cloud.google.com/storage/docs/json_api/v1/objects/compose
        """

    @abstractmethod
    async def rewrite(
        self, source: ObjectInfo, name: str, token: str, match: str | None, purpose: Purpose
    ) -> Rewritten:
        """Copy an object of exactly this generation, or go on with that.

        https://cloud.google.com/storage/docs/json_api/v1/objects/rewrite
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Close the connections; idempotent. A request after it is a ClosedError."""
