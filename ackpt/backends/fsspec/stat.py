"""What a filesystem tells about a file, as an `ObjectInfo`: names and types differ from one to the next."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from ackpt.backends.base import ObjectInfo

_IDENTITY = ("ETag", "etag", "generation")
"""What a store changes when it writes, and tells alike in a description and in a listing.

Other things it does not: S3 tells seconds in the one and milliseconds in the other, and the id of a
version in a description alone.
"""
_HINTS = ("md5Hash", "ino")
_TIMES = ("mtime", "modified", "LastModified", "last_modified", "updated", "created")


def describe(key: str, status: Mapping[str, object]) -> ObjectInfo:
    """Describe a file by its status (of `info`, or of a listing); raises ValueError where it has no size."""
    size = status.get("size")
    if not isinstance(size, int):
        raise ValueError(f"{key}: its size is {size!r}")
    times = {name: time for name in _TIMES if (time := _time(status.get(name))) is not None}
    marks = [f"{name}={status[name]}" for name in _IDENTITY if status.get(name) is not None]
    if not marks:
        marks = [f"{name}={status[name]}" for name in _HINTS if status.get(name) is not None]
        marks += [f"{name}={time.isoformat()}" for name, time in times.items()]
    return ObjectInfo(
        key=key,
        size=size,
        version=";".join([*marks, f"size={size}"]),
        modified=next(iter(times.values()), None),
    )


def _time(value: object) -> datetime | None:
    if isinstance(value, datetime):
        return value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value, UTC)
    if isinstance(value, str):
        try:
            return _time(datetime.fromisoformat(value))
        except ValueError:
            return None
    return None
