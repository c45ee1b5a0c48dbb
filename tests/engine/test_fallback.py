"""The fallback: it takes saves while the first store is down, and gives them back when it is up."""

from __future__ import annotations

import asyncio
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

import ackpt
from ackpt import Checkpointer, KeepLast, Queue
from ackpt.checkpoint.catalog import read_object
from ackpt.checkpoint.hold import reading
from ackpt.errors import (
    InvalidOptionError,
    SaveFailedError,
    StepConflictError,
    StorageError,
    UnknownSchemeError,
    explain,
)
from ackpt.events import Committed, Failed
from ackpt.testing import Fails, Fault, FaultScript, On, Request, Script, Stall, Unavailable
from tests.engine.runs import Pinned, Run, content


class Line(Script):
    """Be the line to a store: whole, down but for what reads, dead, or bad for the keys of one pattern."""

    def __init__(self) -> None:
        super().__init__()
        self.down = False
        self.dead = False
        self.bad = ""

    def fault_for(self, request: Request) -> Fault | None:
        asked = (request.operation, request.key) == ("head", ".ackpt/writer.json")
        writes = request.operation in ("put", "create_upload")
        refused = (
            self.dead or (self.down and (asked or writes)) or (writes and fnmatchcase(request.key, self.bad))
        )
        return Unavailable() if refused else None


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.fixture
def first(line: Line) -> Run:
    return Run(line)


@pytest.fixture
def second() -> Run:
    return Run(Line())


def quick(run: Run) -> str:
    return run.url.replace("retry_timeout=20s", "retry_timeout=0s")


async def save(checkpointer: Checkpointer, step: int) -> Committed | Failed:
    outcome = await (await checkpointer.submit(Pinned(step)))
    await checkpointer.wait()
    assert isinstance(outcome, Committed | Failed)
    return outcome


async def assert_has(run: Run, *steps: int) -> None:
    assert await run.committed() == list(steps)
    for step in steps:
        for name, data in content(step).items():
            assert await read_object(run.store, f"ckpt-{step}.{name}") == data


async def test_a_save_while_the_store_is_down_is_committed_to_the_fallback(
    first: Run, second: Run, line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    async with Checkpointer(quick(first), fallback=second.url) as checkpointer:
        assert (await save(checkpointer, 1)).target == first.url.split("?")[0]
        line.down = True
        for step in (2, 3):
            outcome = await save(checkpointer, step)
            assert isinstance(outcome, Committed)
            assert outcome.target == second.url.split("?")[0]
    await assert_has(first, 1)
    await assert_has(second, 2, 3)
    assert [r.message.split(" (")[0].split("/")[-1] for r in caplog.records if "is down" in r.message] == [
        "run is down"
    ]


async def test_while_the_store_is_down_it_is_asked_once_a_save_and_nothing_is_sent_there(
    first: Run, second: Run, line: Line
) -> None:
    async with Checkpointer(quick(first), fallback=second.url) as checkpointer:
        line.down = True
        await save(checkpointer, 2)
        sent = len(line.requests("put*"))
        asked = len(line.requests("head", ".ackpt/writer.json"))
        await save(checkpointer, 3)
        assert not line.requests("put*", "ckpt-3*")
        assert len(line.requests("put*")) == sent
        assert len(line.requests("head", ".ackpt/writer.json")) == asked + 1


async def test_what_the_fallback_took_is_copied_back_when_the_store_is_up(
    first: Run, second: Run, line: Line
) -> None:
    async with Checkpointer(quick(first), fallback=second.url) as checkpointer:
        line.down = True
        for step in (1, 2):
            await save(checkpointer, step)
        line.down = False
        outcome = await save(checkpointer, 3)
        assert outcome.target == first.url.split("?")[0]
    await assert_has(first, 1, 2, 3)
    await assert_has(second)
    assert b'"ckpt-3"' in (await read_object(first.store, "checkpoint")).splitlines()[0]


async def test_what_the_fallback_took_is_copied_back_by_the_next_process(
    first: Run, second: Run, line: Line, tmp_path: Path
) -> None:
    async with Checkpointer(quick(first), fallback=second.url, staging_dir=tmp_path / "a") as checkpointer:
        line.down = True
        await save(checkpointer, 1)
    line.down = False
    async with Checkpointer(quick(first), fallback=second.url, staging_dir=tmp_path / "b") as checkpointer:
        await checkpointer.wait()
    await assert_has(first, 1)
    await assert_has(second)


async def test_a_copy_back_that_fails_is_tried_again_after_the_next_commit(
    first: Run, second: Run, line: Line
) -> None:
    async with Checkpointer(quick(first), fallback=second.url, overlap=Queue(9)) as checkpointer:
        line.down = True
        await save(checkpointer, 1)
        line.down, line.bad = False, "ckpt-1.index"
        await save(checkpointer, 2)
        await assert_has(first, 2)
        await assert_has(second, 1)
        line.bad = ""
        await save(checkpointer, 3)
    await assert_has(first, 1, 2, 3)
    await assert_has(second)


async def test_when_both_are_down_the_save_fails_and_stays_staged(
    first: Run, second: Run, line: Line
) -> None:
    with pytest.raises(SaveFailedError, match="the fallback failed, too"):
        async with Checkpointer(quick(first), fallback=quick(second)) as checkpointer:
            line.down = second.script.down = True  # type: ignore[attr-defined]
            outcome = await save(checkpointer, 1)
            assert isinstance(outcome, Failed)
            assert outcome.staged


async def test_a_fallback_that_fails_while_the_store_is_known_to_be_down_is_named(
    first: Run, second: Run, line: Line
) -> None:
    async with Checkpointer(quick(first), fallback=quick(second)) as checkpointer:
        line.down = True
        await save(checkpointer, 1)
        second.script.down = True  # type: ignore[attr-defined]
        outcome = await save(checkpointer, 2)
        assert isinstance(outcome, Failed)
        said = explain(outcome.error)
        assert f"this was {second.url.partition('?')[0]}, since the run's own store is still down" in said
        line.down = second.script.down = False  # type: ignore[attr-defined]
        assert isinstance(await save(checkpointer, 3), Committed)


async def test_a_conflict_is_no_outage(first: Run, second: Run) -> None:
    async with Checkpointer(first.url) as checkpointer:
        await save(checkpointer, 1)
    with pytest.raises(SaveFailedError):
        async with Checkpointer(quick(first), fallback=second.url) as checkpointer:
            outcome = await (await checkpointer.submit(Pinned(1, {"index": b"other"})))
            assert isinstance(outcome, Failed)
            assert isinstance(outcome.error, StepConflictError)
    await assert_has(second)


async def test_the_fallback_keeps_what_the_retention_says(first: Run, second: Run, line: Line) -> None:
    async with Checkpointer(quick(first), fallback=second.url, retention=KeepLast(2)) as checkpointer:
        line.down = True
        for step in (1, 2, 3, 4):
            await save(checkpointer, step)
    await assert_has(second, 3, 4)


async def test_a_deletion_in_the_fallback_neither_delays_nor_fails_a_save(
    first: Run, second: Run, line: Line
) -> None:
    go = asyncio.Event()
    second.script = FaultScript(
        On(
            fault=Fails(lambda request: StorageError("gone", key=request.key)),
            operation="delete",
            key="ckpt-1.manifest.json",
        ),
        On(fault=Stall(go), operation="delete", key="ckpt-1.manifest.json"),
    )
    async with Checkpointer(quick(first), fallback=second.url, retention=KeepLast(1)) as checkpointer:
        line.down = True
        for step in (1, 2, 3, 4):
            assert isinstance(await (await checkpointer.submit(Pinned(step))), Committed)
        go.set()
        await checkpointer.wait()
    await assert_has(second, 4)


async def test_what_is_read_in_the_fallback_stays_there_until_it_has_been(
    first: Run, second: Run, line: Line
) -> None:
    async with Checkpointer(quick(first), fallback=second.url) as checkpointer:
        line.down = True
        await save(checkpointer, 1)
        async with reading(second.store, "ckpt-1"):
            line.down = False
            await save(checkpointer, 2)
            await assert_has(first, 1, 2)
            await assert_has(second, 1)
        await save(checkpointer, 3)
    await assert_has(first, 1, 2, 3)
    await assert_has(second)


def test_a_restore_takes_the_newest_of_both_and_what_can_be_had(
    first: Run, second: Run, line: Line, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with ackpt.BackgroundCheckpointer(quick(first), fallback=second.url) as checkpointer:
        checkpointer.submit(Pinned(1)).result(30)
        line.down = True
        checkpointer.submit(Pinned(2)).result(30)
    line.down = False
    newest = ackpt.restore(quick(first), tmp_path / "a", fallback=second.url)
    assert newest == str(tmp_path / "a" / "ckpt-2")
    with ackpt.BackgroundCheckpointer(quick(first), fallback=second.url) as checkpointer:
        checkpointer.submit(Pinned(3)).result(30)
        checkpointer.wait(30)
        line.down = True
        checkpointer.submit(Pinned(4)).result(30)
    line.dead = True
    assert ackpt.restore(quick(first), tmp_path / "b", fallback=second.url) == str(tmp_path / "b" / "ckpt-4")
    assert "is down" in caplog.text


def test_a_fallback_of_no_use_is_told_at_once() -> None:
    with pytest.raises(UnknownSchemeError):
        Checkpointer("memory://fallback/run", fallback="nowhere://x/y")
    with pytest.raises(InvalidOptionError, match="fallback"):
        Checkpointer("memory://fallback/run?part_size=1MiB", fallback="memory://fallback/run")
