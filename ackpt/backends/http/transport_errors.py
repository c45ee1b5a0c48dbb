"""What a connection may fail with, in the errors of ackpt; in one place."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp

from ackpt.backends.http.purpose import Purpose
from ackpt.errors import StorageError, TransientError


@contextmanager
def transport_errors(purpose: Purpose, endpoint: str, timeout_secs: float) -> Iterator[None]:
    """Translate what a connection may fail with; the endpoint is told, never a request's URL.

    A URL can be a credential (an upload session's, a signed one), and some of aiohttp's messages
    hold it: the cause that is chained is then the one below them.
    """
    try:
        yield
    except aiohttp.ClientConnectorCertificateError as error:
        raise StorageError(
            f"{purpose}: the certificate of {endpoint} is not trusted ({error.certificate_error}); name your "
            "own authority's in SSL_CERT_FILE or REQUESTS_CA_BUNDLE",
            key=purpose.key,
        ) from error
    except TimeoutError as error:
        raise TransientError(
            f"{purpose}: no progress with {endpoint} for {timeout_secs:g} s", key=purpose.key
        ) from without_url(error)
    except (aiohttp.ClientError, ssl.SSLError, OSError) as error:
        raise TransientError(
            f"{purpose}: the connection to {endpoint} failed ({_reason(error)})", key=purpose.key
        ) from without_url(error)


def without_url(error: BaseException | None) -> BaseException | None:
    """Return the first error of a chain of causes that names no URL."""
    while error is not None and "://" in str(error):
        error = error.__cause__
    return error


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        return str(error.os_error)
    below = without_url(error)
    return (str(below) if below is not None else "") or type(error).__name__
