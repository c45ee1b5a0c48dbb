"""The time by which retries wait: the real one, unless a rehearsal puts a simulated one in its place."""

from __future__ import annotations

import asyncio
import time
from contextvars import ContextVar
from typing import Final


class Clock:
    """Be the real time."""

    def time(self) -> float:
        """Return the time, in seconds since some moment; it never goes back."""
        return time.monotonic()

    async def sleep(self, secs: float) -> None:
        """Wait so long."""
        await asyncio.sleep(secs)


clock: Final[ContextVar[Clock]] = ContextVar("clock")
"""The clock of what is started in this context, and of all tasks that it starts; unset, the real one."""

REAL: Final = Clock()
