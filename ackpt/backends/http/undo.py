"""Dropping what a failed or cancelled request has left: to its end, but not for long."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Final

from ackpt.errors import StorageError

_log = logging.getLogger(__name__)

_SECS: Final = 1.0
"""Less than a preemption leaves for the process to go; a sweep finds what took longer."""


async def undo(work: Coroutine[None, None, None]) -> None:
    """Await `work`, also while the caller is being cancelled; what fails is left to the sweep of orphans.

    Raises:
        asyncio.CancelledError: the caller was cancelled meanwhile; the work has ended all the same.
    """

    async def bounded() -> None:
        try:
            async with asyncio.timeout(_SECS):
                await work
        except (StorageError, TimeoutError) as error:
            _log.debug("an upload was not dropped: %s", error)

    task = asyncio.create_task(bounded())
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    await task
    if cancelled is not None:
        raise cancelled
