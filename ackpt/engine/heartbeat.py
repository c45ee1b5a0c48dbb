"""The heartbeat: renews the run's lease while a saver lives, so that a sweep leaves its work alone."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from types import TracebackType
from typing import Self

from ackpt.checkpoint.lease import RENEW_SECS, end_lease, renew_lease
from ackpt.engine.store import Store
from ackpt.errors import AckptError

_log = logging.getLogger(__name__)

_END_SECS = 1.0


class Heartbeat:
    """Renew a lease from `start` to `aclose`, or inside `async with`; on one event loop."""

    def __init__(self, store: Store, *, writer: str) -> None:
        self._store = store
        self._writer = writer
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to renew."""
        self._task = asyncio.create_task(self._beat(), name="heartbeat")

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop, and end the lease; where that fails it ends by its age. Idempotent."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.wait([task])
        with suppress(AckptError, TimeoutError):
            async with asyncio.timeout(_END_SECS):
                await end_lease(self._store.backend, writer=self._writer)

    async def _beat(self) -> None:
        while True:
            try:
                async with asyncio.timeout(RENEW_SECS):
                    await renew_lease(self._store.backend, writer=self._writer)
            except Exception as error:  # whatever it is, the next beat may be better
                _log.debug("the lease of %s could not be renewed: %r", self._store.name, error)
            await asyncio.sleep(RENEW_SECS)
