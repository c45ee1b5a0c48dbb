"""A memory backend that fails, lies or waits where its script says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from ackpt.backends.base import (
    Backend,
    Body,
    Condition,
    ObjectInfo,
    PartLimits,
    PartReceipt,
    SequentialUpload,
    SingleWriter,
    Upload,
)
from ackpt.backends.memory import MEMORY_LIMITS, MemoryBackend, MemoryUpload
from ackpt.errors import TransientError
from ackpt.url import StorageURL

T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class Turn:
    """Say what becomes of the next request called `request`, once it has been let through `skip` times.

    `before` is raised in place of the request, `after` in place of its reply; `alter` changes the
    reply; `wait` is awaited before the request.
    """

    request: str
    skip: int = 0
    times: int = 1
    before: Exception | None = None
    after: Exception | None = None
    alter: Callable[[Any], Any] | None = None
    wait: Callable[[], Awaitable[object]] | None = None


def lost(request: str, *, skip: int = 0, times: int = 1) -> Turn:
    """Script a request that takes effect, and whose reply gets lost."""
    return Turn(request=request, skip=skip, times=times, after=TransientError("the reply got lost"))


def refused(request: str, *, skip: int = 0, times: int = 1) -> Turn:
    """Script a request that never reaches the store."""
    return Turn(request=request, skip=skip, times=times, before=TransientError("busy"))


@dataclass(slots=True)
class Script:
    """Hold the turns still to come, and all requests made so far."""

    turns: list[Turn] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    async def act(self, request: str, call: Callable[[], Awaitable[T]]) -> T:
        self.requests.append(request)
        turn = self.next(request)
        if turn is None:
            return await call()
        if turn.wait is not None:
            await turn.wait()
        if turn.before is not None:
            raise turn.before
        result = await call()
        if turn.after is not None:
            raise turn.after
        return result if turn.alter is None else turn.alter(result)

    def next(self, request: str) -> Turn | None:
        for turn in self.turns:
            if turn.request == request:
                if turn.skip:
                    turn.skip -= 1
                    return None
                turn.times -= 1
                if not turn.times:
                    self.turns.remove(turn)
                return turn
        return None


class ScriptedBackend(MemoryBackend):
    """Be a memory backend under a script; streams `get` and `list` break after `skip` items."""

    def __init__(self, *turns: Turn, limits: PartLimits = MEMORY_LIMITS, block_bytes: int = 0) -> None:
        super().__init__(limits=limits)
        self.script = Script(list(turns))
        self.in_order = False
        self.reports_crc32c = True
        self.closed_streams = 0
        self._block_bytes = block_bytes

    @property
    def requests(self) -> list[str]:
        return self.script.requests

    def describe(self, key: str, stored: Any) -> ObjectInfo:
        info = super().describe(key, stored)
        if self.reports_crc32c:
            return info
        return ObjectInfo(key=info.key, size=info.size, version=info.version)

    async def put(self, key: str, body: Body, *, condition: Condition | None = None) -> ObjectInfo:
        return await self.script.act("put", lambda: MemoryBackend.put(self, key, body, condition=condition))

    async def head(self, key: str) -> ObjectInfo:
        return await self.script.act("head", lambda: MemoryBackend.head(self, key))

    async def delete(self, key: str) -> None:
        await self.script.act("delete", lambda: MemoryBackend.delete(self, key))

    async def get(self, key: str, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._stream("get", super().get(key, start, stop))) as blocks:
            async for block in blocks:
                step = self._block_bytes or len(block)
                for place in range(0, len(block), step):
                    yield block[place : place + step]

    async def list(self, prefix: str = "") -> AsyncGenerator[ObjectInfo, None]:
        async with aclosing(self._stream("list", super().list(prefix))) as objects:
            async for info in objects:
                yield info

    async def _stream(self, request: str, items: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        self.requests.append(request)
        left = None
        for turn in self.script.turns:
            if turn.request == request:
                left = turn
                break
        if left is not None:
            self.script.turns.remove(left)
        count = 0
        try:
            async for item in items:
                if left is not None and count == left.skip:
                    await self._turn(left)
                    item = item if left.alter is None else left.alter(item)
                count += 1
                yield item
            if left is not None and count <= left.skip:
                await self._turn(left)
        finally:
            self.closed_streams += 1
            await items.aclose()

    async def _turn(self, turn: Turn) -> None:
        if turn.wait is not None:
            await turn.wait()
        for error in (turn.before, turn.after):
            if error is not None:
                raise error

    async def create_upload(self, key: str) -> Upload:
        upload = await self.script.act("create_upload", lambda: MemoryBackend.create_upload(self, key))
        return self._scripted(upload)

    async def open_upload(self, key: str, upload_id: str) -> Upload:
        upload = await self.script.act("open_upload", lambda: MemoryBackend.open_upload(self, key, upload_id))
        return self._scripted(upload)

    def _scripted(self, upload: Upload) -> Upload:
        kind = ScriptedSequentialUpload if self.in_order else ScriptedUpload
        return kind(self, upload.key, upload.id)


class ScriptedUpload(MemoryUpload):
    """Be a memory upload under the backend's script."""

    def __init__(self, backend: ScriptedBackend, key: str, upload_id: str) -> None:
        super().__init__(backend, key, upload_id)
        self._script = backend.script

    async def put_part(self, number: int, body: Body) -> PartReceipt:
        async def put() -> PartReceipt:
            await asyncio.sleep(0)
            return await MemoryUpload.put_part(self, number, body)

        return await self._script.act("put_part", put)

    async def parts(self) -> Sequence[PartReceipt]:
        return await self._script.act("parts", lambda: MemoryUpload.parts(self))

    async def complete(
        self, receipts: Sequence[PartReceipt], *, condition: Condition | None = None
    ) -> ObjectInfo:
        return await self._script.act(
            "complete", lambda: MemoryUpload.complete(self, receipts, condition=condition)
        )

    async def abort(self) -> None:
        await self._script.act("abort", lambda: MemoryUpload.abort(self))


class ScriptedSequentialUpload(ScriptedUpload, SequentialUpload):
    """Be an upload that takes parts in order only."""


class ScriptedSingleWriter(ScriptedBackend, SingleWriter):
    """Be a backend for one writer."""


class PutOnlyBackend(Backend):
    """Be a backend without parts, over a scripted one."""

    def __init__(self, inner: ScriptedBackend) -> None:
        self.inner = inner

    @classmethod
    def from_url(cls, url: StorageURL) -> Self:
        return cls(ScriptedBackend())

    async def put(self, key: str, body: Body, *, condition: Condition | None = None) -> ObjectInfo:
        return await self.inner.put(key, body, condition=condition)

    def get(self, key: str, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        return self.inner.get(key, start, stop)

    async def head(self, key: str) -> ObjectInfo:
        return await self.inner.head(key)

    def list(self, prefix: str = "") -> AsyncGenerator[ObjectInfo, None]:
        return self.inner.list(prefix)

    async def delete(self, key: str) -> None:
        await self.inner.delete(key)
