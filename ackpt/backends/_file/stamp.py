"""What a file says about itself as an object: its version, and its checksum while it is as written."""

from __future__ import annotations

import errno
import os
import re
import time
from datetime import UTC, datetime
from typing import Final

from ackpt.backends.base import ObjectInfo

_ATTRIBUTE: Final = "user.ackpt.crc32c"
_HEX: Final = re.compile("[0-9a-f]{8}")
# No extended attributes here, no room for one, or not for this user: the checksum is then not kept.
_NOT_KEPT: Final = frozenset(
    {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSPC, errno.EDQUOT, errno.E2BIG, errno.EPERM, errno.EACCES}
)


def stamp(descriptor: int, crc32c: int) -> None:
    """Give a finished file a time of its own, and keep its checksum in an extended attribute.

    The kernel's own times have steps of some milliseconds, in which an object can be replaced
    twice and its inode number come back; a time in nanoseconds, set here, makes versions differ.
    The attribute holds time and size too: once the file is changed in place, or copied without its
    time, it does not count any more.
    """
    now = time.time_ns()
    os.utime(descriptor, ns=(now, now))
    status = os.fstat(descriptor)
    if hasattr(os, "setxattr"):
        try:
            os.setxattr(descriptor, _ATTRIBUTE, _value(status, crc32c))
        except OSError as error:
            if error.errno not in _NOT_KEPT:
                raise


def describe(key: str, status: os.stat_result, crc32c: int | None) -> ObjectInfo:
    """Describe a file as an object; its version is made of inode, time and size."""
    return ObjectInfo(
        key=key,
        size=status.st_size,
        version=f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}",
        crc32c=crc32c,
        modified=datetime.fromtimestamp(status.st_mtime_ns // 10**9, UTC),
    )


def kept_crc32c(file: int | str, status: os.stat_result) -> int | None:
    """Return the checksum that was kept with a file, None where there is none or it counts no more."""
    if not hasattr(os, "getxattr"):
        return None
    try:
        kept = os.getxattr(file, _ATTRIBUTE) if isinstance(file, int) else _of_path(file)
    except OSError:
        # None kept, none possible, or the file has gone: whoever needs a checksum reads the bytes.
        return None
    text = kept[-8:].decode("ascii", "replace")
    if _HEX.fullmatch(text) is None or kept != _value(status, int(text, 16)):
        return None
    return int(text, 16)


def _of_path(path: str) -> bytes:
    return os.getxattr(path, _ATTRIBUTE, follow_symlinks=False)


def _value(status: os.stat_result, crc32c: int) -> bytes:
    return b"%d %d %08x" % (status.st_mtime_ns, status.st_size, crc32c)
