"""A stretch of another file put into one of ours: by reference where that can be, else copied; and summed."""

from __future__ import annotations

import fcntl
import os
import struct
from typing import Final

from crc32c import crc32c

from ackpt.errors import LocalFileError
from ackpt.options import KiB

_COPY_BYTES: Final = 256 * KiB
"""Read, summed and written while it is in the cache. (Measured on ext4: `copy_file_range`, which is a
copy there, needs a pass of its own for the checksum, and a fifth more of the processor in all.)"""

_CLONE_RANGE: Final = 0x4020940D
"""FICLONERANGE, as most processors number it (https://man7.org/linux/man-pages/man2/FICLONE.2const.html);
to others it is a request that no file knows."""
_CLONE: Final = struct.Struct("qQQQ")


def transplant(source: int, start: int, stop: int, target: int, offset: int, value: int) -> int:
    """Put bytes `start` to `stop` of `source` at `offset` of `target`; return the CRC-32C, from `value` on.

    The checksum is taken from the very bytes that are written; where none are, because both files
    share the blocks from now on, from those of the source, which are the same. Blocking.

    Raises:
        LocalFileError: the source cannot be read, or ends before `stop`; who has its path adds it.
        OSError: the target cannot be written to.
    """
    shared = share(source, start, stop, target, offset)
    buffer = memoryview(bytearray(min(_COPY_BYTES, stop - start)))
    while start < stop:
        view = buffer[: stop - start]
        got = _read(source, view, start, stop)
        view = view[:got]
        value = crc32c(view, value)
        start += got
        while view and not shared:
            written = os.pwrite(target, view, offset)
            offset += written
            view = view[written:]
    return value


def share(source: int, start: int, stop: int, target: int, offset: int) -> bool:
    """Have both files share the blocks, if they lie in one file system that can, at its blocks' bounds.

    Takes no room on the disk, and no time; a later write to one does not show in the other.
    """
    try:
        fcntl.ioctl(target, _CLONE_RANGE, _CLONE.pack(source, start, stop - start, offset))
    except OSError:  # whatever it is, a copy is right; and meets there any error that is real
        return False
    return True


def _read(source: int, view: memoryview, position: int, stop: int) -> int:
    try:
        got = os.preadv(source, [view], position)
    except OSError as error:
        raise LocalFileError(f"cannot be read: {(error.strerror or str(error)).lower()}") from error
    if not got:
        raise LocalFileError(
            f"expected at least {stop} bytes, found {position}; a staged file must not be touched until its "
            "save has ended"
        )
    return got
