"""The faults that can be put into a backend's requests: each is one thing that real stores do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass

from ackpt.backends.base import Body, Condition, Upload
from ackpt.errors import AuthenticationError, TransientError
from ackpt.testing.bodies import CutBody, DamagedBody, InterruptedBody


@dataclass(slots=True, kw_only=True)
class Request:
    """Describe one request as the log keeps it.

    `operation` is the name of the method; `number` is a part's; `size` is in bytes, of the body, or
    of what was read so far. `fault` names the fault that was put in. `outcome` is `running`, `done`,
    or the name of the error (also `CancelledError`) that it ended with.
    """

    operation: str
    key: str
    number: int | None = None
    size: int = 0
    condition: Condition | None = None
    upload: Upload | None = None
    fault: str | None = None
    outcome: str = "running"


class SimulatedCrash(BaseException):
    """Stand for the death of the process: no handler of errors may go on after it."""


class Fault:
    """Do nothing wrong; the base of all faults, which override what they disturb.

    Of a request with a body, a fault in its bytes strikes while the store reads them.
    """

    async def before(self, request: Request) -> None:
        """Come before the store hears of the request."""

    async def after(self, request: Request) -> None:
        """Come after the store has done what was asked, before the caller knows."""

    def body(self, body: Body, request: Request) -> Body:
        """Change what the store gets."""
        return body

    def blocks(self, blocks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """Change what the caller gets."""
        return blocks


@dataclass(frozen=True, slots=True)
class Fails(Fault):
    """Raise what `error` makes, before the effect or after it."""

    error: Callable[[Request], BaseException]
    late: bool = False

    async def before(self, request: Request) -> None:
        """Raise it, unless `late`."""
        if not self.late:
            raise self.error(request)

    async def after(self, request: Request) -> None:
        """Raise it."""
        raise self.error(request)


@dataclass(frozen=True, slots=True)
class Unavailable(Fault):
    """Answer 503 or 429 before the effect, perhaps with the store's wish how long to wait."""

    status: int = 503
    retry_after_secs: float | None = None

    async def before(self, request: Request) -> None:
        """Raise a TransientError."""
        raise TransientError(
            f"{request.key}: the store answered {self.status}",
            key=request.key,
            retry_after_secs=self.retry_after_secs,
        )


@dataclass(frozen=True, slots=True)
class Reset(Fault):
    """Reset the connection before the store hears of the request, or after `after_bytes` of its body."""

    after_bytes: int | None = None

    async def before(self, request: Request) -> None:
        """Raise a TransientError, unless the body is to do it."""
        if self.after_bytes is None:
            raise _reset(request)

    def body(self, body: Body, request: Request) -> Body:
        """Let the body raise it halfway."""
        if self.after_bytes is None:
            return body

        async def turn() -> None:
            raise _reset(request)

        return InterruptedBody(body, self.after_bytes, turn)


@dataclass(frozen=True, slots=True)
class LostReply(Fault):
    """Reset the connection after the store has done it: of a put, a part, a completion, a delete."""

    async def after(self, request: Request) -> None:
        """Raise a TransientError."""
        raise _reset(request)


@dataclass(frozen=True, slots=True)
class Stall(Fault):
    """Do not go on until `until` is set (perhaps never), before the effect or after it.

    With `after_bytes`, of a request with a body: when so much of it has been sent.
    """

    until: asyncio.Event
    late: bool = False
    after_bytes: int | None = None

    async def before(self, request: Request) -> None:
        """Wait, unless `late` or in the body."""
        if not self.late and self.after_bytes is None:
            await self.until.wait()

    def body(self, body: Body, request: Request) -> Body:
        """Let the body wait halfway."""
        return body if self.after_bytes is None else InterruptedBody(body, self.after_bytes, self.until.wait)

    async def after(self, request: Request) -> None:
        """Wait, if `late`."""
        if self.late:
            await self.until.wait()


@dataclass(frozen=True, slots=True)
class Slow(Fault):
    """Take `secs` more, by a clock that may be simulated."""

    secs: float
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep

    async def before(self, request: Request) -> None:
        """Sleep."""
        await self.sleep(self.secs)


@dataclass(frozen=True, slots=True)
class TruncatedGet(Fault):
    """Give only the first `after` bytes of a get; then break off, or end as if that were all."""

    after_bytes: int
    silent: bool = False

    async def blocks(self, blocks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """Cut what is given."""
        left = self.after_bytes
        async for block in blocks:
            if len(block) >= left:
                if left:
                    yield block[:left]
                break
            left -= len(block)
            yield block
        if not self.silent:
            raise TransientError("the connection broke while an object was read")


@dataclass(frozen=True, slots=True)
class CorruptedGet(Fault):
    """Flip one bit of the byte at `at`, counted from the start of the range, of what is read."""

    at: int = 0

    async def blocks(self, blocks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """Change what is given."""
        position = 0
        async for block in blocks:
            if position <= self.at < position + len(block):
                changed = bytearray(block)
                changed[self.at - position] ^= 1
                yield bytes(changed)
            else:
                yield block
            position += len(block)


@dataclass(frozen=True, slots=True)
class CorruptedPut(Fault):
    """Flip one bit of the byte at `at` on the way: the store keeps, and sums up, other bytes."""

    at: int = 0

    def body(self, body: Body, request: Request) -> Body:
        """Change what the store gets."""
        return DamagedBody(body, self.at)


@dataclass(frozen=True, slots=True)
class TruncatedPut(Fault):
    """Lose all but the first `after_bytes` on the way: the store keeps, and acknowledges, only these."""

    after_bytes: int = 0

    def body(self, body: Body, request: Request) -> Body:
        """Change what the store gets."""
        return CutBody(body, self.after_bytes)


@dataclass(frozen=True, slots=True)
class ExpiredUpload(Fault):
    """Let the store forget the upload first, so that the request finds it gone."""

    async def before(self, request: Request) -> None:
        """Abort the upload, of a request that belongs to one."""
        if request.upload is not None:
            await request.upload.abort()


@dataclass(frozen=True, slots=True)
class ExpiredToken(Fault):
    """Refuse the credentials, before the effect."""

    async def before(self, request: Request) -> None:
        """Raise an AuthenticationError."""
        raise AuthenticationError(f"{request.key}: the token has expired", key=request.key)


@dataclass(frozen=True, slots=True)
class Crash(Fault):
    """Kill the process before the effect, or after it: this request and all later ones raise."""

    late: bool = False

    async def before(self, request: Request) -> None:
        """Raise SimulatedCrash, unless `late`."""
        if not self.late:
            raise SimulatedCrash(f"before {request.operation} of {request.key}")

    async def after(self, request: Request) -> None:
        """Raise SimulatedCrash."""
        raise SimulatedCrash(f"after {request.operation} of {request.key}")


def _reset(request: Request) -> TransientError:
    return TransientError(f"{request.key}: connection reset by peer", key=request.key)
