"""What was sent, compared with what Cloud Storage has; and the header in which it tells checksums.

https://cloud.google.com/storage/docs/xml-api/reference-headers#xgooghash
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from ackpt.backends.base import ObjectInfo
from ackpt.backends.http.crc32c import compare, decode
from ackpt.errors import StorageError

HASH_HEADER = "x-goog-hash"


def from_headers(lines: Iterable[str]) -> int | None:
    """Find the CRC-32C in `x-goog-hash` headers: one a line, or several in one line."""
    for item in ",".join(lines).split(","):
        algorithm, _, value = item.strip().partition("=")
        if algorithm == "crc32c":
            return decode(value)
    return None


async def check_object(
    info: ObjectInfo, *, size: int, crc32c: int | None, discard: Callable[[], Awaitable[None]]
) -> None:
    """Compare a new object with what was sent; one that differs is discarded.

    Raises:
        ChecksumMismatchError: it differs.
        StorageError: it has another size.
    """
    try:
        if info.size != size:
            raise StorageError(
                f"{info.key}: sent {size} bytes, the store has {info.size}; they were deleted",
                key=info.key,
            )
        if crc32c is not None:
            compare("the object", sent=crc32c, stored=info.crc32c, key=info.key)
    except StorageError:
        await discard()
        raise
