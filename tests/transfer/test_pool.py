"""A pool that crosses loops: counted right whoever dies, first come first served, and never locked up."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from ackpt.transfer import pool as pool_module
from ackpt.transfer.pool import Account, Pool

SECS = 20.0


def make(capacity: int) -> Pool:
    return Pool(capacity, guard=threading.Lock())


def in_threads(*works: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run each in a loop and a thread of its own, and wait for all."""
    errors: list[BaseException] = []

    def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def limited() -> None:
            async with asyncio.timeout(SECS):
                await work()

        try:
            asyncio.run(limited())
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * SECS)
        assert not thread.is_alive(), "locked up"
    if errors:
        raise errors[0]


def left_waiting(pool: Pool, amount: int) -> tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]:
    """Have a task take, or wait, on a loop that does not run any more."""
    loop = asyncio.new_event_loop()
    account = pool.open()

    async def hold() -> None:
        await account.take(amount)
        await asyncio.Event().wait()

    task = loop.create_task(hold())
    for _ in range(3):
        loop.run_until_complete(asyncio.sleep(0))
    return loop, task


@pytest.fixture
def alive() -> Iterator[asyncio.AbstractEventLoop]:
    """Make a loop that is not closed, so that what it holds stays held."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def abandon(loop: asyncio.AbstractEventLoop, task: asyncio.Task[None]) -> None:
    """Close a loop under its task, which never runs again, and says nothing of it."""
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()


def test_many_loops_stay_within_the_capacity_whoever_is_cancelled() -> None:
    pool, capacity, most = make(5), 5, 0
    held, counting = [0], threading.Lock()

    def count(change: int) -> None:
        nonlocal most
        with counting:
            held[0] += change
            most = max(most, held[0])

    async def work(seed: int) -> None:
        account, chance = pool.open(), random.Random(seed)

        async def job() -> None:
            amount = chance.randint(1, 3)
            async with account.lease(amount):
                count(amount)
                try:
                    await asyncio.sleep(chance.choice([0, 0, 0.001]))
                finally:
                    count(-amount)

        tasks = [asyncio.create_task(job()) for _ in range(150)]
        for _ in tasks:
            await asyncio.sleep(0)
            if chance.random() < 0.3:
                chance.choice(tasks).cancel()
        await asyncio.wait(tasks)
        assert account.held == 0

    in_threads(*[lambda seed=seed: work(seed) for seed in range(6)])  # type: ignore[misc]
    assert pool.used == 0
    assert not pool.wanted
    assert 1 < most <= capacity


def test_loops_are_served_in_the_order_of_asking() -> None:
    pool, order, asked = make(1), [], [threading.Event() for _ in range(4)]

    async def work(number: int) -> None:
        account = pool.open()
        if number:
            await asyncio.to_thread(asked[number - 1].wait)
            asking = asyncio.create_task(account.take(1))
            await asyncio.sleep(0)
            asked[number].set()
            await asking
        else:
            await account.take(1)
            asked[0].set()
            await asyncio.to_thread(asked[-1].wait)
        order.append(number)
        account.give(1)

    in_threads(*[lambda number=number: work(number) for number in range(4)])  # type: ignore[misc]
    assert order == [0, 1, 2, 3]


async def test_what_a_closed_loop_holds_comes_back_to_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_LOOK_SECS", 0.02)
    pool = make(4)
    dying, task = await asyncio.to_thread(left_waiting, pool, 4)
    waiting = asyncio.create_task(pool.open().take(3))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    abandon(dying, task)
    await asyncio.wait_for(waiting, SECS)
    assert pool.used == 3
    del task
    gc.collect()  # the dead task's end gives back what was taken back already
    assert pool.used == 3


async def test_a_closed_loop_that_waits_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_LOOK_SECS", 1000.0)
    pool = make(4)
    mine = pool.open()
    await mine.take(3)
    dying, task = await asyncio.to_thread(left_waiting, pool, 4)
    behind = asyncio.create_task(pool.open().take(1))
    await asyncio.sleep(0)
    assert not behind.done()
    abandon(dying, task)
    mine.give(3)
    await asyncio.wait_for(behind, SECS)
    assert pool.used == 1


def test_a_loop_that_has_nothing_else_to_do_is_woken(alive: asyncio.AbstractEventLoop) -> None:
    pool, asked = make(1), threading.Event()
    holder = pool.open()
    alive.run_until_complete(holder.take(1))
    took: list[float] = []

    async def wait() -> None:
        asking = asyncio.create_task(pool.open().take(1))
        await asyncio.sleep(0)
        asked.set()
        await asking
        took.append(time.monotonic())

    thread = threading.Thread(target=asyncio.run, args=(wait(),))
    thread.start()
    asked.wait(SECS)
    time.sleep(0.2)  # its next look is due at a second
    gave = time.monotonic()
    holder.give(1)
    thread.join(SECS)
    assert took[0] - gave < 0.4


def test_a_grant_to_a_loop_that_is_closed_before_it_wakes_is_given_on(
    alive: asyncio.AbstractEventLoop,
) -> None:
    pool = make(1)
    holder = pool.open()
    alive.run_until_complete(holder.take(1))
    dying, task = left_waiting(pool, 1)
    holder.give(1)  # granted; the loop does not run
    assert pool.used == 1
    abandon(dying, task)

    async def ask() -> None:
        await asyncio.wait_for(pool.open().take(1), SECS)

    asyncio.run(ask())
    del task


def test_what_is_given_back_from_within_the_guard_is_counted_when_it_is_left(
    alive: asyncio.AbstractEventLoop,
) -> None:
    guard = threading.Lock()
    pool = Pool(2, guard=guard)
    account = pool.open()
    alive.run_until_complete(account.take(2))
    guard.acquire()
    account.give(2)  # as the garbage collector may, in the very thread that is inside
    assert pool.used == 2
    guard.release()
    asyncio.run(pool.open().take(1))
    assert pool.used == 1


async def test_less_capacity_lets_nobody_in_until_there_is_room_and_more_at_once() -> None:
    pool = make(3)
    accounts: list[Account] = [pool.open() for _ in range(4)]
    for account in accounts[:3]:
        await account.take(1)
    pool.capacity = 1
    waiting = asyncio.create_task(accounts[3].take(1))
    for account in accounts[:2]:
        account.give(1)
        await asyncio.sleep(0)
        assert not waiting.done()
    pool.capacity = 2
    await asyncio.wait_for(waiting, SECS)


async def test_a_closed_account_gives_all_back_once() -> None:
    pool = make(3)
    account = pool.open()
    await account.take(3)
    account.close()
    assert pool.used == 0
    account.give(3)
    assert pool.used == 0
