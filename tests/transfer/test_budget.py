"""The budget: never exceeded but by one alone, first come first served, and never locked up."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ackpt.errors import InvalidOptionError
from ackpt.transfer.budget import Budget

CONNECTIONS, MEMORY = 3, 100


@st.composite
def jobs(draw: st.DrawFn) -> list[tuple[int, int, int | None]]:
    """Draw jobs: memory wanted, turns of the loop it takes, turn at which it is cancelled."""
    job = st.tuples(st.integers(0, 150), st.integers(0, 5), st.none() | st.integers(0, 30))
    return draw(st.lists(job, max_size=40))


@settings(deadline=None)
@given(jobs=jobs())
async def test_all_jobs_end_within_the_budget_whatever_they_want_and_whoever_is_cancelled(
    jobs: list[tuple[int, int, int | None]],
) -> None:
    budget = Budget(connections=CONNECTIONS, memory_bytes=MEMORY)
    held: list[int] = []
    connected = 0
    ended = 0

    async def job(wanted: int, turns: int) -> None:
        nonlocal connected, ended
        async with budget.connection():
            connected += 1
            try:
                assert connected <= CONNECTIONS
                async with budget.memory(wanted):
                    held.append(wanted)
                    try:
                        assert sum(held) <= MEMORY or sum(held) == max(held)
                        for _ in range(turns):
                            await asyncio.sleep(0)
                    finally:
                        held.remove(wanted)
            finally:
                connected -= 1
        ended += 1

    async def cancel(task: asyncio.Task[None], turn: int) -> None:
        for _ in range(turn):
            await asyncio.sleep(0)
        task.cancel()

    tasks = [asyncio.create_task(job(wanted, turns)) for wanted, turns, _ in jobs]
    cancels = [
        asyncio.create_task(cancel(task, turn))
        for task, (_, _, turn) in zip(tasks, jobs, strict=True)
        if turn is not None
    ]
    async with asyncio.timeout(10):
        for task in [*tasks, *cancels]:
            with suppress(asyncio.CancelledError):
                await task
    assert budget.connections_in_use == budget.memory_in_use == 0
    assert ended >= sum(turn is None for _, _, turn in jobs)


async def test_memory_is_leased_in_the_order_of_asking_even_if_a_later_one_would_fit() -> None:
    budget = Budget(connections=1, memory_bytes=100)
    order: list[str] = []

    async def take(name: str, size: int) -> None:
        await budget.take_memory(size)
        order.append(name)

    await budget.take_memory(60)
    async with asyncio.TaskGroup() as group:
        for name, size in (("large", 80), ("small", 10)):
            group.create_task(take(name, size))
            await asyncio.sleep(0)
        assert order == []
        budget.give_memory(60)
    assert order == ["large", "small"]


async def test_who_gives_up_waiting_lets_the_next_pass() -> None:
    budget = Budget(connections=1, memory_bytes=100)
    await budget.take_memory(60)
    large = asyncio.create_task(budget.take_memory(80))
    small = asyncio.create_task(budget.take_memory(10))
    await asyncio.sleep(0)
    large.cancel()
    await asyncio.wait_for(small, 10)
    assert budget.memory_in_use == 70


async def test_more_than_the_whole_budget_is_granted_alone() -> None:
    budget = Budget(connections=1, memory_bytes=100)
    await budget.take_memory(1)
    asking = asyncio.create_task(budget.take_memory(500))
    await asyncio.sleep(0)
    assert not asking.done()
    budget.give_memory(1)
    await asking
    waiting = asyncio.create_task(budget.take_memory(1))
    await asyncio.sleep(0)
    assert not waiting.done()
    budget.give_memory(500)
    await waiting


async def test_a_grant_that_meets_a_cancellation_is_given_on() -> None:
    budget = Budget(connections=1, memory_bytes=1)
    await budget.take_memory(1)
    first = asyncio.create_task(budget.take_memory(1))
    second = asyncio.create_task(budget.take_memory(1))
    await asyncio.sleep(0)
    budget.give_memory(1)  # grants the first …
    first.cancel()  # … which is cancelled before it runs
    await asyncio.wait_for(second, 10)
    assert first.cancelled()
    assert budget.memory_in_use == 1


@pytest.mark.parametrize(("connections", "memory_bytes"), [(0, 1), (1, 0)])
def test_a_budget_of_nothing_is_refused(connections: int, memory_bytes: int) -> None:
    with pytest.raises(InvalidOptionError):
        Budget(connections=connections, memory_bytes=memory_bytes)
