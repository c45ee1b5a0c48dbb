"""A wall clock that jumps: no step is lost by it, and nothing that lives is swept."""

from __future__ import annotations

import asyncio
import importlib
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

import pytest

from ackpt import Checkpointer, KeepInterval, KeepLast, Queue, Retention
from ackpt.checkpoint.sweep import find_orphans
from ackpt.events import Committed
from ackpt.testing import FaultScript, On, Stall
from tests.engine.runs import Run, until
from tests.troubles.saving import State, check_whole

MODULES = (
    "ackpt.backends.memory",
    "ackpt.checkpoint.fence",
    "ackpt.checkpoint.hold",
    "ackpt.checkpoint.intent",
    "ackpt.checkpoint.lease",
    "ackpt.checkpoint.store_clock",
    "ackpt.checkpoint.sweep",
    "ackpt.engine.send",
)


class Wall:
    """Be the wall clock of everything in this process that looks at one."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Wall:
    wall = Wall()

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return wall.now().astimezone(tz)

    for name in MODULES:
        module = importlib.import_module(name)
        assert module.datetime is datetime
        monkeypatch.setattr(module, "datetime", Shifted)
    return wall


@pytest.mark.parametrize("retention", [KeepLast(2), KeepInterval(3600.0) | KeepLast(1)])
async def test_a_clock_that_jumps_back_between_saves_loses_no_step(
    tmp_path: Path, wall: Wall, retention: Retention
) -> None:
    run = Run()
    step = 0
    for jump in (timedelta(), timedelta(days=-400), timedelta(days=30), timedelta(hours=-1)):
        wall.ahead += jump
        async with Checkpointer(
            run.url, staging_dir=tmp_path, retention=retention, overlap=Queue(1)
        ) as checkpointer:
            for jump_in_between in (timedelta(), timedelta(hours=-5), timedelta(minutes=1)):
                wall.ahead += jump_in_between
                step += 1
                outcome = await (await checkpointer.submit(State(step)))
                assert isinstance(outcome, Committed), outcome
            await checkpointer.wait()
        await check_whole(run.store, newest=step)


@pytest.mark.parametrize("jump", [timedelta(days=-400), timedelta(hours=-1), timedelta(minutes=10)])
async def test_a_sweep_by_a_clock_that_is_wrong_finds_nothing_of_a_living_saver(
    tmp_path: Path, wall: Wall, jump: timedelta
) -> None:
    go_on = asyncio.Event()
    run = Run(FaultScript(On(fault=Stall(go_on), operation="put", key="*.index")))
    async with Checkpointer(run.url, staging_dir=tmp_path) as checkpointer:
        future = await checkpointer.submit(State(1))
        await until(lambda: run.script.requests("put", "*.index"))
        wall.ahead = jump
        assert await find_orphans(run.store, older_than=timedelta(0)) == []
        go_on.set()
        assert isinstance(await future, Committed)
