"""The store of one run, opened: its backend, its name for people, and what its transfers share."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from ackpt.backends.base import Backend
from ackpt.backends.registry import open_target
from ackpt.errors import SaveTimeoutError
from ackpt.transfer.budget import Budget
from ackpt.transfer.context import Transfer
from ackpt.transfer.reliable import reliable
from ackpt.url import StorageURL


class Store:
    """Hold an open backend and one budget for all its transfers; on one event loop."""

    def __init__(self, target: str | os.PathLike[str]) -> None:
        """Open `target` without any I/O.

        Raises:
            InvalidURLError, InvalidOptionError, UnknownSchemeError, MissingDependencyError.
        """
        self.url = StorageURL.parse(target)
        self.backend, self._options = open_target(self.url)
        self._budget = Budget(connections=self._options.connections, memory_bytes=self._options.memory_bytes)

    @property
    def name(self) -> str:
        """Return the URL without its options."""
        return str(self.url)

    def transfer(self) -> Transfer:
        """Begin the transfers of one save or restore: their retries share a deadline from now on."""
        return Transfer.start(self._options, self._budget)

    def reliable(self) -> Backend:
        """Return the backend with every request retried, within a deadline from now on."""
        return reliable(self.backend, self.transfer().retry)

    @asynccontextmanager
    async def save_time(self, step: int) -> AsyncGenerator[None, None]:
        """Limit what runs inside to the time that a save may take (`save_timeout`), if there is a limit.

        Raises:
            SaveTimeoutError: it took longer.
        """
        limit = asyncio.timeout(self._options.save_secs or None)
        try:
            async with limit:
                yield
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise SaveTimeoutError(
                f"step {step} was not committed within save_timeout={self._options.save_secs:g}s; allow more "
                "time, or save less at a time",
                step=step,
            ) from error

    async def aclose(self) -> None:
        """Close the backend; idempotent."""
        await self.backend.aclose()
