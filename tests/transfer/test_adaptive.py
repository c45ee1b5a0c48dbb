"""Transfers that the store refuses: fewer at a time, nothing held while they wait, and all of it arrives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ackpt.checkpoint.staged import StagedFile
from ackpt.errors import ThrottledError, TransientError
from ackpt.options import KiB, MiB, TransferOptions
from ackpt.transfer.budget import Budget, Shared
from ackpt.transfer.context import Transfer, make_budget
from ackpt.transfer.download import download_object
from ackpt.transfer.pool import Pool
from ackpt.transfer.rate import RateLimit
from ackpt.transfer.retry import Deadline, Retry
from ackpt.transfer.upload import upload_object

from .conftest import PART_BYTES
from .hand_clock import HandClock, longest
from .scripted import ScriptedBackend, Turn

Stage = Callable[[int], StagedFile]
LARGE = 16 * PART_BYTES


class Crowded:
    """Refuse more than `most` requests at a time, as a store does that throttles."""

    def __init__(self, most: int, error: TransientError) -> None:
        self.most = most
        self.error = error
        self.in_flight = 0
        self.refusals = 0

    async def __call__(self) -> None:
        if self.in_flight >= self.most:
            self.refusals += 1
            raise self.error
        self.in_flight += 1
        try:
            for _ in range(20):
                await asyncio.sleep(0)
        finally:
            self.in_flight -= 1


def transfer(budget: Budget, clock: HandClock) -> Transfer:
    retry = Retry(attempts=9999, deadline=Deadline(1e9, clock=clock), sleep=clock.sleep, uniform=longest)
    return Transfer(options=TransferOptions(part_bytes=PART_BYTES), budget=budget, retry=retry)


def adaptive(clock: HandClock, least: int = 1) -> Budget:
    return Budget(connections=8, least_connections=least, memory_bytes=8 * MiB, clock=clock)


@pytest.mark.parametrize(
    "error",
    [ThrottledError("slow down"), TransientError("later", retry_after_secs=0.1)],
    ids=["503", "after"],
)
@pytest.mark.parametrize("request_name", ["put_part", "get"])
async def test_a_store_that_refuses_is_asked_less_at_a_time(
    staged: Stage, tmp_path: Path, clock: HandClock, error: TransientError, request_name: str
) -> None:
    refusals: dict[str, int] = {}
    for way, least in (("adaptive", 1), ("fixed", 8)):
        crowded, file = Crowded(2, error), staged(LARGE)
        turns = [Turn(request=request_name, times=10**6, wait=crowded) for _ in range(1000)]
        backend = ScriptedBackend(*turns)
        budget = adaptive(clock, least)
        info = await upload_object(backend, file, transfer(budget, clock))
        copy = tmp_path / way
        await download_object(
            backend, file.key, copy, transfer(budget, clock), size=info.size, crc32c=info.crc32c
        )
        assert copy.read_bytes() == file.path.read_bytes()
        refusals[way] = crowded.refusals
        assert budget.level == 8 if way == "fixed" else budget.level < 8, (budget.level, crowded.refusals)
        assert budget.connections_in_use == budget.memory_in_use == 0
    assert refusals["adaptive"] < refusals["fixed"]


async def test_another_failure_than_a_refusal_changes_nothing(staged: Stage, clock: HandClock) -> None:
    backend = ScriptedBackend(Turn(request="put_part", times=5, before=TransientError("the line was cut")))
    budget = adaptive(clock)
    await upload_object(backend, staged(LARGE), transfer(budget, clock))
    assert budget.level == 8


async def test_refusals_of_requests_that_were_under_way_together_count_once(clock: HandClock) -> None:
    budget = adaptive(clock)
    together = asyncio.Barrier(8)

    async def refused() -> None:
        async with budget.connection():
            await together.wait()
            clock.now += 0.01
            raise ThrottledError("slow down")

    await asyncio.gather(*[refused() for _ in range(8)], return_exceptions=True)
    assert budget.level == 5


@pytest.mark.parametrize("request_name", ["put", "put_part", "get"])
async def test_who_waits_to_try_again_holds_nothing_that_another_run_needs(
    staged: Stage, tmp_path: Path, clock: HandClock, request_name: str
) -> None:
    shared = Shared(connections=Pool(1), memory=Pool(64 * KiB), rate=RateLimit())
    down, up = ScriptedBackend(), ScriptedBackend()
    file = staged(100 if request_name == "put" else 2 * PART_BYTES)
    budgets = [make_budget(TransferOptions(), shared=shared) for _ in range(2)]
    first, second = (transfer(budget, clock) for budget in budgets)
    info = await upload_object(down, file, first)
    waiting, go_on = asyncio.Event(), asyncio.Event()

    async def sleep(secs: float) -> None:
        waiting.set()
        await go_on.wait()

    first = replace(first, retry=Retry(attempts=9, deadline=Deadline(300.0, clock=clock), sleep=sleep))
    down.script.turns.append(Turn(request=request_name, times=1, before=TransientError("the store is down")))
    if request_name == "get":
        work = download_object(down, file.key, tmp_path / "x", first, size=info.size, crc32c=info.crc32c)
    else:
        work = upload_object(down, replace(file, key="another"), first)
    stuck = asyncio.create_task(work)  # type: ignore[arg-type]
    async with asyncio.timeout(20):
        await waiting.wait()
        await upload_object(up, file, second)
        assert not stuck.done()
        go_on.set()
        await stuck
    assert shared.connections.used == shared.memory.used == 0


async def test_both_limits_hold_for_what_travels(clock: HandClock) -> None:
    shared = Shared(
        connections=Pool(9), memory=Pool(9), rate=RateLimit(1000.0, clock=clock, sleep=clock.sleep)
    )
    own = RateLimit(500.0, clock=clock, sleep=clock.sleep)
    budget = Budget(connections=1, memory_bytes=1, rate=own, shared=shared)
    assert budget.limited
    for limit, secs in ((500.0, 20.0), (None, 10.0)):
        own.change(limit)
        begun = clock.now
        for _ in range(100):
            await budget.travel(100)
        assert secs * 0.9 <= clock.now - begun <= secs * 1.2


async def test_the_log_tells_of_every_change_and_never_above_debug(
    clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "ackpt")
    budget = Budget(connections=8, least_connections=1, memory_bytes=1, clock=clock, name="gs://bucket/run")
    with pytest.raises(ThrottledError):
        async with budget.connection():
            raise ThrottledError("slow down")
    (record,) = caplog.records
    assert record.levelname == "DEBUG"
    assert (
        record.getMessage() == "gs://bucket/run: 5 connections at a time, 8 before: the store asks for fewer"
    )
