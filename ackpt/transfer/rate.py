"""How many bytes a second may travel: a token bucket that can be changed while it is in use."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from ackpt.errors import InvalidOptionError

_BURST_SECS: Final = 0.25
_LOOK_SECS: Final = 1.0


class RateLimit:
    """Let bytes through at `bytes_per_sec`, None for no limit; one for all that share a link.

    The bucket holds a quarter of a second's bytes, and may go into debt by one request, so that
    any size passes and the mean holds. First come, first served.
    """

    def __init__(
        self,
        bytes_per_sec: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Start with a full bucket.

        Raises:
            InvalidOptionError: a limit that is not above 0.
        """
        self._clock = clock
        self._sleep = sleep
        self._turn = asyncio.Lock()
        self._updated = clock()
        self._limit: float | None = None
        self._tokens = 0.0
        self.change(bytes_per_sec)
        if bytes_per_sec is not None:
            self._tokens = bytes_per_sec * _BURST_SECS

    @property
    def limited(self) -> bool:
        """Tell whether there is a limit now."""
        return self._limit is not None

    def change(self, bytes_per_sec: float | None) -> None:
        """Set another limit; who waits already feels it within a second.

        Raises:
            InvalidOptionError: a limit that is not above 0.
        """
        if bytes_per_sec is not None and not bytes_per_sec > 0:
            raise InvalidOptionError(f"rate limit: expected more than 0 bytes a second, got {bytes_per_sec}")
        self._refill()
        self._limit = bytes_per_sec

    async def take(self, size: int) -> None:
        """Wait until `size` bytes may travel."""
        if self._limit is None:
            return
        async with self._turn:
            while self._limit is not None:
                self._refill()
                if self._tokens > 0:
                    self._tokens -= size
                    return
                await self._sleep(min(-self._tokens / self._limit + 1e-3, _LOOK_SECS))

    def _refill(self) -> None:
        now = self._clock()
        if self._limit is not None:
            gained = (now - self._updated) * self._limit
            self._tokens = min(self._tokens + gained, self._limit * _BURST_SECS)
        self._updated = now
