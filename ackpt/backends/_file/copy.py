"""One object copied to another inside the kernel, which shares the blocks where the file system can."""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack
from typing import Final

from crc32c import crc32c

from ackpt.backends._file.request import Request
from ackpt.backends._file.root import Root
from ackpt.backends._file.stamp import describe, kept_crc32c
from ackpt.backends.base import Condition, ObjectInfo
from ackpt.errors import NotFoundError
from ackpt.options import MiB

_PIECE_BYTES: Final = 64 * MiB
"""Bytes for each call on a worker: a copy that was cancelled ends with the piece it is at."""

_NO_COPY: Final = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})


async def copy_object(
    request: Request, root: Root, source: ObjectInfo, key: str, condition: Condition | None
) -> ObjectInfo:
    """Copy exactly the version `source` of an object to `key`; durable when it returns.

    A file that was replaced meanwhile is still open here, and is copied as it was. The checksum is
    the one that was kept with the source, so that damage on the disk shows in the copy too; only
    where none was kept it is taken from the bytes.

    Raises:
        NotFoundError: the source is not there, or no longer in that version.
        AlreadyExistsError, ConditionFailedError: `condition` does not hold; nothing changed.
    """
    original, size, value = await request.run(_open, request.stack, root, source)
    target, path = await request.run(_prepare, request.stack, root, key, condition)
    position = 0
    while position < size:
        count = min(_PIECE_BYTES, size - position)
        copied = await request.run(copy_range, original, target, count, position, position)
        if not copied:
            raise _gone(source, "it was cut off while it was copied")
        position += copied
    if value is None:
        value = await _sum(request, target, size)
    await request.run(_check_unchanged, original, source)
    return await request.end(root.publish, request, target, path, key, value, condition)


def copy_range(source: int, target: int, count: int, position: int, offset: int) -> int:
    """Copy up to `count` bytes from `position` of one file to `offset` of another; 0 at the source's end.

    Blocking. The kernel does it, by reference where the file system knows how (`FICLONERANGE`), or
    on the file server (https://man7.org/linux/man-pages/man2/copy_file_range.2.html); where it
    cannot, at most 1 MiB goes through memory.
    """
    if hasattr(os, "copy_file_range"):
        try:
            copied: int = os.copy_file_range(source, target, count, position, offset)
        except OSError as error:
            if error.errno not in _NO_COPY:
                raise
        else:
            if copied:
                return copied
            # Some file systems, whose files have no size of their own, answer 0 all along.
    data = os.pread(source, min(count, MiB), position)
    return os.pwrite(target, data, offset)


def _open(stack: ExitStack, root: Root, source: ObjectInfo) -> tuple[int, int, int | None]:
    """Open the source; return its descriptor, its size, and the checksum that was kept with it."""
    descriptor = root.open(stack, source.key)
    if descriptor is None:
        raise NotFoundError(f"{source.key}: there is no such object in {root.path}", key=source.key)
    status = os.fstat(descriptor)
    found = describe(source.key, status, None)
    if found.version != source.version:
        raise _gone(source, f"found version {found.version}")
    return descriptor, found.size, kept_crc32c(descriptor, status)


def _prepare(stack: ExitStack, root: Root, key: str, condition: Condition | None) -> tuple[int, str]:
    temporary = root.temporary(stack)
    root.check(key, condition)  # once more when it counts; this spares the copying
    return temporary


def _check_unchanged(descriptor: int, source: ObjectInfo) -> None:
    """Refuse the bytes of a file that another program wrote to in place while it was copied."""
    if describe(source.key, os.fstat(descriptor), None).version != source.version:
        raise _gone(source, "it was changed while it was copied")


async def _sum(request: Request, descriptor: int, size: int) -> int:
    value = 0
    for start in range(0, size, _PIECE_BYTES):
        value = await request.run(_sum_piece, descriptor, start, min(start + _PIECE_BYTES, size), value)
    return value


def _sum_piece(descriptor: int, start: int, stop: int, value: int) -> int:
    for position in range(start, stop, MiB):
        value = crc32c(os.pread(descriptor, min(MiB, stop - position), position), value)
    return value


def _gone(source: ObjectInfo, found: str) -> NotFoundError:
    return NotFoundError(f"{source.key}: expected version {source.version}, {found}", key=source.key)
