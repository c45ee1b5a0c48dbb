"""What filesystems raise, as errors of ours: by type where it says enough, else by an HTTP status."""

from __future__ import annotations

import errno
from collections.abc import Generator, Mapping
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

_NO_CREDENTIALS = frozenset({"AuthenticationException", "ClientAuthenticationError", "NoCredentialsError"})
_LOST = frozenset({"ConnectTimeoutError", "EndpointConnectionError", "NoValidConnectionsError", "gaierror"})
"""Exceptions that have no type in common with others, by name: of paramiko, azure-core, botocore, and socket.

https://docs.paramiko.org/en/stable/api/ssh_exception.html,
https://docs.aws.amazon.com/boto3/latest/guide/error-handling.html,
https://learn.microsoft.com/python/api/azure-core/azure.core.exceptions
"""
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
    names = {kind.__name__ for kind in type(error).__mro__}
    if status == 401 or names & _NO_CREDENTIALS:
        return AuthenticationError(what, key=key)
    if isinstance(error, PermissionError) or status == 403:
        return PermissionDeniedError(what, key=key)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFullError(what, key=key)
    if status in _TOO_MANY:
        return ThrottledError(what, key=key)
    passing = isinstance(error, ConnectionError | TimeoutError | EOFError) or names & _LOST
    if passing or status in _PASSING:
        return TransientError(what, key=key)
    if isinstance(error, NotImplementedError):
        return UnsupportedError(
            f"{key or 'the root'}: this filesystem cannot do that (it may be one to read from only)", key=key
        )
    return StorageError(what, key=key)


def _status(error: BaseException | None) -> int | None:
    """Return the HTTP status that an exception carries, or one that it was made of."""
    while error is not None:
        found = _own_status(error)
        if found is not None:
            return found
        error = error.__cause__
    return None


def _own_status(error: BaseException) -> int | None:
    """Read the status under the names that libraries use; botocore's is in the answer's metadata."""
    response: object = getattr(error, "response", None)
    metadata: object = response.get("ResponseMetadata") if isinstance(response, Mapping) else None
    if isinstance(metadata, Mapping) and isinstance(number := metadata.get("HTTPStatusCode"), int):
        return number
    for name in ("status", "status_code", "code", "http_status"):
        value: object = getattr(error, name, None)
        try:
            number = int(value) if isinstance(value, int | str) else 0
        except ValueError:
            continue
        if 100 <= number < 600:
            return number
    return None
