"""How many bytes a second may travel: a token bucket that can be changed while it is in use."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable
from numbers import Real
from typing import Final

from ackpt.errors import InvalidOptionError
from ackpt.transfer.pool import Guard, OneThread

_BURST_SECS: Final = 0.25
_LOOK_SECS: Final = 1.0
_SPARE_SECS: Final = 1e-3


class RateLimit:
    """Let bytes through at `bytes_per_sec`, None for no limit; one for all that share a link.

    The bucket holds a quarter of a second's bytes, and may go into debt by one request, so that
    any size passes and the mean holds. First come, first served: who comes takes a place in the
    stream of bytes, and sleeps, on its own loop, until the stream has come there.
    """

    def __init__(
        self,
        bytes_per_sec: float | None = None,
        *,
        guard: Guard | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Start with a full bucket; for one loop, or for all threads that `guard` holds apart.

        Raises:
            InvalidOptionError: a limit that is not above 0.
        """
        self._guard = OneThread() if guard is None else guard
        self._clock = clock
        self._sleep = sleep
        self._updated = clock()
        self._limit: float | None = None
        self._reserved = 0.0
        self._allowed = 0.0
        self._given_up: deque[int] = deque()
        self.change(bytes_per_sec)
        if bytes_per_sec is not None:
            self._allowed = bytes_per_sec * _BURST_SECS

    @property
    def limited(self) -> bool:
        """Tell whether there is a limit now."""
        return self._limit is not None

    @property
    def bytes_per_sec(self) -> float | None:
        """Return the limit."""
        return self._limit

    def change(self, bytes_per_sec: float | None) -> None:
        """Set another limit; who waits already feels it within a second. From any thread.

        Raises:
            InvalidOptionError: a limit that is not above 0, or no number; none at all is None, not infinity.
        """
        if bytes_per_sec is not None and not _is_rate(bytes_per_sec):
            raise InvalidOptionError(
                f"max_bytes_per_sec: expected more than 0 bytes a second, or None, got {bytes_per_sec!r}"
            )
        self._guard.acquire()
        try:
            self._refill()
            if bytes_per_sec is None:  # all who wait pass now, and owe nothing under a later limit
                self._allowed = max(self._allowed, self._reserved)
            self._limit = bytes_per_sec
        finally:
            self._guard.release()

    def begin_anew(self, guard: Guard) -> None:
        """Be as new, in a fork: those who wait are in the process that was forked."""
        self._guard = guard
        self._given_up.clear()
        self._allowed = self._reserved

    async def take(self, size: int) -> None:
        """Wait until `size` bytes may travel."""
        place = self._reserve(size)
        if place is None:
            return
        try:
            while (secs := self._left_secs(place)) > 0:
                await self._sleep(min(secs, _LOOK_SECS))
        except BaseException:
            # Not counted here: the garbage collector may be calling, from behind the guard.
            self._given_up.append(size)
            raise

    def _reserve(self, size: int) -> float | None:
        """Take the next place in the stream; None where there is no limit."""
        self._guard.acquire()
        try:
            if self._limit is None:
                return None
            self._refill()
            place, self._reserved = self._reserved, self._reserved + size
            return place
        finally:
            self._guard.release()

    def _left_secs(self, place: float) -> float:
        self._guard.acquire()
        try:
            if self._limit is None:
                return 0.0
            self._refill()
            lack = place - self._allowed
            return 0.0 if lack < 0 else lack / self._limit + _SPARE_SECS
        finally:
            self._guard.release()

    def _refill(self) -> None:
        now = self._clock()
        while self._given_up:
            self._allowed += self._given_up.popleft()
        if self._limit is not None:
            allowed = self._allowed + (now - self._updated) * self._limit
            self._allowed = min(allowed, self._reserved + self._limit * _BURST_SECS)
        self._updated = now


def _is_rate(value: object) -> bool:
    return isinstance(value, Real) and 0 < float(value) < math.inf
