"""One object becomes one local file: ranges in parallel, verified, then renamed into place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ackpt.backends.base import Backend
from ackpt.transfer.context import Transfer


async def download_object(
    backend: Backend,
    key: str,
    path: Path,
    transfer: Transfer,
    *,
    size: int,
    crc32c: int | None,
    on_progress: Callable[[int], None] | None = None,
) -> None:
    """Fetch the object `key` into `path`, which appears whole, verified and durable, or not at all.

    `size` and `crc32c` are what the manifest promises (None: not known, the size alone is compared).
    A file that is there already with both is kept, so that a restore resumes file by file.
    `path`'s folder must exist.
    `on_progress` is called with the bytes newly fetched (or found).

    Raises:
        NotFoundError: there is no such object.
        ChecksumMismatchError: the object's bytes are not what was promised, twice.
        StagingError, StorageFullError: the file cannot be written.
        StorageError: what the store said, after the retries.
    """
    raise NotImplementedError
