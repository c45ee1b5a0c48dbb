"""Staging of one request: a worker writes the snapshot, file by file, and the journal follows it."""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Callable, Collection
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from ackpt.checkpoint.manifest import check_key
from ackpt.checkpoint.staged import StagedFile
from ackpt.checkpoint.staging import StagingFolder
from ackpt.engine.request import SaveRequest
from ackpt.errors import SnapshotError, StorageFullError
from ackpt.snapshot.base import Snapshot
from ackpt.transfer.fan_out import task_group

T = TypeVar("T")


async def stage(request: SaveRequest, staging: StagingFolder) -> None:
    """Write the request's snapshot into `staging`, and pass each file on as it is finished.

    The journal is written behind the worker, so that fsyncs do not hold up the next file. When
    this returns, the checkpoint is whole in the staging folder and journalled. The snapshot is
    released whatever happens.

    Raises:
        SnapshotError, StagingError, StorageFullError.
    """
    started = time.monotonic()
    try:
        save, journal = await asyncio.to_thread(
            staging.new,
            step=request.step,
            prefix=request.prefix,
            metrics=request.metrics,
            claim=request.claim,
        )
        request.save, request.journal = save, journal
        request.begun.set()
        try:
            async with task_group() as group:
                group.create_task(_write(request, save.files))
                group.create_task(_journal(request, save.files))
        except OSError as error:
            raise _translate(error, request.step) from error
        request.stage_secs = time.monotonic() - started
        request.staged = True
    finally:
        await request.release()


async def _write(request: SaveRequest, folder: Path) -> None:
    loop = asyncio.get_running_loop()
    assert request.snapshot is not None
    writer = _Writer(
        request.snapshot,
        folder,
        request.prefix,
        lambda file: loop.call_soon_threadsafe(request.files.add, file),
    )
    await _in_worker(writer.run, on_cancel=writer.stop)
    await request.release()  # before the sender can end, however long the journal takes
    request.files.end()


async def _journal(request: SaveRequest, folder: Path) -> None:
    assert request.journal is not None
    async for file in request.files:
        async with request.journal_turn:
            await asyncio.to_thread(request.journal.add_file, file)
        request.size += file.size
    async with request.journal_turn:
        await asyncio.to_thread(request.journal.mark_staged, folder)


class _Writer:
    """Drive a snapshot's `stage` on one worker thread, until it ends or is told to stop."""

    def __init__(
        self, snapshot: Snapshot, folder: Path, prefix: str, emit: Callable[[StagedFile], object]
    ) -> None:
        self._snapshot = snapshot
        self._folder = folder
        self._prefix = prefix
        self._emit = emit
        self._stopped = False

    def stop(self) -> None:
        """Ask the worker to leave after the file it is at; from any thread."""
        self._stopped = True

    def run(self) -> None:
        """Write file after file; on the worker.

        Raises:
            SnapshotError: no file came, one under a key that the manifest could not name, or one that
                does not lie where its key says, and where a later process would look for it.
        """
        keys: set[str] = set()
        files = self._snapshot.stage(self._folder, self._prefix)
        with closing(files):  # type: ignore[type-var]  # every `stage` is a generator
            for file in files:
                if self._stopped:
                    return
                self._check(file, keys)
                keys.add(file.key)
                self._emit(file)
        if not keys:
            raise SnapshotError(f"{self._prefix}: the snapshot has no files", step=self._snapshot.step)

    def _check(self, file: StagedFile, earlier: Collection[str]) -> None:
        step = self._snapshot.step
        try:
            check_key(file.key, self._prefix)
        except ValueError as error:
            raise SnapshotError(f"step {step} cannot be saved: {error}", step=step) from error
        if file.key in earlier:
            raise SnapshotError(f"step {step} cannot be saved: its snapshot has {file.key} twice", step=step)
        place = self._folder / file.key
        if file.path != place:
            raise SnapshotError(
                f"step {step} cannot be saved: expected {file.key} at {place}, got {file.path}", step=step
            )


async def _in_worker(call: Callable[[], T], *, on_cancel: Callable[[], None]) -> T:
    """Run `call` on a worker; when cancelled, wait for it to leave, so that nobody writes behind our back."""
    work = asyncio.get_running_loop().run_in_executor(None, call)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        on_cancel()
        await asyncio.wait([work])
        raise


def _translate(error: OSError, step: int) -> StorageFullError | SnapshotError:
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFullError(
            f"no room left to stage step {step}: {reason.lower()}; make room in the staging folder or choose "
            "another with staging_dir"
        )
    return SnapshotError(f"step {step} could not be staged: {reason.lower()}", step=step)
