"""The rate limit: the mean holds, any size passes, and it can be changed under way."""

from __future__ import annotations

import asyncio

import pytest

from ackpt.errors import InvalidOptionError
from ackpt.transfer.rate import RateLimit

from .hand_clock import HandClock


async def take_all(rate: RateLimit, sizes: list[int]) -> None:
    async with asyncio.TaskGroup() as group:
        for size in sizes:
            group.create_task(rate.take(size))


@pytest.mark.parametrize("sizes", [[100] * 50, [5000], [1] * 3000, [4000, 1, 999]])
async def test_the_mean_rate_holds_for_any_mix_of_sizes(clock: HandClock, sizes: list[int]) -> None:
    rate = RateLimit(1000.0, clock=clock, sleep=clock.sleep)
    begun = clock.now
    await take_all(rate, sizes)
    await rate.take(1)
    secs = clock.now - begun
    assert sum(sizes) / 1000 - 0.3 <= secs <= sum(sizes) / 1000 * 1.3 + 0.3


async def test_without_a_limit_nothing_waits(clock: HandClock) -> None:
    rate = RateLimit(clock=clock, sleep=clock.sleep)
    await take_all(rate, [10**12] * 3)
    assert not rate.limited
    assert clock.slept == []


async def test_a_change_reaches_who_is_waiting_within_a_second(clock: HandClock) -> None:
    rate = RateLimit(1.0, clock=clock, sleep=clock.sleep)
    await rate.take(10**6)
    waiting = asyncio.create_task(rate.take(1))
    await asyncio.sleep(0)
    begun = clock.now
    rate.change(None)
    await waiting
    assert clock.now - begun <= 1


async def test_what_passed_while_there_was_no_limit_is_no_debt_under_the_next_one(clock: HandClock) -> None:
    rate = RateLimit(1.0, clock=clock, sleep=clock.sleep)
    waiting = [asyncio.create_task(rate.take(10**6)) for _ in range(3)]
    await asyncio.sleep(0)
    rate.change(None)
    await asyncio.wait(waiting)
    rate.change(1000.0)
    begun = clock.now
    await take_all(rate, [100] * 10)
    assert clock.now - begun <= 1.3


async def test_who_gives_up_waiting_takes_nothing_from_the_others(clock: HandClock) -> None:
    rate, never = RateLimit(1000.0, clock=clock, sleep=clock.sleep), asyncio.Event()
    await rate.take(1000)

    async def sleep(secs: float) -> None:
        await never.wait()

    rate._sleep = sleep
    waiting = asyncio.create_task(rate.take(10**6))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    rate._sleep = clock.sleep
    begun = clock.now
    await take_all(rate, [100] * 10)
    assert clock.now - begun <= 3


async def test_time_without_use_does_not_add_up(clock: HandClock) -> None:
    rate = RateLimit(1000.0, clock=clock, sleep=clock.sleep)
    clock.now += 3600
    begun = clock.now
    await take_all(rate, [100] * 50)
    assert clock.now - begun >= 4.5


@pytest.mark.parametrize("limit", [0, -1.0, float("nan"), float("inf"), "50MB", [1]])
def test_a_limit_that_lets_nothing_through_or_is_none_is_refused(limit: object) -> None:
    with pytest.raises(InvalidOptionError):
        RateLimit(limit)  # type: ignore[arg-type]
