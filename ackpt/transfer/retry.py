"""When a request is sent again, and when that ends: the only place that retries."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from ackpt.errors import InvalidOptionError, StorageError, TransientError
from ackpt.transfer.stall import Watch

T = TypeVar("T")

_logger = logging.getLogger(__name__)

_FIRST_SECS: Final = 0.5
_LONGEST_SECS: Final = 32.0


def backoff_secs(attempt: int, uniform: Callable[[float, float], float]) -> float:
    """Return how long to wait after failure number `attempt` (from 1): "full jitter".

    A random time up to an exponentially growing, capped bound, so that clients that failed
    together do not come back together
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    """
    return uniform(0.0, min(_LONGEST_SECS, _FIRST_SECS * 2.0 ** min(attempt - 1, 16)))


class Deadline:
    """Be the time until which retries go on without progress; shared by all requests of a save.

    Any progress (`renew`) gives all of them the whole time again.
    """

    def __init__(self, secs: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Start now; `secs` is how long the save may be without progress.

        Raises:
            InvalidOptionError: a negative time.
        """
        if secs < 0:
            raise InvalidOptionError(f"retry_timeout: expected 0 seconds or more, got {secs}")
        self.clock = clock
        self._secs = secs
        self._renewed = clock()

    def renew(self) -> None:
        """Note progress: the time starts again."""
        self._renewed = self.clock()

    def left_secs(self, since: float) -> float:
        """Return the time left, counted from the last progress or from `since`, whichever is later."""
        return max(self._renewed, since) + self._secs - self.clock()


class Retry:
    """Run operations until they succeed, fail for good, or `attempts` or the deadline is used up.

    Waits with full jitter between attempts, and at least as long as the store asked for
    (`Retry-After`). The deadline counts from an operation's first failure or the last progress of
    anything that shares it, whichever is later: a long request that fails once is sent again.
    Success of any operation is progress.
    """

    def __init__(
        self,
        *,
        attempts: int,
        deadline: Deadline,
        stall_secs: float = 60.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """Take the bounds, and what tests put in place of time and chance.

        `stall_secs` is how long one attempt may be without a sign of life.

        Raises:
            InvalidOptionError: less than one attempt, or no time for a stall.
        """
        if attempts < 1:
            raise InvalidOptionError(f"attempts: expected at least 1, got {attempts}")
        if stall_secs <= 0:
            raise InvalidOptionError(f"stall_timeout: expected more than 0 seconds, got {stall_secs}")
        self.attempts = attempts
        self._stall_secs = stall_secs
        self.deadline = deadline
        self._sleep = sleep
        self._uniform = uniform

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
        started = self.deadline.clock()
        try:
            # Outside of tenacity, which costs more than the rest of a small object's request.
            result = await operation()
        except on as error:
            course = _Course(
                self.attempts if attempts is None else attempts, started, self.deadline, self._uniform, what
            )
            result = await self._go_on(operation, error, on, course)
        self.deadline.renew()
        return result

    def watch(self, what: str, *, patience: float = 1.0) -> Watch:
        """Make the watch of one attempt; `patience` stretches its time where a store may take long."""
        return Watch(self._stall_secs * patience, what=what)

    async def _go_on(
        self,
        operation: Callable[[], Awaitable[T]],
        error: TransientError,
        on: type[TransientError],
        course: _Course,
    ) -> T:
        """Retry `operation`, whose first attempt has ended with `error`."""
        first: TransientError | None = error

        async def attempt() -> T:
            nonlocal first
            if first is not None:
                error, first = first, None
                raise error
            return await operation()

        try:
            result: T = await AsyncRetrying(
                sleep=self._sleep,
                retry=retry_if_exception_type(on),
                wait=course.wait_secs,
                stop=course.is_over,
                before_sleep=course.log,
                reraise=True,
            )(attempt)
        except on as error:
            error.add_note(course.summary())
            raise
        return result


class _Course:
    """Decide for one operation, from its failures so far, whether and when it is tried again."""

    def __init__(
        self,
        attempts: int,
        started: float,
        deadline: Deadline,
        uniform: Callable[[float, float], float],
        what: str,
    ) -> None:
        self._attempts = attempts
        self._deadline = deadline
        self._uniform = uniform
        self._what = what
        self._started = started
        self._first_failure = 0.0
        self._failures = 0

    def wait_secs(self, state: RetryCallState) -> float:
        """Return the time to wait; tenacity asks after each failure, and before `is_over`."""
        self._failures = state.attempt_number
        if self._failures == 1:
            self._first_failure = self._deadline.clock()
        jitter = backoff_secs(self._failures, self._uniform)
        error = state.outcome.exception() if state.outcome is not None else None
        if isinstance(error, TransientError) and error.retry_after_secs:
            return error.retry_after_secs + jitter
        return min(jitter, max(0.0, self._deadline.left_secs(self._first_failure)))

    def is_over(self, state: RetryCallState) -> bool:
        """Tell whether this failure was the last: no attempt or no time left, or not enough to wait."""
        left = self._deadline.left_secs(self._first_failure)
        return self._failures >= self._attempts or left <= 0 or state.upcoming_sleep > left

    def log(self, state: RetryCallState) -> None:
        """Note the failure that will be retried."""
        _logger.debug(
            "%s: attempt %d of %d failed (%s); again in %.2f s",
            self._what,
            self._failures,
            self._attempts,
            state.outcome.exception() if state.outcome is not None else None,
            state.upcoming_sleep,
        )

    def summary(self) -> str:
        """Say what was tried, for the error that ends it."""
        elapsed = self._deadline.clock() - self._started
        return (
            f"gave up on {self._what} after {self._failures} of {self._attempts} attempts in {elapsed:.1f} s"
        )


async def settled(
    retry: Retry,
    request: Callable[[], Awaitable[T]],
    *,
    refusals: type[StorageError] | tuple[type[StorageError], ...],
    done: Callable[[], Awaitable[T | None]],
    what: str,
) -> T:
    """Retry a request that may take effect although its reply gets lost, and can do so once only.

    A refusal after an attempt that ended without an answer may be the work of that attempt: then
    `done` says what it had as its result, or None if it was not ours.

    Raises:
        StorageError: the refusal, when it has nothing to do with us, or what `retry` raises.
    """
    unanswered = False

    async def attempt() -> T:
        nonlocal unanswered
        try:
            return await request()
        except TransientError:
            unanswered = True
            raise
        except refusals:
            result = await done() if unanswered else None
            if result is None:
                raise
            return result

    return await retry(attempt, what=what)
