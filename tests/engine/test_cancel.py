"""A save that is cut short, wherever it waits just then: what is left open can be accounted for."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ackpt import Checkpointer
from ackpt.backends.memory import MemoryBackend
from ackpt.checkpoint.intent import read_seal
from ackpt.checkpoint.staging import StagingFolder
from ackpt.events import Committed, Failed, Outcome, Parked
from ackpt.testing import FaultScript, On
from tests.cancelling import Awaits, Waits, one_thread

from .runs import Pinned, Run


async def saved(run: Run, folder: Path, at: int) -> tuple[Outcome, bool]:
    """Save a step, and close at await number `at`; return the outcome, and whether it came to that."""
    checkpointer = Checkpointer(run.url, staging_dir=folder)
    await checkpointer.start()
    closing: list[asyncio.Task[bool]] = []
    loop = asyncio.get_running_loop()
    with Awaits(at) as awaits:
        outcome = await checkpointer.submit(Pinned(7))
        awaits.then = lambda: closing.append(loop.create_task(checkpointer.aclose(timeout=0)))
        await asyncio.wait([outcome])
    if closing:
        await closing[0]
    await checkpointer.aclose()
    return outcome.result(), awaits.reached


async def journaled(run: Run, folder: Path) -> set[str]:
    (staging,) = folder.iterdir()
    (state,) = [save.read() for save in StagingFolder(staging, target="").saves()]
    seal = await read_seal(run.store, "ckpt-7")
    return set() if state is None or seal is None else set(seal.open_all(state.uploads).values())


@pytest.mark.timeout(120)
async def test_a_save_cut_short_at_any_await_leaves_no_upload_that_a_later_start_does_not_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with one_thread(monkeypatch):
        await cut_short_everywhere(tmp_path)


async def cut_short_everywhere(tmp_path: Path) -> None:
    at, reached = 0, True
    seen: set[type] = set()
    while reached:
        at += 1
        run, folder = Run(FaultScript(On(fault=Waits(), times=None))), tmp_path / str(at)
        outcome, reached = await saved(run, folder, at)
        assert isinstance(run.store, MemoryBackend)
        uploads = set(run.store.store.uploads)
        seen.add(type(outcome))
        if isinstance(outcome, Parked):
            assert uploads <= await journaled(run, folder), (
                f"an upload nobody knows of, cut short at await {at}"
            )
        else:
            assert isinstance(outcome, Committed | Failed), outcome
            assert uploads == set(), f"an upload of a save that is over, cut short at await {at}"
        run.script = FaultScript()
        async with Checkpointer(run.url, staging_dir=folder):
            pass
        assert run.store.store.uploads == {}, f"still open after the next start, cut short at await {at}"
        if not isinstance(outcome, Failed):  # it may come just after the commit, which stands
            assert await run.committed() == [7], (at, outcome)
    assert isinstance(outcome, Committed)
    assert seen == {Committed, Failed, Parked}
    assert at > 40
