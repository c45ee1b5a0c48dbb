"""What the operating system says, in the words of `ackpt.errors`: the one place that translates."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from ackpt.errors import (
    NotFoundError,
    PermissionDeniedError,
    StorageError,
    StorageFullError,
    TransientError,
    UnsupportedError,
)

_KINDS: dict[int, tuple[type[StorageError], str]] = {
    errno.ENOENT: (NotFoundError, "it is not there, or went away just now"),
    errno.EACCES: (PermissionDeniedError, "allow this user to read and write there"),
    errno.EPERM: (PermissionDeniedError, "allow this user to read and write there"),
    errno.EROFS: (PermissionDeniedError, "the file system is mounted read-only"),
    errno.ELOOP: (PermissionDeniedError, "symbolic links below the root are not followed"),
    errno.ENOSPC: (StorageFullError, "make room on this disk, or choose another place"),
    errno.EDQUOT: (StorageFullError, "make room in this quota, or choose another place"),
    errno.EFBIG: (StorageFullError, "raise the limit on the size of one file, or choose another place"),
    errno.ENAMETOOLONG: (UnsupportedError, "use a shorter key: 255 bytes between two slashes at most"),
    errno.EILSEQ: (UnsupportedError, "use a key that this file system can store"),
    errno.EXDEV: (UnsupportedError, "mount nothing below the root: an object is made by a rename"),
    errno.EMFILE: (TransientError, "raise the limit on open files (ulimit -n)"),
    errno.ENFILE: (TransientError, "the system has too many open files"),
    errno.EBUSY: (TransientError, "it is in use"),
    errno.ESTALE: (TransientError, "the file server restarted"),
    errno.ETIMEDOUT: (TransientError, "the file server does not answer"),
    errno.ENOMEM: (TransientError, "the system has no memory left"),
}  # fmt: skip


@contextmanager
def translated(what: str, key: str | None) -> Iterator[None]:
    """Raise an OSError of the body as a StorageError; `what` is how messages call the object.

    Raises:
        NotFoundError, PermissionDeniedError, StorageFullError, UnsupportedError, TransientError:
            as the number says.
        StorageError: anything else, such as an input/output error of the disk.
    """
    try:
        yield
    except OSError as error:
        kind, hint = _KINDS.get(error.errno or 0, (StorageError, "look at the system's log for this disk"))
        reason = (error.strerror or str(error)).lower()
        raise kind(f"{what}: {reason}; {hint}", key=key) from error
