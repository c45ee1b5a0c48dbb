"""When a request is sent again, and when that ends: the only place that retries."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ackpt.errors import TransientError

T = TypeVar("T")


class Deadline:
    """Be the time until which retries go on without progress; shared by all requests of a save.

    Any progress (`renew`) gives all of them the whole time again.
    """

    def __init__(self, secs: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        raise NotImplementedError

    def renew(self) -> None:
        """Note progress: the time starts again."""
        raise NotImplementedError


class Retry:
    """Run an operation until it succeeds, fails for good, or `attempts` or the deadline is used up.

    Waits with full jitter between attempts, and at least as long as the store asked for.
    """

    def __init__(
        self,
        *,
        attempts: int,
        deadline: Deadline,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.deadline = deadline

    async def __call__(
        self,
        operation: Callable[[], Awaitable[T]],
        *,
        what: str,
        on: type[TransientError] = TransientError,
        attempts: int | None = None,
    ) -> T:
        """Return what `operation` returns; `what` names it in messages ("part 3 of model.ckpt-5.index").

        Only errors of the class `on` are retried, and not more than `attempts` (None: as constructed).

        Raises:
            TransientError: the last one, with a note of the attempts and the time they took.
        """
        raise NotImplementedError
