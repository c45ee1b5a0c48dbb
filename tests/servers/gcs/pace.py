"""A limit of bytes per second that all bodies share; for tests that need an upload to take a while."""

from __future__ import annotations

import asyncio


class Pace:
    """Let bytes through at `rate` per second; None is no limit."""

    def __init__(self, rate: float | None = None) -> None:
        self.rate = rate
        self._free_at = 0.0

    async def take(self, count: int) -> None:
        """Wait until `count` bytes more are due."""
        if self.rate is None:
            return
        now = asyncio.get_running_loop().time()
        self._free_at = max(now, self._free_at) + count / self.rate
        await asyncio.sleep(self._free_at - now)
