"""The bytes of one request: from memory, or streamed from a range of a file."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator

from ackpt.backends.base import Body
from ackpt.options import KiB
from ackpt.transfer.budget import Budget

BLOCK_BYTES = 128 * KiB


class BytesBody(Body):
    """Hold bytes that are in memory anyway: manifests, state files, tests."""

    def __init__(self, data: bytes) -> None:
        raise NotImplementedError


class FileBody(Body):
    """Stream the bytes `start` to `stop` of a file; flat in memory, whatever their number."""

    def __init__(
        self, path: str | os.PathLike[str], start: int, stop: int, *, budget: Budget
    ) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        """Close the file and give back the memory that `read` took; idempotent."""
        raise NotImplementedError
