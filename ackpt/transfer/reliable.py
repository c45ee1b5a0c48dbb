"""A backend whose requests are retried, and whose lost replies are settled.

A reply can get lost after the store has done what was asked. So when a conditional write fails on
its condition, and an attempt of ours before it ended without an answer, the winner may be that
attempt: the object is compared with what we sent (`holds`), and counts as written if it is that.
A `create_upload` whose reply got lost leaves an upload whose id nobody knows; the sweep of
orphans (`list_uploads`) finds it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Final, Self, TypeVar

from ackpt.backends.base import (
    Backend,
    Body,
    BulkDeletingBackend,
    Condition,
    CopyingBackend,
    MultipartBackend,
    ObjectInfo,
    SequentialUpload,
    SingleWriter,
    Upload,
    UploadInfo,
)
from ackpt.errors import (
    ConditionFailedError,
    NotFoundError,
    StorageError,
    TransientError,
    UnsupportedError,
)
from ackpt.options import GiB
from ackpt.transfer.abilities import able_as
from ackpt.transfer.body import sending
from ackpt.transfer.checksum import crc32c
from ackpt.transfer.clean_up import clean_up
from ackpt.transfer.reliable_upload import ReliableSequentialUpload, ReliableUpload
from ackpt.transfer.retry import Retry, settled
from ackpt.transfer.stall import watched
from ackpt.url import StorageURL

T = TypeVar("T")

_DROP_SECS: Final = 1.0
"""Less than a preemption leaves for the process to go: what takes longer is left for a sweep."""

_COPY_PATIENCE: Final = 5.0
"""A copy shows no sign of life until it is done; it has this many times the stall time, and once more
for every GiB."""

_DELETION_PATIENCE: Final = 5.0
"""A deletion of many shows none either, and a store may go through its keys one by one."""


def reliable(backend: Backend, retry: Retry) -> Backend:
    """Wrap `backend` so that its transient failures are retried; what it is able to do stays its type.

    Never nests: a backend that is reliable already gets `retry` in place of its own.
    Closing the wrapper closes `backend`.
    """
    if isinstance(backend, _ReliableBackend):
        backend = backend.inner
    wrapper = able_as(
        backend,
        _ReliableBackend,
        {
            MultipartBackend: _ReliableMultipart,
            CopyingBackend: _ReliableCopying,
            BulkDeletingBackend: _ReliableBulkDeleting,
            SingleWriter: _ReliableSingleWriter,
        },
    )
    return wrapper(backend, retry)


def unreliable(backend: Backend) -> Backend:
    """Return `backend` without what `reliable` may have put around it: each request is sent once."""
    return backend.inner if isinstance(backend, _ReliableBackend) else backend


async def holds(
    backend: Backend,
    key: str,
    *,
    size: int,
    checksum: Callable[[], Awaitable[int]],
    moved: Callable[[], None] = lambda: None,
) -> ObjectInfo | None:
    """Return the object `key` if it has this size and CRC-32C, None if it is absent or another.

    Where the store reports no checksum the object is read back, and `moved` is called at every
    block. `checksum` is only asked when the size is right.
    """
    try:
        info = await backend.head(key)
        if info.size != size:
            return None
        found = await _read_back(backend, key, moved) if info.crc32c is None else info.crc32c
    except NotFoundError:
        return None
    return info if found == await checksum() else None


async def _read_back(backend: Backend, key: str, moved: Callable[[], None]) -> int:
    value = 0
    async with aclosing(backend.get(key)) as blocks:
        async for block in blocks:
            moved()
            value = crc32c(block, value)
    return value


class _ReliableBackend(Backend):
    """Send the requests of `inner` again, each within `retry`."""

    def __init__(self, inner: Backend, retry: Retry) -> None:
        self.inner = inner
        self._retry = retry

    @classmethod
    def from_url(cls, url: StorageURL) -> Self:
        """Refuse: this wraps a backend that is open already."""
        raise UnsupportedError(f"{url} cannot be opened as a wrapper; open it as what it is, then wrap it")

    async def put(self, key: str, body: Body, *, condition: Condition | None = None) -> ObjectInfo:
        """Put; a condition that an earlier attempt of ours may have broken is settled."""
        what = f"put of {key}"

        async def attempt() -> ObjectInfo:
            async with sending(body), self._retry.watch(what) as watch:
                return await self.inner.put(key, watched(body, watch), condition=condition)

        async def landed() -> ObjectInfo | None:
            async with self._retry.watch(f"check of {key}") as watch:
                return await holds(self.inner, key, size=body.size, checksum=body.crc32c, moved=watch.pulse)

        return await settled(
            self._retry,
            attempt,
            refusals=ConditionFailedError,
            done=landed,
            what=what,
        )

    async def get(self, key: str, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        """Iterate over the bytes; goes on where it broke off.

        An object that is replaced meanwhile would give bytes of both: compare its checksum.
        """
        position = start
        blocks = self._items(lambda: self.inner.get(key, position, stop), what=f"get of {key}")
        async with aclosing(blocks):
            async for block in blocks:
                position += len(block)
                yield block

    async def head(self, key: str) -> ObjectInfo:
        """Describe the object."""
        return await self._again(partial(self.inner.head, key), what=f"head of {key}")

    async def list(self, prefix: str = "") -> AsyncGenerator[ObjectInfo, None]:
        """Iterate over the objects; a listing that broke off starts again, and what was seen is left out."""
        seen: set[str] = set()
        objects = self._items(lambda: self.inner.list(prefix), what=f"list of {prefix}*")
        async with aclosing(objects):
            async for info in objects:
                if info.key not in seen:
                    seen.add(info.key)
                    yield info

    async def delete(self, key: str) -> None:
        """Delete the object; absent is success, also after a lost reply."""
        await self._again(partial(self.inner.delete, key), what=f"delete of {key}")

    async def aclose(self) -> None:
        """Close the inner backend."""
        await self.inner.aclose()

    async def _again(self, request: Callable[[], Awaitable[T]], *, what: str) -> T:
        return await self._retry(partial(self._watched, request, what=what), what=what)

    async def _watched(self, request: Callable[[], Awaitable[T]], *, what: str) -> T:
        async with self._retry.watch(what):
            return await request()

    async def _items(
        self, begin: Callable[[], AsyncGenerator[T, None]], *, what: str
    ) -> AsyncGenerator[T, None]:
        """Iterate over `begin()`, begun again after a transient failure; no item is ever None.

        Any item is progress, so the attempts count anew from the next failure on.
        """
        stream = begin()
        broken: TransientError | None = None

        async def following() -> T | None:
            async with self._retry.watch(what):
                return await anext(stream, None)

        async def go_on() -> T | None:
            nonlocal stream, broken
            if broken is not None:  # what has failed just now was the first attempt
                error, broken = broken, None
                raise error
            stream = begin()
            return await following()

        try:
            while True:
                try:
                    item = await following()
                except TransientError as error:
                    broken = error
                    item = await self._retry(go_on, what=what)
                if item is None:
                    return
                self._retry.deadline.renew()
                yield item
        finally:
            await stream.aclose()


class _ReliableMultipart(_ReliableBackend, MultipartBackend):
    """Be reliable with parts, too."""

    inner: MultipartBackend

    def __init__(self, inner: MultipartBackend, retry: Retry) -> None:
        super().__init__(inner, retry)
        self.limits = inner.limits

    async def create_upload(self, key: str) -> Upload:
        """Begin an upload; after a lost reply the store keeps one that the sweep of orphans finds."""
        return self._wrap(await self._again(partial(self._begin, key), what=f"new upload of {key}"))

    async def _begin(self, key: str) -> Upload:
        """Begin an upload; cancelled on the way it still learns the id, and drops it: nobody else could."""
        request = asyncio.create_task(self.inner.create_upload(key))
        try:
            return await asyncio.shield(request)
        except asyncio.CancelledError as error:
            await clean_up(
                partial(_drop, request),
                secs=_DROP_SECS,
                after=error,
                what=f"the new upload of {key} was not aborted",
            )
            raise

    async def open_upload(self, key: str, upload_id: str) -> Upload:
        """Go on with an upload."""
        opening = partial(self.inner.open_upload, key, upload_id)
        return self._wrap(await self._again(opening, what=f"resumed upload of {key}"))

    async def list_uploads(self, prefix: str = "") -> AsyncGenerator[UploadInfo, None]:
        """Iterate over the unfinished uploads; as `list` does."""
        seen: set[tuple[str, str]] = set()
        uploads = self._items(lambda: self.inner.list_uploads(prefix), what=f"list of uploads of {prefix}*")
        async with aclosing(uploads):
            async for info in uploads:
                if (info.key, info.upload_id) not in seen:
                    seen.add((info.key, info.upload_id))
                    yield info

    def _wrap(self, upload: Upload) -> Upload:
        kind = ReliableSequentialUpload if isinstance(upload, SequentialUpload) else ReliableUpload
        return kind(upload, self._retry, partial(holds, self.inner, upload.key))


async def _drop(request: asyncio.Task[Upload]) -> None:
    try:
        upload = await request
    except StorageError:
        return  # none was begun, as far as anybody knows
    await upload.abort()


class _ReliableCopying(_ReliableBackend, CopyingBackend):
    """Be reliable with copies, too."""

    inner: CopyingBackend

    async def copy(self, source: ObjectInfo, key: str, *, condition: Condition | None = None) -> ObjectInfo:
        """Copy; a condition, or a source, that an earlier attempt of ours may have changed is settled."""
        what = f"copy of {source.key} to {key}"
        patience = _COPY_PATIENCE + source.size / GiB

        async def attempt() -> ObjectInfo:
            async with self._retry.watch(what, patience=patience):
                return await self.inner.copy(source, key, condition=condition)

        return await settled(
            self._retry,
            attempt,
            # A copy onto itself leaves no source of that version behind.
            refusals=(ConditionFailedError, NotFoundError),
            done=partial(self._copied, source, key),
            what=what,
        )

    async def _copied(self, source: ObjectInfo, key: str) -> ObjectInfo | None:
        """Return the object `key` if it is what `source` describes; None also where nobody can tell."""
        async with self._retry.watch(f"check of {key}") as watch:
            value = source.crc32c
            if value is None:
                try:
                    if (await self.inner.head(source.key)).version != source.version:
                        return None
                    value = await _read_back(self.inner, source.key, watch.pulse)
                except NotFoundError:
                    return None
            known = value

            async def checksum() -> int:
                return known

            return await holds(self.inner, key, size=source.size, checksum=checksum, moved=watch.pulse)


class _ReliableBulkDeleting(_ReliableBackend, BulkDeletingBackend):
    """Be reliable with deletions of many, too."""

    inner: BulkDeletingBackend

    def __init__(self, inner: BulkDeletingBackend, retry: Retry) -> None:
        super().__init__(inner, retry)
        self.delete_limit = inner.delete_limit

    async def delete_many(self, keys: Sequence[str]) -> Mapping[str, StorageError]:
        """Delete the objects; what failed for a passing reason, and only that, is asked for again."""
        what = f"delete of {keys[0]} and {len(keys) - 1} more"
        left = list(keys)
        failed: dict[str, StorageError] = {}

        async def attempt() -> None:
            async with self._retry.watch(what, patience=_DELETION_PATIENCE):
                errors = await self.inner.delete_many(left)
            left.clear()
            for key, error in errors.items():
                if isinstance(error, TransientError):
                    left.append(key)
                else:
                    failed[key] = error
            if left:
                raise errors[left[0]]

        await self._retry(attempt, what=what)
        return failed


class _ReliableSingleWriter(_ReliableBackend, SingleWriter):
    """Be reliable, for one writer."""
