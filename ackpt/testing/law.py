"""What a law is, and the scene that each law plays in: a fresh place in a store."""

from __future__ import annotations

import asyncio
import inspect
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from types import TracebackType
from typing import ClassVar, Final, Self, TypeVar

import pytest

from ackpt.backends.base import (
    Backend,
    Body,
    BulkDeletingBackend,
    Condition,
    CopyingBackend,
    MultipartBackend,
    ObjectInfo,
    PartReceipt,
    SequentialUpload,
    SingleWriter,
    Upload,
)
from ackpt.errors import NotFoundError
from ackpt.options import KiB
from ackpt.transfer.body import BytesBody

MakeBackend = Callable[[], Backend]
"""Open another backend on the test's own place, which was empty at first; no I/O."""

T = TypeVar("T")

_MARK: Final = "ackpt_law"


class Laws:
    """Be the base of classes of laws."""

    law_timeout_secs: ClassVar[float] = 60.0
    """No law may take longer: a backend that hangs fails."""

    cannot: ClassVar[Mapping[str, str]] = {}
    """The laws that this store cannot keep, each with the reason: a clause to follow 'because'."""


L = TypeVar("L", bound=Laws)
S = TypeVar("S")
Law = Callable[[L, MakeBackend], Awaitable[None]]


def law(check: Callable[[L, Scene], Awaitable[None]]) -> Law[L]:
    """Make a test of a check: in a scene of its own, bounded in time, or excused by `cannot`."""
    return make_law(check, Scene)


def is_law(value: object) -> bool:
    """Tell whether something, an attribute of a class, is a law."""
    return inspect.isfunction(value) and _MARK in vars(value)


def make_law(
    check: Callable[[L, S], Awaitable[None]],
    scene_of: Callable[[MakeBackend], AbstractAsyncContextManager[S]],
) -> Law[L]:
    """Make a test of a check that plays in what `scene_of` makes."""
    name: str = getattr(check, "__name__", "")

    async def run(self: L, make_backend: MakeBackend) -> None:
        reason = self.cannot.get(name)
        if reason is not None:
            pytest.xfail(f"cannot, because {reason}")
        try:
            async with asyncio.timeout(self.law_timeout_secs), scene_of(make_backend) as scene:
                await check(self, scene)
        except (Exception, pytest.fail.Exception) as error:
            # A summary, and a short traceback, do not show the sentence of the law.
            error.add_note(f"the law: {inspect.cleandoc(check.__doc__ or name)}")
            raise

    # Not `functools.wraps`: pytest would follow `__wrapped__` and look for a fixture 'scene'.
    run.__name__ = name
    run.__qualname__ = getattr(check, "__qualname__", name)
    run.__doc__ = check.__doc__
    run.__module__ = check.__module__
    vars(run)[_MARK] = True
    return run


class Scene:
    """Hold one fresh place in a store, and the backends that a law opens on it."""

    def __init__(self, make_backend: MakeBackend) -> None:
        self._make = make_backend
        self._stack = AsyncExitStack()
        self.backend = self.another()

    def another(self) -> Backend:
        """Open one more backend on the same place, as another process would."""
        backend = self._make()
        self._stack.push_async_callback(backend.aclose)
        return backend

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def put(self, key: str, data: bytes, condition: Condition | None = None) -> ObjectInfo:
        """Put bytes."""
        return await self.backend.put(key, BytesBody(data), condition=condition)

    async def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        """Get bytes, all at once."""
        return await read(self.backend, key, start, stop)

    async def keys(self, prefix: str = "") -> list[str]:
        """List keys, in order."""
        return sorted([info.key async for info in self.backend.list(prefix)])

    async def absent(self, key: str) -> None:
        """Check that no request finds an object under `key`."""
        with pytest.raises(NotFoundError):
            await self.backend.head(key)
        with pytest.raises(NotFoundError):
            await self.read(key)
        assert key not in await self.keys(), f"{key!r} is listed"

    async def holds(self, key: str, data: bytes) -> None:
        """Check that every request finds `data` under `key`."""
        assert same(await self.read(key), data), f"{key!r} holds other bytes than were written"
        assert (await self.backend.head(key)).size == len(data)
        assert key in await self.keys(), f"{key!r} is not listed"

    def many_writers(self) -> None:
        """End the law here for a backend whose type says that its conditions are not atomic."""
        if isinstance(self.backend, SingleWriter):
            pytest.skip("the backend is a SingleWriter, whose conditions are not atomic")

    @property
    def multipart(self) -> MultipartBackend:
        """Return the backend, or end the law here when its type says that it has no uploads."""
        return as_multipart(self.backend)

    @property
    def copying(self) -> CopyingBackend:
        """Return the backend, or end the law here when its type says that it cannot copy."""
        return as_copying(self.backend)

    @property
    def bulk(self) -> BulkDeletingBackend:
        """Return the backend, or end the law here when its type says that it deletes one by one."""
        return as_bulk_deleting(self.backend)

    async def upload(self, key: str) -> Upload:
        """Begin an upload, whose parts go in order."""
        return await self.multipart.create_upload(key)

    async def parallel_upload(self, key: str) -> Upload:
        """Begin an upload, or end the law here when its type says that its parts go in order only."""
        upload = await self.upload(key)
        if isinstance(upload, SequentialUpload):
            await upload.abort()
            pytest.skip("the upload is a SequentialUpload, which takes its parts in order only")
        return upload

    async def open_uploads(self, prefix: str = "") -> list[tuple[str, str]]:
        """List the unfinished uploads: key and id."""
        return sorted([(info.key, info.upload_id) async for info in self.multipart.list_uploads(prefix)])

    def pieces(self, count: int, *, seed: int = 0) -> list[bytes]:
        """Make the bytes of `count` parts, as small as the store takes them; the last is odd and smaller."""
        limits = self.multipart.limits
        grain = limits.granularity_bytes
        size = -(-max(limits.min_part_bytes, KiB) // grain) * grain
        maker = random.Random(seed)
        return [maker.randbytes(size) for _ in range(count - 1)] + [maker.randbytes(size // 2 + 1)]


def as_multipart(backend: Backend) -> MultipartBackend:
    """Return the backend, or end the law here when its type says that it has no uploads."""
    if not isinstance(backend, MultipartBackend):
        pytest.skip("the backend is not a MultipartBackend")
    return backend


def as_copying(backend: Backend) -> CopyingBackend:
    """Return the backend, or end the law here when its type says that it cannot copy."""
    if not isinstance(backend, CopyingBackend):
        pytest.skip("the backend is not a CopyingBackend")
    return backend


def as_bulk_deleting(backend: Backend) -> BulkDeletingBackend:
    """Return the backend, or end the law here when its type says that it deletes one by one."""
    if not isinstance(backend, BulkDeletingBackend):
        pytest.skip("the backend is not a BulkDeletingBackend")
    return backend


async def read(backend: Backend, key: str, start: int = 0, stop: int | None = None) -> bytes:
    """Get bytes, all at once."""
    async with aclosing(backend.get(key, start, stop)) as blocks:
        return b"".join([block async for block in blocks])


async def send(upload: Upload, pieces: Sequence[bytes], *, first: int = 1) -> list[PartReceipt]:
    """Put pieces as parts, one after another, numbered from `first`."""
    return [await upload.put_part(number, BytesBody(piece)) for number, piece in enumerate(pieces, first)]


async def settled(*works: Awaitable[T]) -> list[T | Exception]:
    """Run works at the same time; give each one's result or error, in order. All have ended then."""

    async def settle(work: Awaitable[T]) -> T | Exception:
        try:
            return await work
        except Exception as error:
            return error

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(settle(work)) for work in works]
    return [task.result() for task in tasks]


async def cancelled_halfway(work: Awaitable[object], reached: asyncio.Event) -> None:
    """Start `work`, wait until it has come to the point, cancel it, and check that it says so."""
    task = asyncio.ensure_future(work)
    waiter = asyncio.create_task(reached.wait())
    try:
        await asyncio.wait({task, waiter}, return_when=asyncio.FIRST_COMPLETED)
        assert not task.done(), f"ended before its body did: {task}"
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled(), f"a cancelled request ended with {task} instead of CancelledError"
    finally:
        for started in (task, waiter):
            started.cancel()
        await asyncio.wait({task, waiter})


def same(a: bytes, b: bytes) -> bool:
    """Compare bytes; a name of its own, so that pytest does not print megabytes of difference."""
    return a == b


def data_of(size: int, *, seed: int = 0) -> bytes:
    """Make bytes that do not repeat."""
    return random.Random(seed).randbytes(size)


def body_of(data: bytes) -> Body:
    """Make a body of bytes."""
    return BytesBody(data)
