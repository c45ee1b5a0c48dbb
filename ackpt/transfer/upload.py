"""One staged file becomes one object: small ones by a put, large ones in concurrent parts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from ackpt.backends.base import Backend, Condition, IfAbsent, IfVersion, MultipartBackend, ObjectInfo
from ackpt.errors import AlreadyExistsError, ChecksumMismatchError
from ackpt.transfer.context import Transfer
from ackpt.transfer.plan import plan_parts
from ackpt.transfer.progress import Progress
from ackpt.transfer.reliable import holds, reliable
from ackpt.transfer.source import LocalFile, Source
from ackpt.transfer.upload_parts import PartsUpload

_TRIES: Final = 3
"""How often an object is sent that the store then reports with other bytes than were sent."""


async def upload_object(
    backend: Backend,
    file: LocalFile,
    transfer: Transfer,
    *,
    condition: Condition | None = None,
    upload_id: str | None = None,
    keep_upload: bool = False,
    on_upload: Callable[[str], Awaitable[None]] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> ObjectInfo:
    """Send `file` and return the object as the store holds it, size and CRC-32C compared.

    Every request is retried within `transfer.retry` (`backend` need not be `reliable`), and the
    bytes travel within `transfer.budget`.
    With `upload_id` (of an earlier process, from its journal) the parts that the store has, and
    that equal the file's, are not sent again; an upload that has expired starts again.
    `on_upload` is awaited with the id of every upload that is begun, before any part is sent.
    `on_progress` is called with the bytes newly acknowledged by the store, reused ones included,
    and with a negative number when they must be sent again.
    When it fails or is cancelled the upload is aborted, or left for a resume with `keep_upload`
    (not where a resume could not mend it: the condition does not hold; and not in a full store).
    With `IfAbsent`, an object that is there already with the same bytes counts as success.

    The returned `crc32c` is always set: of the bytes sent, and equal to the store's where it
    reports one.

    Raises:
        AlreadyExistsError, ConditionFailedError: `condition` does not hold; nothing changed.
        ChecksumMismatchError: the store reports other bytes than were sent, again and again; the
            damaged object is still there.
        LocalFileError: the file is gone, has another size, or changed while it was being sent.
        UnsupportedError: the object is larger than the store can take.
        StorageError: what the store said, after the retries.
    """
    store = reliable(backend, transfer.retry)
    source = Source.open(file, transfer.budget)
    progress = Progress(on_progress)
    send = _sender(store, source, transfer, upload_id, keep_upload, on_upload, progress)
    wanted, resumed = condition, upload_id

    async def attempt() -> ObjectInfo:
        nonlocal wanted, resumed
        info, value = await send(wanted, resumed)
        if info.size == source.size and info.crc32c in (None, value):
            return info if info.crc32c is not None else replace(info, crc32c=value)
        # What is there now is of our making, so a condition means this version from here on.
        wanted, resumed = None if wanted is None else IfVersion(info.version), None
        progress.take_back()
        raise _WrongObjectError(_difference(source, info, value), key=source.key)

    try:
        return await transfer.retry(
            attempt, what=f"upload of {source.key}", on=_WrongObjectError, attempts=_TRIES
        )
    except AlreadyExistsError:
        if not isinstance(wanted, IfAbsent):
            raise
        found = await holds(store, source.key, size=source.size, checksum=source.checksum)
        if found is None:
            raise
        progress.take_back()
        progress.add(source.size)
        return replace(found, crc32c=await source.checksum())


class _WrongObjectError(ChecksumMismatchError):
    """Report an object that is there with other bytes, apart from a request that brought others."""


def _sender(
    store: Backend,
    source: Source,
    transfer: Transfer,
    upload_id: str | None,
    keep_upload: bool,
    on_upload: Callable[[str], Awaitable[None]] | None,
    progress: Progress,
) -> Callable[[Condition | None, str | None], Awaitable[tuple[ObjectInfo, int]]]:
    """Choose how the file is sent: with parts where the store has them and the file is cut."""
    if isinstance(store, MultipartBackend):
        plan = plan_parts(source.size, transfer.options.part_bytes, store.limits)
        if len(plan) > 1 or upload_id is not None:
            return PartsUpload(
                store=store,
                source=source,
                plan=plan,
                keep_upload=keep_upload,
                on_upload=on_upload,
                progress=progress,
            ).send

    async def put(condition: Condition | None, upload_id: str | None) -> tuple[ObjectInfo, int]:
        body = source.body(source.whole)
        info = await store.put(source.key, body, condition=condition)
        value = await body.crc32c()
        progress.add(source.size)
        return info, value

    return put


def _difference(source: Source, info: ObjectInfo, value: int) -> str:
    came = "no crc32c" if info.crc32c is None else f"crc32c {info.crc32c:08x}"
    return (
        f"{source.key}: sent {source.size} bytes with crc32c {value:08x}, the store now reports "
        f"{info.size} bytes with {came}"
    )
