"""Retries: by count and elapsed time, jittered, polite to the store, and quiet."""

from __future__ import annotations

import asyncio
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ackpt.errors import (
    ChecksumMismatchError,
    InvalidOptionError,
    NotFoundError,
    PermissionDeniedError,
    TransientError,
)
from ackpt.transfer.retry import Deadline, Retry, backoff_secs, settled

from .hand_clock import HandClock, longest


class Operation:
    """Fail with each error in turn, `secs` after it was called, then succeed."""

    def __init__(self, clock: HandClock, *errors: BaseException, secs: float = 0.0) -> None:
        self._clock = clock
        self._errors = list(errors)
        self._secs = secs
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        self._clock.now += self._secs
        if self._errors:
            raise self._errors.pop(0)
        return "done"


def busy(count: int) -> list[TransientError]:
    return [TransientError(f"busy {n}") for n in range(count)]


async def test_a_transient_failure_is_tried_again_until_it_succeeds(retry: Retry, clock: HandClock) -> None:
    operation = Operation(clock, *busy(3))
    assert await retry(operation, what="part 1 of x") == "done"
    assert operation.calls == 4
    assert clock.slept == [0.5, 1.0, 2.0]


async def test_the_last_error_comes_out_with_a_note_when_the_attempts_are_used_up(
    retry: Retry, clock: HandClock
) -> None:
    operation = Operation(clock, *busy(9))
    with pytest.raises(TransientError, match="busy 3") as raised:
        await retry(operation, what="part 1 of x")
    assert operation.calls == 4
    assert raised.value.__notes__ == ["gave up on part 1 of x after 4 of 4 attempts in 3.5 s"]


@pytest.mark.parametrize("error", [NotFoundError("gone"), PermissionDeniedError("no"), ValueError("bug")])
async def test_a_permanent_failure_is_not_tried_again(
    retry: Retry, clock: HandClock, error: Exception
) -> None:
    operation = Operation(clock, error)
    with pytest.raises(type(error)) as raised:
        await retry(operation, what="x")
    assert operation.calls == 1
    assert raised.value is error
    assert not hasattr(error, "__notes__")


async def test_cancellation_goes_through_at_once(retry: Retry, clock: HandClock) -> None:
    operation = Operation(clock, asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        await retry(operation, what="x")
    assert operation.calls == 1


async def test_cancellation_ends_the_wait_between_attempts(clock: HandClock) -> None:
    retry = Retry(attempts=4, deadline=Deadline(300, clock=clock), uniform=longest)  # really sleeps
    operation = Operation(clock, *busy(1))
    task = asyncio.create_task(retry(operation, what="x"))
    while not operation.calls:  # noqa: ASYNC110
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert operation.calls == 1


async def test_only_errors_of_the_class_asked_for_are_tried_again(retry: Retry, clock: HandClock) -> None:
    operation = Operation(clock, ChecksumMismatchError("other bytes"), TransientError("busy"))
    with pytest.raises(TransientError, match="busy"):
        await retry(operation, what="x", on=ChecksumMismatchError)
    assert operation.calls == 2


async def test_fewer_attempts_can_be_asked_for(retry: Retry, clock: HandClock) -> None:
    operation = Operation(clock, *busy(9))
    with pytest.raises(TransientError):
        await retry(operation, what="x", attempts=2)
    assert operation.calls == 2


async def test_the_store_s_wish_to_wait_is_the_least_wait(retry: Retry, clock: HandClock) -> None:
    operation = Operation(clock, TransientError("slow down", retry_after_secs=20.0))
    await retry(operation, what="x")
    assert clock.slept == [20.5]


async def test_a_wish_to_wait_beyond_the_deadline_ends_it_at_once(retry: Retry, clock: HandClock) -> None:
    operation = Operation(clock, TransientError("slow down", retry_after_secs=301.0))
    with pytest.raises(TransientError, match="slow down"):
        await retry(operation, what="x")
    assert clock.slept == []


async def test_retries_end_with_the_deadline_however_many_attempts_are_left(clock: HandClock) -> None:
    retry = Retry(attempts=10**6, deadline=Deadline(100, clock=clock), sleep=clock.sleep, uniform=longest)
    operation = Operation(clock, *busy(1000))
    begun = clock.now
    with pytest.raises(TransientError):
        await retry(operation, what="x")
    assert clock.now - begun == pytest.approx(100)  # the last wait is cut, for one more attempt at the end


async def test_progress_of_another_renews_the_deadline(clock: HandClock) -> None:
    deadline = Deadline(100, clock=clock)
    retry = Retry(attempts=10**6, deadline=deadline, sleep=clock.sleep, uniform=longest)
    operation = Operation(clock, *busy(1000))

    async def renewing() -> str:
        if operation.calls == 6:
            await retry(Operation(clock), what="another part")
        return await operation()

    begun = clock.now
    with pytest.raises(TransientError):
        await retry(renewing, what="x")
    assert clock.now - begun > 100


async def test_a_request_that_takes_longer_than_the_deadline_is_tried_again_all_the_same(
    clock: HandClock,
) -> None:
    retry = Retry(attempts=4, deadline=Deadline(100, clock=clock), sleep=clock.sleep, uniform=longest)
    operation = Operation(clock, *busy(1), secs=500)
    assert await retry(operation, what="x") == "done"


async def test_a_retry_is_logged_at_debug_and_nothing_louder(
    retry: Retry, clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="ackpt")
    await retry(Operation(clock, *busy(1)), what="part 1 of x")
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("DEBUG", "part 1 of x: attempt 1 of 4 failed (busy 0); again in 0.50 s")
    ]


@given(attempt=st.integers(1, 10_000), low=st.floats(0, 1))
def test_the_wait_is_drawn_from_zero_up_to_a_bound_that_doubles_and_is_capped(
    attempt: int, low: float
) -> None:
    drawn: list[tuple[float, float]] = []

    def draw(least: float, most: float) -> float:
        drawn.append((least, most))
        return least + (most - least) * low

    secs = backoff_secs(attempt, draw)
    assert drawn == [(0.0, min(32.0, 0.5 * 2 ** min(attempt - 1, 50)))]
    assert 0 <= secs <= 32


def test_bounds_that_make_no_sense_are_refused(clock: HandClock) -> None:
    with pytest.raises(InvalidOptionError):
        Deadline(-1)
    with pytest.raises(InvalidOptionError):
        Retry(attempts=0, deadline=Deadline(1, clock=clock))


@pytest.mark.parametrize("ours", ["ours", None])
async def test_a_refusal_after_an_unanswered_attempt_is_settled(
    retry: Retry, clock: HandClock, ours: str | None
) -> None:
    async def done() -> str | None:
        return ours

    operation = Operation(clock, TransientError("lost"), NotFoundError("gone"))
    settling = settled(retry, operation, refusals=NotFoundError, done=done, what="x")
    if ours is None:
        with pytest.raises(NotFoundError, match="gone"):
            await settling
    else:
        assert await settling == "ours"


async def test_a_refusal_of_the_first_attempt_is_a_refusal(retry: Retry, clock: HandClock) -> None:
    async def done() -> str | None:
        raise AssertionError("nothing to settle")

    with pytest.raises(NotFoundError):
        await settled(
            retry, Operation(clock, NotFoundError("gone")), refusals=NotFoundError, done=done, what="x"
        )
