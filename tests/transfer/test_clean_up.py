"""Clean-up: runs to its end, for a bounded time, and never hides what it cleans up after."""

from __future__ import annotations

import asyncio

import pytest

from ackpt.errors import TransientError
from ackpt.transfer.clean_up import clean_up


async def test_a_second_cancellation_does_not_cut_a_clean_up_short() -> None:
    go_on = asyncio.Event()
    ended = False

    async def work() -> None:
        nonlocal ended
        await go_on.wait()
        ended = True

    task = asyncio.create_task(clean_up(work, secs=10, after=RuntimeError(), what="it was not done"))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended


async def test_a_clean_up_that_hangs_is_given_up_and_noted() -> None:
    error = RuntimeError("the reason")

    async def hang() -> None:
        await asyncio.Event().wait()

    await clean_up(hang, secs=0.01, after=error, what="the upload was not aborted")
    assert error.__notes__ == ["the upload was not aborted within 0.01 s"]


async def test_a_clean_up_that_fails_is_noted() -> None:
    error = RuntimeError("the reason")

    async def fail() -> None:
        raise TransientError("busy")

    await clean_up(fail, secs=10, after=error, what="the upload was not aborted")
    assert error.__notes__ == ["the upload was not aborted: TransientError('busy')"]
