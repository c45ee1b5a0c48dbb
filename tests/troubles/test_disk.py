"""Local disks that are full, or that can no longer be written to, in the middle of a run."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ackpt import Checkpointer, Tolerate
from ackpt.errors import StagingError, StorageFullError
from ackpt.events import Committed, Failed
from ackpt.options import MiB
from tests.engine.conftest import small_disk
from tests.engine.runs import Run
from tests.troubles.saving import State, check_whole

__all__ = ["small_disk"]


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Let nobody write to a folder for a while, as a kernel does that has met errors on its disk."""
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


async def test_a_disk_that_is_full_for_one_save_takes_the_next(small_disk: Path) -> None:
    run = Run()
    async with Checkpointer(run.url, staging_dir=small_disk, failure=Tolerate(2)) as checkpointer:
        assert isinstance(await (await checkpointer.submit(State(1))), Committed)
        outcome = await (await checkpointer.submit(State(2, 20 * MiB)))
        assert isinstance(outcome, Failed)
        assert isinstance(outcome.error, StorageFullError)
        assert not outcome.staged
        checkpointer.check()
        assert isinstance(await (await checkpointer.submit(State(3))), Committed)
    await check_whole(run.store, newest=3)
    (folder,) = small_disk.iterdir()
    assert {each.name for each in folder.iterdir()} == {"lock", "target"}


async def test_a_staging_folder_that_becomes_read_only_fails_saves_until_it_can_be_written_to(
    small_disk: Path,
) -> None:
    run = Run()
    async with Checkpointer(run.url, staging_dir=small_disk, failure=Tolerate(2)) as checkpointer:
        assert isinstance(await (await checkpointer.submit(State(1))), Committed)
        with read_only(small_disk):
            outcome = await (await checkpointer.submit(State(2)))
            assert isinstance(outcome, Failed)
            assert isinstance(outcome.error, StagingError)
            assert "Read-only file system" in str(outcome.error)
        assert isinstance(await (await checkpointer.submit(State(3))), Committed)
    await check_whole(run.store, newest=3)
