"""Errands: one after another where asked, waited for, and never lost silently."""

from __future__ import annotations

import asyncio
import inspect

import pytest

from ackpt.engine.errands import Errands
from ackpt.errors import StorageError


async def test_errands_in_turn_come_one_after_another() -> None:
    errands, done = Errands(), []

    async def errand(number: int) -> None:
        for _ in range(3 - number):
            await asyncio.sleep(0)
        done.append(number)

    for number in range(3):
        errands.start_in_turn(errand(number), what="it")
    await errands.settled()
    assert done == [0, 1, 2]


@pytest.mark.parametrize("error", [StorageError("gone"), ZeroDivisionError("gone")])
async def test_a_failure_is_a_warning_and_the_next_has_its_turn(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    errands, done = Errands(), []

    async def fail() -> None:
        raise error

    async def note() -> None:
        done.append(1)

    errands.start_in_turn(fail(), what="sweeping the yard")
    errands.start_in_turn(note(), what="it")
    await errands.settled()
    assert done == [1]
    assert "sweeping the yard failed" in caplog.text
    assert "gone" in caplog.text


async def test_a_close_ends_those_under_way_and_those_that_wait_for_their_turn() -> None:
    errands, ended = Errands(), []

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(1)

    errands.start_in_turn(hang(), what="it")
    errands.start_in_turn(hang(), what="it")
    await asyncio.sleep(0)
    await errands.aclose()
    await errands.settled()
    assert ended == [1]


@pytest.mark.parametrize("in_turn", [False, True])
async def test_an_errand_that_is_cancelled_before_it_begins_is_closed(in_turn: bool) -> None:
    errands = Errands()

    async def work() -> None:
        raise AssertionError("it began")

    errand = work()
    (errands.start_in_turn if in_turn else errands.start)(errand, what="work")
    await errands.aclose()
    assert inspect.getcoroutinestate(errand) == inspect.CORO_CLOSED
