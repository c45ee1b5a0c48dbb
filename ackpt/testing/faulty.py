"""A backend that wraps another and puts faults into its requests, by a script."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Self

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
    UploadInfo,
)
from ackpt.errors import InvalidURLError, StorageError
from ackpt.testing.faults import Request
from ackpt.testing.script import Script
from ackpt.transfer.abilities import able_as
from ackpt.url import StorageURL


def inject(inner: Backend, script: Script) -> FaultyBackend:
    """Wrap `inner`; what it is able to do (`MultipartBackend`, `SingleWriter` …) stays its type."""
    wrapper = able_as(
        inner,
        FaultyBackend,
        {
            MultipartBackend: FaultyMultipartBackend,
            CopyingBackend: FaultyCopyingBackend,
            BulkDeletingBackend: FaultyBulkDeletingBackend,
            SingleWriter: _FaultySingleWriter,
        },
    )
    return wrapper(inner, script)


class FaultyBackend(Backend):
    """Pass requests on to `inner`, with the faults and into the log of `script`; made by `inject`."""

    def __init__(self, inner: Backend, script: Script) -> None:
        self.inner = inner
        self.script = script

    @classmethod
    def from_url(cls, url: StorageURL) -> Self:
        """Refuse: a wrapper has no URL.

        Raises:
            InvalidURLError: always.
        """
        raise InvalidURLError(f"no URL, such as {url}, opens a backend with faults; wrap one with inject()")

    async def put(self, key: str, body: Body, *, condition: Condition | None = None) -> ObjectInfo:
        """Pass on; see `Backend.put`."""
        request = Request(operation="put", key=key, size=body.size, condition=condition)
        return await self.script.perform(
            request, lambda fault: self.inner.put(key, fault.body(body, request), condition=condition)
        )

    async def get(self, key: str, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        """Pass on; see `Backend.get`."""
        request = Request(operation="get", key=key)
        with self.script.watch(request) as fault:
            await fault.before(request)
            stored = self.inner.get(key, start, stop)
            async with aclosing(stored), aclosing(fault.blocks(stored)) as blocks:
                async for block in blocks:
                    self.script.alive()
                    request.size += len(block)
                    yield block
            await fault.after(request)

    async def head(self, key: str) -> ObjectInfo:
        """Pass on; see `Backend.head`."""
        return await self.script.perform(Request(operation="head", key=key), lambda _: self.inner.head(key))

    async def list(self, prefix: str = "") -> AsyncGenerator[ObjectInfo, None]:
        """Pass on; see `Backend.list`. The key in the log is the prefix."""
        request = Request(operation="list", key=prefix)
        with self.script.watch(request) as fault:
            await fault.before(request)
            async with aclosing(self.inner.list(prefix)) as infos:
                async for info in infos:
                    self.script.alive()
                    yield info
            await fault.after(request)

    async def delete(self, key: str) -> None:
        """Pass on; see `Backend.delete`."""
        await self.script.perform(Request(operation="delete", key=key), lambda _: self.inner.delete(key))

    async def aclose(self) -> None:
        """Close `inner`; no fault comes here."""
        await self.inner.aclose()


class FaultyMultipartBackend(FaultyBackend, MultipartBackend):
    """Pass uploads on too."""

    inner: MultipartBackend

    def __init__(self, inner: MultipartBackend, script: Script) -> None:
        super().__init__(inner, script)
        self.limits = inner.limits

    async def create_upload(self, key: str) -> Upload:
        """Pass on; see `MultipartBackend.create_upload`."""
        request = Request(operation="create_upload", key=key)
        return self._wrap(await self.script.perform(request, lambda _: self.inner.create_upload(key)))

    async def open_upload(self, key: str, upload_id: str) -> Upload:
        """Pass on; see `MultipartBackend.open_upload`."""
        request = Request(operation="open_upload", key=key)
        return self._wrap(
            await self.script.perform(request, lambda _: self.inner.open_upload(key, upload_id))
        )

    async def list_uploads(self, prefix: str = "") -> AsyncGenerator[UploadInfo, None]:
        """Pass on; see `MultipartBackend.list_uploads`. The key in the log is the prefix."""
        request = Request(operation="list_uploads", key=prefix)
        with self.script.watch(request) as fault:
            await fault.before(request)
            async with aclosing(self.inner.list_uploads(prefix)) as infos:
                async for info in infos:
                    self.script.alive()
                    yield info
            await fault.after(request)

    def _wrap(self, upload: Upload) -> Upload:
        sequential = isinstance(upload, SequentialUpload)
        return (_FaultySequentialUpload if sequential else FaultyUpload)(upload, self.script)


class FaultyCopyingBackend(FaultyBackend, CopyingBackend):
    """Pass copies on too."""

    inner: CopyingBackend

    async def copy(self, source: ObjectInfo, key: str, *, condition: Condition | None = None) -> ObjectInfo:
        """Pass on; see `CopyingBackend.copy`. The key in the log is that of the copy."""
        request = Request(operation="copy", key=key, condition=condition)
        return await self.script.perform(request, lambda _: self.inner.copy(source, key, condition=condition))


class FaultyBulkDeletingBackend(FaultyBackend, BulkDeletingBackend):
    """Pass deletions of many on too."""

    inner: BulkDeletingBackend

    def __init__(self, inner: BulkDeletingBackend, script: Script) -> None:
        super().__init__(inner, script)
        self.delete_limit = inner.delete_limit

    async def delete_many(self, keys: Sequence[str]) -> Mapping[str, StorageError]:
        """Pass on; see `BulkDeletingBackend.delete_many`. The key in the log is the first."""
        request = Request(operation="delete_many", key=keys[0])
        return await self.script.perform(request, lambda _: self.inner.delete_many(keys))


class _FaultySingleWriter(FaultyBackend, SingleWriter):
    """Say by type what `inner` says."""


class FaultyUpload(Upload):
    """Pass an upload's requests on; made by a faulty backend."""

    def __init__(self, inner: Upload, script: Script) -> None:
        self.inner = inner
        self.script = script
        self.key = inner.key
        self.id = inner.id

    async def put_part(self, number: int, body: Body) -> PartReceipt:
        """Pass on; see `Upload.put_part`."""
        request = self._request("put_part", number=number, size=body.size)
        return await self.script.perform(
            request, lambda fault: self.inner.put_part(number, fault.body(body, request))
        )

    async def parts(self) -> Sequence[PartReceipt]:
        """Pass on; see `Upload.parts`."""
        return await self.script.perform(self._request("parts"), lambda _: self.inner.parts())

    async def complete(
        self, receipts: Sequence[PartReceipt], *, condition: Condition | None = None
    ) -> ObjectInfo:
        """Pass on; see `Upload.complete`."""
        request = self._request("complete", condition=condition)
        return await self.script.perform(
            request, lambda _: self.inner.complete(receipts, condition=condition)
        )

    async def abort(self) -> None:
        """Pass on; see `Upload.abort`."""
        await self.script.perform(self._request("abort"), lambda _: self.inner.abort())

    def _request(
        self, operation: str, *, number: int | None = None, size: int = 0, condition: Condition | None = None
    ) -> Request:
        return Request(
            operation=operation,
            key=self.key,
            number=number,
            size=size,
            condition=condition,
            upload=self.inner,
        )


class _FaultySequentialUpload(FaultyUpload, SequentialUpload):
    """Say by type what the inner upload says."""
