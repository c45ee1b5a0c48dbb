"""One object becomes one local file: ranges in parallel, verified, then renamed into place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Final

from ackpt.backends.base import Backend
from ackpt.errors import ChecksumMismatchError, LocalFileError, TransientError
from ackpt.options import KiB, MiB
from ackpt.transfer.checksum import combine, crc32c_of_file
from ackpt.transfer.checksum import crc32c as checksum
from ackpt.transfer.context import Transfer
from ackpt.transfer.fan_out import fan_out
from ackpt.transfer.local import local_errors
from ackpt.transfer.plan import Part, plan_parts
from ackpt.transfer.progress import Progress
from ackpt.transfer.reliable import reliable, unreliable
from ackpt.transfer.target import Target

_TRIES: Final = 2
_MOST_WRITTEN: Final = 1 * MiB
_LEAST_WRITTEN: Final = 64 * KiB
"""Bounds of what one range collects before a thread writes it."""

_HELD_BYTES: Final = 20 * MiB
"""What all ranges hold together, however many connections there are: each once collected, once read ahead."""

_WRITE_BLOCKS: Final = 256
"""What one system call takes, and less (IOV_MAX is 1,024)."""


async def download_object(
    backend: Backend,
    key: str,
    path: Path,
    transfer: Transfer,
    *,
    size: int,
    crc32c: int | None,
    on_progress: Callable[[int], None] | None = None,
) -> None:
    """Fetch the object `key` into `path`, which appears whole, verified and durable, or not at all.

    `size` and `crc32c` are what the manifest promises (None: not known, the size alone is compared).
    A file that is there already with both is kept, so that a restore resumes file by file; any
    other is replaced. `path`'s folder must exist.
    `on_progress` is called with the bytes newly fetched (or found), and with a negative number when
    they must be fetched again.

    Raises:
        NotFoundError: there is no such object.
        ChecksumMismatchError: the object's bytes are not what was promised, twice.
        LocalFileError, StorageFullError: the file cannot be written.
        StorageError: what the store said, after the retries.
    """
    progress = Progress(on_progress)
    if crc32c is not None and await asyncio.to_thread(_is_there, path, size, crc32c):
        progress.add(size)
        return
    fetch = _Fetch(backend, key, transfer, progress)

    async def attempt() -> None:
        target = await Target.create(path, size)
        try:
            if crc32c is None or not size:  # else the bytes themselves tell
                await fetch.check_size(size)
            came = await fetch.into(target, size)
            if crc32c is not None and came != crc32c:
                raise _WrongBytesError(
                    f"{key}: expected {size} bytes with crc32c {crc32c:08x}, came with {came:08x}; "
                    "the object is damaged",
                    key=key,
                )
            await target.publish()
        except BaseException as error:
            progress.take_back()
            await target.discard(error)
            raise

    await transfer.retry(attempt, what=f"download of {key}", on=_WrongBytesError, attempts=_TRIES)


class _WrongBytesError(ChecksumMismatchError):
    """Report an object that is not what was promised, apart from a request that brought other bytes."""


class _Fetch:
    """Read one object, many ranges at a time."""

    def __init__(self, backend: Backend, key: str, transfer: Transfer, progress: Progress) -> None:
        self._store = reliable(backend, transfer.retry)
        self._once = unreliable(backend)
        self._key = key
        self._budget = transfer.budget
        self._retry = transfer.retry
        self._part_bytes = transfer.options.part_bytes
        self._progress = progress

    async def check_size(self, size: int) -> None:
        """Compare the size that the store reports with the one that was promised."""
        info = await self._store.head(self._key)
        if info.size != size:
            raise _WrongBytesError(
                f"{self._key}: expected {size} bytes, the store reports {info.size}", key=self._key
            )

    async def into(self, target: Target, size: int) -> int:
        """Write all ranges to `target` and return the CRC-32C of the whole."""
        plan = plan_parts(size, self._part_bytes)
        values = await fan_out(
            [partial(self._range, target, part) for part in plan], limit=self._budget.connections
        )
        whole = 0
        for part, value in zip(plan, values, strict=True):
            whole = combine(whole, value, part.size)
        return whole

    async def _range(self, target: Target, part: Part) -> int:
        """Write one range to `target` and return its CRC-32C; goes on where it broke off."""
        progress, what = _RangeProgress(target, part), f"get of {self._key}"
        broken: TransientError | None = None

        async def attempt() -> None:
            nonlocal broken
            if broken is not None:
                error, broken = broken, None
                raise error
            before = progress.written
            try:
                await self._fetch(progress, what)
            except TransientError as error:
                if progress.written == before:
                    raise
                broken = error  # something has come, so the attempts count anew from this failure on

        while True:
            await self._retry(attempt, what=what)
            if broken is None:
                break
        if progress.written != part.stop:
            raise _WrongBytesError(
                f"{self._key}: expected bytes {part.start} to {part.stop}, came "
                f"{progress.written - part.start}; the object has another size than was promised",
                key=self._key,
            )
        self._progress.add(part.size)
        return progress.value

    async def _fetch(self, progress: _RangeProgress, what: str) -> None:
        """Read what is left of a range in one request, which holds a connection and memory."""
        start, stop = progress.written, progress.part.stop
        budget = self._budget
        progress.write_bytes = _write_bytes(budget.level)
        async with (
            budget.connection(),
            budget.memory(min(stop - start, 2 * progress.write_bytes)),
            aclosing(self._once.get(self._key, start, stop)) as stream,
        ):
            try:
                # One watch for all of them, which rests while the block is ours.
                async with self._retry.watch(what) as watch:
                    async for block in stream:
                        watch.resting = True
                        self._retry.deadline.renew()
                        budget.moved(len(block))
                        if budget.limited:
                            await budget.travel(len(block))
                        await progress.take(block)
                        watch.resting = False
                        watch.pulse()
            except TransientError:
                await progress.write()
                raise
            await progress.write()


class _RangeProgress:
    """Write what comes of one range, in larger pieces."""

    def __init__(self, target: Target, part: Part) -> None:
        self.part = part
        self.written = part.start
        self.value = 0
        self.write_bytes = _LEAST_WRITTEN
        self._target = target
        self._held = 0
        self._blocks: list[bytes] = []

    async def take(self, block: bytes) -> None:
        """Take a block, and write when enough has come together."""
        self.value = checksum(block, self.value)  # now, while the cache has it
        self._blocks.append(block)
        self._held += len(block)
        if self._held >= self.write_bytes or len(self._blocks) >= _WRITE_BLOCKS:
            await self.write()

    async def write(self) -> None:
        """Write what is held; when that is cut short, it is held still, and can be written again."""
        if self._blocks:
            await self._target.write(self._blocks, self.written)
            self.written += self._held
            self._blocks, self._held = [], 0


def _write_bytes(connections: int) -> int:
    """Return what one of so many ranges collects before it is written."""
    return max(_LEAST_WRITTEN, min(_MOST_WRITTEN, _HELD_BYTES // (2 * connections)))


def _is_there(path: Path, size: int, crc32c: int) -> bool:
    """Tell whether the file is there already, whole."""
    try:
        with local_errors(path):
            return path.stat().st_size == size and crc32c_of_file(path) == crc32c
    except LocalFileError:
        return False
