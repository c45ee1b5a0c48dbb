"""A backend whose requests are retried, and whose lost replies are settled."""

from __future__ import annotations

from ackpt.backends.base import Backend
from ackpt.transfer.retry import Retry


def reliable(backend: Backend, retry: Retry) -> Backend:
    """Wrap `backend` so that its transient failures are retried; a `MultipartBackend` stays one.

    Never nests: a backend that is reliable already gets `retry` in place of its own.
    """
    raise NotImplementedError
