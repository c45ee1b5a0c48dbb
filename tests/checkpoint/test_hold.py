"""Holds: a pinned checkpoint, and one that is being read, outlive retention."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ackpt import Checkpointer, KeepLast
from ackpt.backends.base import Body, Condition, ObjectInfo
from ackpt.backends.memory import MemoryBackend, MemoryStore
from ackpt.checkpoint.hold import FOLDER, READER_EXPIRES, held, pin, pinned, reading, unpin
from ackpt.checkpoint.restore import restore_checkpoint
from ackpt.checkpoint.sweep import find_orphans, remove_orphans
from ackpt.cli.main import main
from ackpt.errors import NotFoundError, PermissionDeniedError
from ackpt.options import TransferOptions
from ackpt.transfer.body import BytesBody
from ackpt.transfer.context import Transfer
from tests.engine.runs import Pinned, Run


async def save(run: Run, *steps: int, keep: int = 1) -> None:
    async with Checkpointer(run.url, retention=KeepLast(keep)) as checkpointer:
        for step in steps:
            await (await checkpointer.submit(Pinned(step)))
            await checkpointer.wait()


async def test_a_pinned_checkpoint_is_kept_until_it_is_unpinned() -> None:
    run = Run()
    await save(run, 1)
    assert await pin(run.store, 1, reason="the paper's") == ["ckpt-1"]
    await save(run, 2, 3)
    assert await run.committed() == [1, 3]
    assert await unpin(run.store, 1) == ["ckpt-1"]
    assert await unpin(run.store, 1) == []
    await save(run, 4)
    assert await run.committed() == [4]


async def test_a_pinned_checkpoint_stays_in_the_state_file() -> None:
    run = Run()
    await save(run, 1)
    await pin(run.store, 1)
    await save(run, 2)
    state = b"".join([block async for block in run.store.get("checkpoint")])
    assert b'"ckpt-1"' in state


async def test_a_step_that_is_not_committed_cannot_be_pinned() -> None:
    run = Run()
    await save(run, 1)
    with pytest.raises(NotFoundError, match="step 7 is not committed"):
        await pin(run.store, 7)
    assert await pinned(run.store) == []


class DeletedMeanwhile(MemoryBackend):
    """Lose a checkpoint just before it is pinned."""

    async def put(self, key: str, body: Body, *, condition: Condition | None = None) -> ObjectInfo:
        await self.delete("ckpt-1.manifest.json")
        return await super().put(key, body, condition=condition)


async def test_a_pin_that_comes_too_late_says_so_and_is_taken_back() -> None:
    store = DeletedMeanwhile()
    await MemoryBackend.put(store, "ckpt-1.manifest.json", BytesBody(b"{}"))
    with pytest.raises(NotFoundError, match="step 1 is not committed"):
        await pin(store, 1)
    assert [info.key async for info in store.list()] == []


class SlowToRead(MemoryBackend):
    """Wait in the middle of a read of a data file."""

    def __init__(self, store: MemoryStore, path: str) -> None:
        super().__init__(store, path)
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()

    async def get(self, key: str, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        if ".data-" in key:
            self.begun.set()
            await self.go_on.wait()
        async for block in super().get(key, start, stop):
            yield block


async def test_a_checkpoint_that_is_being_read_is_kept_until_it_has_been(tmp_path: Path) -> None:
    run = Run()
    await save(run, 1)
    reader = SlowToRead(run.store.store, "run")
    reads = asyncio.create_task(
        restore_checkpoint(reader, tmp_path, Transfer.start(TransferOptions()), step=1)
    )
    await reader.begun.wait()
    await save(run, 2)
    assert await run.committed() == [1, 2]
    reader.go_on.set()
    assert await reads == tmp_path / "ckpt-1"
    assert not [key for key in await run.keys() if key.startswith(FOLDER)]
    await save(run, 3)
    assert await run.committed() == [3]


async def test_a_reader_that_comes_while_training_goes_on_keeps_what_it_reads(tmp_path: Path) -> None:
    run = Run()
    async with Checkpointer(run.url, retention=KeepLast(1)) as checkpointer:
        await (await checkpointer.submit(Pinned(1)))
        reader = SlowToRead(run.store.store, "run")
        reads = asyncio.create_task(
            restore_checkpoint(reader, tmp_path, Transfer.start(TransferOptions()), step=1)
        )
        await reader.begun.wait()
        await (await checkpointer.submit(Pinned(2)))
        await checkpointer.wait()
        assert await run.committed() == [1, 2]
        reader.go_on.set()
        assert await reads == tmp_path / "ckpt-1"
        await (await checkpointer.submit(Pinned(3)))
        await checkpointer.wait()
        assert await run.committed() == [3]


class ReadOnly(MemoryBackend):
    """Refuse every write."""

    async def put(self, key: str, body: Body, *, condition: Condition | None = None) -> ObjectInfo:
        raise PermissionDeniedError(f"{key}: read only", key=key)


async def test_a_reader_that_may_not_write_reads_without_a_hold() -> None:
    async with reading(ReadOnly(), "ckpt-1"):
        pass


async def test_a_hold_goes_away_however_the_reading_ends() -> None:
    store = MemoryBackend()
    with pytest.raises(ZeroDivisionError):
        async with reading(store, "ckpt-1"):
            assert await held(store) == {"ckpt-1"}
            raise ZeroDivisionError
    assert await held(store) == frozenset()


async def test_the_hold_of_a_dead_reader_ends_by_its_age_and_is_swept() -> None:
    store = MemoryBackend()
    await store.put(f"{FOLDER}ckpt-1/reader-1.json", BytesBody(b"{}"))
    await store.put(f"{FOLDER}ckpt-2/pin.json", BytesBody(b"{}"))
    later = datetime.now(UTC) + READER_EXPIRES + timedelta(minutes=1)
    assert await held(store) == {"ckpt-1", "ckpt-2"}
    assert await held(store, now=later) == {"ckpt-2"}
    assert await find_orphans(store, older_than=timedelta(days=1)) == []
    orphans = await find_orphans(store, older_than=timedelta(0), now=later)
    assert [each.key for each in orphans] == [f"{FOLDER}ckpt-1/reader-1.json"]
    await remove_orphans(store, orphans)
    assert await pinned(store) == ["ckpt-2"]


def test_the_command_pins_shows_and_unpins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def make() -> None:
        async with Checkpointer(str(tmp_path / "run"), staging_dir=tmp_path / "staging") as checkpointer:
            await (await checkpointer.submit(Pinned(5)))

    asyncio.run(make())
    url = str(tmp_path / "run")
    assert main(["pin", url, "5", "--reason", "best"]) == 0
    assert main(["ls", url]) == 0
    assert main(["unpin", url, "5"]) == 0
    assert main(["unpin", url, "5"]) == 0
    assert main(["pin", url, "6"]) == 1
    out, err = capsys.readouterr()
    first, second, *rest = out.splitlines()
    assert first == "ckpt-5 is pinned"
    assert second.startswith("ckpt-5 ")
    assert second.endswith("  pinned")
    assert rest == ["ckpt-5 is no longer pinned", "step 5 was not pinned"]
    assert "step 6 is not committed" in err
