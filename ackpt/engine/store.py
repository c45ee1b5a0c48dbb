"""The store of one run, opened: its backend, its name for people, and what its transfers share."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from ackpt.backends.base import Backend
from ackpt.backends.registry import open_target
from ackpt.engine.limits import Limits
from ackpt.errors import InvalidOptionError, SaveTimeoutError
from ackpt.transfer.budget import Budget
from ackpt.transfer.context import Transfer, make_budget
from ackpt.transfer.reliable import reliable
from ackpt.url import StorageURL


class Store:
    """Hold an open backend and one budget for all its transfers; on one event loop.

    What its transfers use is bounded by its own options, and by `limits` together with others.
    """

    def __init__(
        self, target: str | os.PathLike[str], limits: Limits | None = None, *, apart: bool = False
    ) -> None:
        """Open `target` without any I/O; without `limits` those of the process hold.

        `apart`: for a caller that holds up an event loop meanwhile; see `Sharing.join_apart`.

        Raises:
            InvalidURLError, InvalidOptionError, UnknownSchemeError, MissingDependencyError.
        """
        self.url = StorageURL.parse(target)
        self.backend, self._options = open_target(self.url)
        if not isinstance(limits, Limits | None):  # most callers are not type-checked
            raise InvalidOptionError(f"limits: expected ackpt.Limits(…) or None, got {limits!r}")
        self._limits = Limits.default() if limits is None else limits
        self._apart = apart
        self._budget: Budget | None = None

    @property
    def name(self) -> str:
        """Return the URL without its options."""
        return str(self.url)

    @property
    def connections(self) -> int:
        """Return how many connections may be used now (0: nothing has been asked of the store yet)."""
        return 0 if self._budget is None else self._budget.level

    def transfer(self) -> Transfer:
        """Begin the transfers of one save or restore: their retries share a deadline from now on."""
        if self._budget is None:
            sharing = self._limits.sharing
            shared = sharing.join_apart(self) if self._apart else sharing.join(self)
            self._budget = make_budget(self._options, shared=shared, name=self.name)
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
        """Close the backend, and give back what is held of the limits; idempotent."""
        try:
            await self.backend.aclose()
        finally:
            self._limits.sharing.leave(self)
            if self._budget is not None:
                self._budget.close()
