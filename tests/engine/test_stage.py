"""Staging of a request: what is passed on, what is journalled, and what every failure leaves."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ackpt import Checkpointer
from ackpt.checkpoint.staged import StagedFile
from ackpt.errors import SaveFailedError, SnapshotError, StagingError, StorageFullError
from ackpt.events import Committed, Failed
from ackpt.snapshot.base import Snapshot
from tests.engine.runs import Pinned, Run, content


@pytest.fixture
def run() -> Run:
    return Run()


async def outcome_of(run: Run, snapshot: Snapshot, **options: Path) -> Committed | Failed:
    """Save one snapshot; a failure at the end is the outcome's to tell."""
    try:
        async with Checkpointer(run.url, **options) as checkpointer:  # type: ignore[arg-type]
            outcome = await (await checkpointer.submit(snapshot))
    except SaveFailedError:
        pass
    assert isinstance(outcome, Committed | Failed)
    return outcome


@pytest.mark.parametrize(
    "name",
    ["a\\b", "a\nb", "../../x", "a//b", "manifest.json", "sending.json", "deleted.json", "\udc80"],
)
async def test_a_file_whose_key_no_reader_would_trust_fails_the_save_before_it_is_sent(
    run: Run, name: str
) -> None:
    class Odd(Pinned):
        def stage(self, folder: Path, prefix: str) -> Iterator[StagedFile]:
            (folder / "file").write_bytes(b"x")
            yield StagedFile(key=f"{prefix}.{name}", path=folder / "file", size=1)

    outcome = await outcome_of(run, Odd(7))
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, SnapshotError)
    assert outcome.error.step == 7
    assert not [key for key in await run.keys() if key.startswith("ckpt-7") and "sending" not in key]


async def test_a_key_that_comes_twice_fails_the_save(run: Run) -> None:
    class Twice(Pinned):
        def stage(self, folder: Path, prefix: str) -> Iterator[StagedFile]:
            yield from super().stage(folder, prefix)
            yield StagedFile(key=f"{prefix}.index", path=folder / f"{prefix}.index", size=10)

    outcome = await outcome_of(run, Twice(7))
    assert isinstance(outcome, Failed)
    assert "ckpt-7.index twice" in str(outcome.error)
    assert await run.committed() == []


async def test_a_file_that_lies_elsewhere_than_its_key_says_fails_the_save(run: Run) -> None:
    class Elsewhere(Pinned):
        def stage(self, folder: Path, prefix: str) -> Iterator[StagedFile]:
            (folder / "data").write_bytes(b"x")
            yield StagedFile(key=f"{prefix}.index", path=folder / "data", size=1)

    outcome = await outcome_of(run, Elsewhere(7))
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, SnapshotError)
    assert "expected ckpt-7.index at" in str(outcome.error)


async def test_a_snapshot_without_files_fails_the_save(run: Run) -> None:
    outcome = await outcome_of(run, Pinned(7, {}))
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, SnapshotError)
    assert "no files" in str(outcome.error)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(5, "Input/output error"), SnapshotError),
        (OSError(28, "No space left on device"), StorageFullError),
        (OSError(122, "Disk quota exceeded"), StorageFullError),
    ],
)
async def test_what_the_disk_says_is_typed_and_is_its_cause(
    run: Run, error: OSError, kind: type[Exception]
) -> None:
    snapshot = Pinned(7, error=error)
    outcome = await outcome_of(run, snapshot)
    assert isinstance(outcome, Failed)
    assert type(outcome.error) is kind
    assert "step 7" in str(outcome.error)
    assert outcome.error.__cause__ is error
    assert snapshot.released == 1


async def test_what_a_snapshot_raises_is_the_outcomes_error_as_it_is(run: Run) -> None:
    error = ZeroDivisionError("mine")
    snapshot = Pinned(7, error=error)
    outcome = await outcome_of(run, snapshot)
    assert isinstance(outcome, Failed)
    assert outcome.error is error
    assert snapshot.released == 1


async def test_staging_without_room_fails_and_what_was_committed_stays(run: Run, small_disk: Path) -> None:
    async with Checkpointer(run.url, staging_dir=small_disk) as checkpointer:
        await (await checkpointer.submit(Pinned(1)))
        big = Pinned(2, {"data-00000-of-00001": b"x" * (11 << 20), "index": b"i"})
        outcome = await (await checkpointer.submit(big))
        assert isinstance(outcome, Failed)
        assert isinstance(outcome.error, StorageFullError)
        assert "make room" in str(outcome.error)
        assert not outcome.staged
        assert isinstance(await (await checkpointer.submit(Pinned(3))), Committed)
    assert await run.committed() == [1, 3]
    assert sorted(os.listdir(next(small_disk.iterdir()))) == ["lock", "target"]


async def test_no_room_for_the_journal_fails_the_save_and_not_the_next(run: Run, small_disk: Path) -> None:
    async with Checkpointer(run.url, staging_dir=small_disk) as checkpointer:
        with pytest.raises(OSError, match="No space left"), (small_disk / "filler").open("wb", 0) as filler:
            while True:
                filler.write(b"x" * 4096)
        outcome = await (await checkpointer.submit(Pinned(2)))
        assert isinstance(outcome, Failed)
        assert isinstance(outcome.error, StorageFullError)
        (small_disk / "filler").unlink()
        assert isinstance(await (await checkpointer.submit(Pinned(3))), Committed)


async def test_a_staging_folder_that_cannot_be_written_to_is_told_at_the_start(
    run: Run, small_disk: Path
) -> None:
    await asyncio.to_thread(subprocess.run, ["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StagingError, match=r"cannot be used \(Read-only file system\)"):
        await Checkpointer(run.url, staging_dir=small_disk).start()
    (small_disk.parent / "file").write_text("")
    with pytest.raises(StagingError, match="cannot be used"):
        await Checkpointer(run.url, staging_dir=small_disk.parent / "file").start()
    assert await run.keys() == []


async def test_files_are_sent_while_later_ones_are_still_being_staged(run: Run) -> None:
    sent = threading.Event()

    class Slow(Pinned):
        def stage(self, folder: Path, prefix: str) -> Iterator[StagedFile]:
            files = super().stage(folder, prefix)
            yield next(files)
            assert sent.wait(30)
            yield from files

    class Watch(type(run.script)):  # type: ignore[misc]
        def fault_for(self, request: object) -> None:
            if request.operation == "put_part":  # type: ignore[attr-defined]
                sent.set()

    run.script = Watch()
    assert isinstance(await outcome_of(run, Slow(7)), Committed)


async def test_the_snapshot_is_released_before_the_bytes_have_travelled(run: Run) -> None:
    released: list[int] = []
    snapshot = Pinned(7)

    class Watch(type(run.script)):  # type: ignore[misc]
        def fault_for(self, request: object) -> None:
            if request.key == "ckpt-7.manifest.json":  # type: ignore[attr-defined]
                released.append(snapshot.released)

    run.script = Watch()
    assert isinstance(await outcome_of(run, snapshot), Committed)
    assert set(released[1:]) == {1}  # the first request looks for an earlier commit
    assert snapshot.released == 1


async def test_the_size_that_is_told_is_that_of_the_files(run: Run) -> None:
    outcome = await outcome_of(run, Pinned(7))
    assert isinstance(outcome, Committed)
    assert outcome.size == sum(len(data) for data in content(7).values())
