"""What filesystems raise, as errors of ours: by type where it says enough, else by an HTTP status."""

from __future__ import annotations

import errno
from collections.abc import Generator
from contextlib import contextmanager

from ackpt.errors import (
    AckptError,
    AuthenticationError,
    NotFoundError,
    PermissionDeniedError,
    StorageError,
    StorageFullError,
    ThrottledError,
    TransientError,
    UnsupportedError,
)

_TOO_MANY = frozenset({429, 503})
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})


@contextmanager
def translated(key: str) -> Generator[None, None, None]:
    """Raise what happens inside as an error of ours, about `key`."""
    try:
        yield
    except AckptError:
        raise
    except Exception as error:
        raise translate(error, key) from error


def translate(error: Exception, key: str) -> StorageError:
    """Choose the error of ours for what a filesystem raised: each library has exceptions of its own."""
    what = f"{key or 'the root'}: {type(error).__name__}: {error}"
    status = _status(error)
    if isinstance(error, FileNotFoundError) or status == 404:
        return NotFoundError(f"{key} is not there ({error})", key=key)
    if status == 401:
        return AuthenticationError(what, key=key)
    if isinstance(error, PermissionError) or status == 403:
        return PermissionDeniedError(what, key=key)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFullError(what, key=key)
    if status in _TOO_MANY:
        return ThrottledError(what, key=key)
    if isinstance(error, ConnectionError | TimeoutError | EOFError) or status in _PASSING:
        return TransientError(what, key=key)
    if isinstance(error, NotImplementedError):
        return UnsupportedError(
            f"{key or 'the root'}: this filesystem cannot do that (it may be one to read from only)", key=key
        )
    return StorageError(what, key=key)


def _status(error: Exception) -> int | None:
    """Return the HTTP status that an exception carries, under the names that libraries use."""
    for name in ("status", "status_code", "code", "http_status"):
        value: object = getattr(error, name, None)
        try:
            number = int(value) if isinstance(value, int | str) else 0
        except ValueError:
            continue
        if 100 <= number < 600:
            return number
    return None
