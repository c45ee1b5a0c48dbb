"""The fan-out: bounded, in order, and with one plain error."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from functools import partial

import pytest

from ackpt.transfer.fan_out import fan_out


async def test_results_come_in_the_order_of_the_calls_and_no_more_run_than_allowed() -> None:
    running = most = 0

    async def call(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(10 - number):
            await asyncio.sleep(0)
        running -= 1
        return number

    assert await fan_out([partial(call, n) for n in range(10)], limit=3) == list(range(10))
    assert most == 3


async def test_calls_are_taken_only_as_places_become_free() -> None:
    taken = 0
    go_on = asyncio.Event()

    def calls() -> Iterator[Callable[[], Coroutine[None, None, bool]]]:
        nonlocal taken
        for _ in range(10):
            taken += 1
            yield go_on.wait

    task = asyncio.create_task(fan_out(calls(), limit=2))
    for _ in range(10):
        await asyncio.sleep(0)
    assert taken == 3
    go_on.set()
    assert len(await task) == 10


async def test_the_first_error_comes_out_alone_with_its_own_cause_and_the_others_are_ended() -> None:
    ended: list[str] = []

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError("first") from KeyError("its cause")

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("hang")

    with pytest.raises(ValueError, match="first") as raised:
        await fan_out([hang, fail, hang, hang], limit=3)
    assert isinstance(raised.value.__cause__, KeyError)
    assert raised.value.__suppress_context__
    assert ended == ["hang", "hang"]
    assert len(asyncio.all_tasks()) == 1


async def test_cancelling_ends_all_calls() -> None:
    ended = 0

    async def hang() -> None:
        nonlocal ended
        try:
            await asyncio.Event().wait()
        finally:
            ended += 1

    task = asyncio.create_task(fan_out([hang] * 5, limit=3))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == 3
