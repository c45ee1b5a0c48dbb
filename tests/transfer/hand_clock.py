"""A clock that only sleeping moves, and chance that always draws the upper bound."""

from __future__ import annotations

import asyncio


class HandClock:
    """Tell a time that `sleep` moves on at once."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, secs: float) -> None:
        self.slept.append(secs)
        self.now += secs
        await asyncio.sleep(0)


def longest(low: float, high: float) -> float:
    """Draw the upper bound."""
    return high
