"""What an earlier process has staged, and what bad days do to it before the next one can finish it."""

from __future__ import annotations

import asyncio
import json
import logging
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import ackpt
from ackpt import Checkpointer
from ackpt.checkpoint import fence, lease
from ackpt.checkpoint.staging import StagingFolder
from ackpt.checkpoint.sweep import find_orphans
from ackpt.errors import PermissionDeniedError, SaveFailedError, StagingError, StorageFullError
from ackpt.events import Committed
from ackpt.options import KiB
from ackpt.testing import Fails, FaultScript, On, Stall
from ackpt.testing.faults import Fault, Request, SimulatedCrash
from tests.engine.conftest import small_disk
from tests.engine.runs import Run, until
from tests.troubles.saving import State, check_whole

__all__ = ["small_disk"]

NO = Fails(lambda request: PermissionDeniedError("not now", key=request.key))
REFUSED = On(fault=NO, operation="put", key="*.index", times=None)
"""What keeps a checkpoint from being sent, and nothing else from being done."""


class Dies(Fault):
    """Die when the store has done what was asked."""

    async def after(self, request: Request) -> None:
        """Die."""
        raise SimulatedCrash


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Leave no room on a disk, not for one more record in a page that a journal has begun."""
    for journal in disk.glob("*/*/journal.jsonl"):
        left = -(journal.stat().st_size + len(json.dumps(HEIR)) + 1) % mmap.PAGESIZE
        with journal.open("a") as file:
            file.write(json.dumps({**HEIR, "writer": "x" * left}) + "\n")
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(64 * KiB))
    try:
        yield
    finally:
        filler.unlink()


NOBODY = 65534
HEIR = {"record": "heir", "writer": ""}


@pytest.fixture
async def run(tmp_path: Path) -> Run:
    """Be a run with step 1 committed and step 2 staged."""
    run = Run()
    await leave_staged(run, tmp_path)
    return run


async def leave_staged(run: Run, staging: Path) -> None:
    async with Checkpointer(run.url, staging_dir=staging) as checkpointer:
        assert isinstance(await (await checkpointer.submit(State(1))), Committed)
    run.script = FaultScript(REFUSED)
    with pytest.raises(SaveFailedError):
        async with Checkpointer(run.url, staging_dir=staging) as checkpointer:
            await (await checkpointer.submit(State(2)))
    run.script = FaultScript()


async def start(run: Run, staging: Path) -> None:
    async with Checkpointer(run.url, staging_dir=staging):
        pass


async def test_a_process_that_dies_right_behind_its_claim_leaves_what_it_could_not_send_to_the_next(
    run: Run, tmp_path: Path
) -> None:
    run.script = FaultScript(REFUSED, On(fault=Dies(), operation="put", key=fence.KEY))
    with pytest.raises(SimulatedCrash):
        await start(run, tmp_path)
    run.script = FaultScript()
    await start(run, tmp_path)
    await check_whole(run.store, newest=2)


async def test_a_claim_that_somebody_has_deleted_takes_nothing_that_is_staged_with_it(
    run: Run, tmp_path: Path
) -> None:
    """Real event: a rule of the bucket deletes what is older than a month, as a claim is in a long run."""
    await run.store.delete(fence.KEY)
    await start(run, tmp_path)
    await check_whole(run.store, newest=2)


async def test_what_was_staged_for_a_run_that_was_deleted_does_not_bring_it_back(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for key in await run.keys():
        await run.store.delete(key)
    await start(run, tmp_path)
    assert await run.committed() == []
    assert "step 2 was staged for a run of which nothing is left; it is removed" in caplog.text


async def test_what_can_be_neither_sent_nor_taken_over_is_an_error_before_the_run_is_claimed(
    small_disk: Path,
) -> None:
    run = Run()
    await leave_staged(run, small_disk)
    run.script = FaultScript(REFUSED)
    with filled(small_disk), pytest.raises(StorageFullError, match="ckpt-2 cannot be taken over"):
        await start(run, small_disk)
    run.script = FaultScript()
    await start(run, small_disk)
    await check_whole(run.store, newest=2)


async def test_a_full_disk_does_not_keep_what_is_staged_there_from_being_sent(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = Run()
    await leave_staged(run, small_disk)
    await run.store.delete("ckpt-2.data-00000-of-00001")
    with filled(small_disk), caplog.at_level(logging.WARNING):
        await start(run, small_disk)
    assert "the uploads of step 2 cannot be written down any more (No space left on device)" in caplog.text
    await check_whole(run.store, newest=2)


async def test_a_sweep_leaves_alone_what_is_just_being_finished(run: Run, tmp_path: Path) -> None:
    go = asyncio.Event()
    run.script = FaultScript(On(fault=Stall(go), operation="put", key="*.index"))
    starting = asyncio.create_task(start(run, tmp_path))
    await until(lambda: run.script.requests("put", "*.index"))
    in_a_minute = datetime.now(UTC) + timedelta(minutes=1)
    assert await find_orphans(run.store, older_than=timedelta(0), now=in_a_minute) == []
    go.set()
    await starting
    await check_whole(run.store, newest=2)
    assert lease.KEY not in await run.keys()


async def test_a_writer_that_was_replaced_does_not_end_the_lease_of_the_newer_one(
    run: Run, tmp_path: Path
) -> None:
    old = Checkpointer(run.url, staging_dir=tmp_path)
    await old.start()
    async with Checkpointer(run.url, staging_dir=tmp_path / "other"):
        await until(lambda: run.script.requests("put", lease.KEY))
        await old.aclose()
        assert lease.KEY in await run.keys()
    assert lease.KEY not in await run.keys()


@pytest.fixture
def shared() -> Iterator[Path]:
    """Be a folder that every user can get at, on a machine that several share."""
    if os.geteuid() != 0:
        pytest.skip("being another user takes root")
    folder = Path(tempfile.mkdtemp(prefix="ackpt-shared-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def test_what_another_user_has_staged_does_not_keep_this_one_from_reading(
    shared: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = Run()
    asyncio.run(leave_staged(run, shared / "staging"))
    (staging,) = (shared / "staging").iterdir()
    ackpt.restore(run.url, shared / "before", staging_dir=shared)  # imports all that root alone may read
    os.seteuid(NOBODY)
    try:
        prefix = ackpt.restore(run.url, shared / "model", staging_dir=shared / "staging")
        with pytest.raises(StagingError, match=r"cannot be listed in .* \(Permission denied\)"):
            StagingFolder(staging).saves()
    finally:
        os.seteuid(0)
    assert prefix == str(shared / "model" / "ckpt-1")
    assert f"in {staging} is another user's; only what is committed is restored" in caplog.text
    assert len(StagingFolder(staging).saves()) == 1
