"""One staged file becomes one object: small ones by a put, large ones in concurrent parts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from ackpt.backends.base import Backend, Condition, ObjectInfo
from ackpt.transfer.context import Transfer


class LocalFile(Protocol):
    """Name a finished local file and the key it goes to (`ackpt.checkpoint.staged.StagedFile` is one)."""

    @property
    def key(self) -> str: ...

    @property
    def path(self) -> Path: ...

    @property
    def size(self) -> int: ...


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
    `on_progress` is called with the bytes newly acknowledged by the store, reused ones included.
    When it fails or is cancelled the upload is aborted, or left for a resume with `keep_upload`.

    The returned `crc32c` is always set: of the bytes sent, and equal to the store's where it
    reports one.

    Raises:
        AlreadyExistsError, ConditionFailedError: `condition` does not hold; nothing changed.
        ChecksumMismatchError: the store reports other bytes than were sent, again and again.
        StagingError: the file is gone, has another size, or changed while it was being sent.
        StorageError: what the store said, after the retries.
    """
    raise NotImplementedError
