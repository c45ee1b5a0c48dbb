"""Downloads: the file appears whole, verified and durable, or not at all."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

import pytest

from ackpt.errors import (
    ChecksumMismatchError,
    LocalFileError,
    NotFoundError,
    PermissionDeniedError,
    StorageFullError,
    TransientError,
)
from ackpt.options import MiB
from ackpt.transfer.body import BytesBody
from ackpt.transfer.budget import Budget
from ackpt.transfer.checksum import crc32c
from ackpt.transfer.context import Transfer
from ackpt.transfer.download import _RangeProgress, download_object
from ackpt.transfer.plan import Part
from ackpt.transfer.rate import RateLimit
from ackpt.transfer.retry import Deadline, Retry
from ackpt.transfer.target import Target, _stem

from .conftest import PART_BYTES, pattern
from .scripted import ScriptedBackend, Turn

KEY = "model.ckpt-5.data-00000-of-00001"
LARGE = 4 * PART_BYTES + 17

PART = _stem("file")


async def stocked(data: bytes, *turns: Turn, block_bytes: int = 0) -> ScriptedBackend:
    backend = ScriptedBackend(block_bytes=block_bytes)
    await backend.put(KEY, BytesBody(data))
    backend.requests.clear()
    backend.script.turns = list(turns)
    return backend


def files_in(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


@pytest.mark.parametrize("size", [0, 1, PART_BYTES, LARGE])
@pytest.mark.parametrize("known", [True, False])
async def test_a_file_is_the_object(tmp_path: Path, transfer: Transfer, size: int, known: bool) -> None:
    data, path, progress = pattern(size), tmp_path / "file", list[int]()
    await download_object(
        await stocked(data),
        KEY,
        path,
        transfer,
        size=size,
        crc32c=crc32c(data) if known else None,
        on_progress=progress.append,
    )
    assert path.read_bytes() == data
    assert files_in(tmp_path) == ["file"]
    assert sum(progress) == size
    assert transfer.budget.connections_in_use == transfer.budget.memory_in_use == 0


async def test_a_range_that_broke_off_goes_on_from_there(tmp_path: Path, transfer: Transfer) -> None:
    data = pattern(PART_BYTES)
    asked: list[tuple[int, int | None]] = []

    class Noted(ScriptedBackend):
        def get(self, key: str, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
            asked.append((start, stop))
            return super().get(key, start, stop)

    backend = Noted(block_bytes=1000)
    await backend.put(KEY, BytesBody(data))
    backend.script.turns = [Turn(request="get", skip=1, before=TransientError("broken"))]
    path = tmp_path / "file"
    await download_object(backend, KEY, path, transfer, size=len(data), crc32c=crc32c(data))
    assert path.read_bytes() == data
    (first, _), (again, stop) = asked
    assert (first, stop) == (0, PART_BYTES)
    assert 0 < again < PART_BYTES


async def test_ranges_are_fetched_at_once_and_in_small_blocks(tmp_path: Path, transfer: Transfer) -> None:
    data = pattern(LARGE)
    backend = await stocked(data, block_bytes=1000)
    await download_object(backend, KEY, tmp_path / "file", transfer, size=LARGE, crc32c=crc32c(data))
    assert backend.requests.count("get") == 5
    assert (tmp_path / "file").read_bytes() == data


async def test_a_range_that_breaks_goes_on_and_the_file_is_whole(tmp_path: Path, transfer: Transfer) -> None:
    data = pattern(LARGE)
    breaks = [Turn(request="get", skip=n, before=TransientError("broken")) for n in (1, 0, 1, 1, 0, 1)]
    backend = await stocked(data, *breaks)
    await download_object(backend, KEY, tmp_path / "file", transfer, size=LARGE, crc32c=crc32c(data))
    assert (tmp_path / "file").read_bytes() == data


async def test_our_own_waiting_is_no_stall(tmp_path: Path, transfer: Transfer) -> None:
    data = pattern(3 * PART_BYTES)
    slow = Budget(connections=1, memory_bytes=8 * MiB, rate=RateLimit(6.0 * PART_BYTES))
    impatient = Retry(attempts=1, deadline=Deadline(60.0), stall_secs=0.02)
    patient = replace(transfer, budget=slow, retry=impatient)
    await download_object(
        await stocked(data), KEY, tmp_path / "file", patient, size=len(data), crc32c=crc32c(data)
    )
    assert (tmp_path / "file").read_bytes() == data


async def test_a_write_that_was_cut_short_is_made_again(tmp_path: Path) -> None:
    data = pattern(3000)
    target = await Target.create(tmp_path / "file", len(data))
    progress = _RangeProgress(target, Part(number=1, start=0, stop=len(data)))
    await progress.take(data)
    writing = asyncio.create_task(progress.write())
    await asyncio.sleep(0)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    await progress.write()
    assert (progress.written, progress.value) == (len(data), crc32c(data))
    await target.publish()
    assert (tmp_path / "file").read_bytes() == data


async def test_a_file_that_is_there_already_is_kept(tmp_path: Path, transfer: Transfer) -> None:
    data, path, progress = pattern(LARGE), tmp_path / "file", list[int]()
    path.write_bytes(data)
    before = path.stat()
    backend = await stocked(data)
    await download_object(
        backend, KEY, path, transfer, size=LARGE, crc32c=crc32c(data), on_progress=progress.append
    )
    assert path.stat() == before or path.stat().st_ino == before.st_ino
    assert backend.requests == []
    assert progress == [LARGE]


@pytest.mark.parametrize("old", [b"", b"short", bytes(LARGE)])
async def test_a_file_that_is_there_with_other_bytes_is_replaced(
    tmp_path: Path, transfer: Transfer, old: bytes
) -> None:
    data, path = pattern(LARGE), tmp_path / "file"
    path.write_bytes(old)
    await download_object(await stocked(data), KEY, path, transfer, size=LARGE, crc32c=crc32c(data))
    assert path.read_bytes() == data


def flip(block: bytes) -> bytes:
    return bytes([block[0] ^ 1]) + block[1:]


async def test_bytes_that_came_wrong_once_are_fetched_again(tmp_path: Path, transfer: Transfer) -> None:
    data, progress = pattern(LARGE), list[int]()
    backend = await stocked(data, Turn(request="get", alter=flip))
    await download_object(
        backend,
        KEY,
        tmp_path / "file",
        transfer,
        size=LARGE,
        crc32c=crc32c(data),
        on_progress=progress.append,
    )
    assert (tmp_path / "file").read_bytes() == data
    assert backend.requests.count("get") == 10
    assert sum(progress) == LARGE


@pytest.mark.parametrize("old", [None, b"what was there"])
async def test_a_damaged_object_is_an_error_that_names_both_sums_and_leaves_what_was_there(
    tmp_path: Path, transfer: Transfer, old: bytes | None
) -> None:
    data, path = pattern(LARGE), tmp_path / "file"
    if old is not None:
        path.write_bytes(old)
    backend = await stocked(data)
    promised = crc32c(data) ^ 1
    with pytest.raises(ChecksumMismatchError, match=f"{KEY}.*{promised:08x}.*{crc32c(data):08x}"):
        await download_object(backend, KEY, path, transfer, size=LARGE, crc32c=promised)
    assert backend.requests.count("get") == 10  # twice
    assert files_in(tmp_path) == ([] if old is None else ["file"])
    assert old is None or path.read_bytes() == old


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("by", [-1, 1])
async def test_an_object_of_another_size_is_an_error(
    tmp_path: Path, transfer: Transfer, known: bool, by: int
) -> None:
    data = pattern(LARGE)
    with pytest.raises(ChecksumMismatchError, match=KEY):
        await download_object(
            await stocked(data),
            KEY,
            tmp_path / "file",
            transfer,
            size=LARGE + by,
            crc32c=crc32c(data) if known else None,
        )
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("size", [0, 1, LARGE])
async def test_an_absent_object_is_not_found_and_leaves_nothing(
    tmp_path: Path, transfer: Transfer, size: int
) -> None:
    with pytest.raises(NotFoundError):
        await download_object(ScriptedBackend(), KEY, tmp_path / "file", transfer, size=size, crc32c=0)
    assert files_in(tmp_path) == []


async def test_an_error_of_one_range_comes_out_plain_and_leaves_nothing(
    tmp_path: Path, transfer: Transfer
) -> None:
    data = pattern(LARGE)
    backend = await stocked(data, Turn(request="get", skip=1, before=PermissionDeniedError("no")))
    with pytest.raises(PermissionDeniedError):
        await download_object(backend, KEY, tmp_path / "file", transfer, size=LARGE, crc32c=crc32c(data))
    assert files_in(tmp_path) == []
    assert transfer.budget.connections_in_use == transfer.budget.memory_in_use == 0


async def test_cancelling_leaves_no_temporary_file(tmp_path: Path, transfer: Transfer) -> None:
    data, reached = pattern(LARGE), asyncio.Event()

    async def hang() -> None:
        reached.set()
        await asyncio.Event().wait()

    backend = await stocked(data, Turn(request="get", skip=1, wait=hang))
    task = asyncio.create_task(
        download_object(backend, KEY, tmp_path / "file", transfer, size=LARGE, crc32c=crc32c(data))
    )
    await reached.wait()
    assert files_in(tmp_path) == [PART]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert files_in(tmp_path) == []
    assert transfer.budget.connections_in_use == transfer.budget.memory_in_use == 0
    assert len(asyncio.all_tasks()) == 1


async def test_what_a_killed_process_left_is_used_up(tmp_path: Path, transfer: Transfer) -> None:
    (tmp_path / PART).write_bytes(bytes(2 * LARGE))
    data = pattern(LARGE)
    await download_object(
        await stocked(data), KEY, tmp_path / "file", transfer, size=LARGE, crc32c=crc32c(data)
    )
    assert (tmp_path / "file").read_bytes() == data
    assert files_in(tmp_path) == ["file"]


async def test_two_downloads_to_one_name_do_not_mix(tmp_path: Path, transfer: Transfer) -> None:
    olds, news = pattern(LARGE), pattern(LARGE, seed=2)
    path = tmp_path / "file"
    async with asyncio.TaskGroup() as group:
        for data in (olds, news, olds, news):
            backend = await stocked(data)
            group.create_task(download_object(backend, KEY, path, transfer, size=LARGE, crc32c=crc32c(data)))
    assert path.read_bytes() in (olds, news)
    assert files_in(tmp_path) == ["file"]


async def test_a_leftover_whose_owner_ends_just_now_is_not_written_to(
    tmp_path: Path, transfer: Transfer, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = pattern(LARGE)
    flock = fcntl.flock
    theirs = tmp_path / "theirs"

    def flock_after_their_rename(file: int, operation: int) -> None:
        os.rename(tmp_path / PART, theirs)
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", flock_after_their_rename)
    (tmp_path / PART).write_bytes(b"whole")
    await download_object(
        await stocked(data), KEY, tmp_path / "file", transfer, size=LARGE, crc32c=crc32c(data)
    )
    assert theirs.read_bytes() == b"whole"
    assert (tmp_path / "file").read_bytes() == data


async def test_a_folder_that_is_not_there_is_a_local_error(tmp_path: Path, transfer: Transfer) -> None:
    data = pattern(10)
    with pytest.raises(LocalFileError, match="no such file"):
        await download_object(
            await stocked(data), KEY, tmp_path / "no" / "file", transfer, size=10, crc32c=crc32c(data)
        )


async def test_no_room_on_the_disk_is_known_before_anything_is_fetched(
    tmp_path: Path, transfer: Transfer
) -> None:
    backend = await stocked(b"")
    with pytest.raises(StorageFullError, match="make room"):
        await download_object(backend, KEY, tmp_path / "file", transfer, size=1 << 50, crc32c=0)
    assert backend.requests == []
    assert files_in(tmp_path) == []


async def test_a_disk_that_fills_up_leaves_nothing(
    tmp_path: Path, transfer: Transfer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwritev", full)
    data = pattern(LARGE)
    with pytest.raises(StorageFullError, match="no space left"):
        await download_object(
            await stocked(data), KEY, tmp_path / "file", transfer, size=LARGE, crc32c=crc32c(data)
        )
    assert files_in(tmp_path) == []


async def test_the_bytes_are_on_the_disk_before_the_name_and_the_name_before_the_end(
    tmp_path: Path, transfer: Transfer, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, list[str]]] = []

    def fsync(descriptor: int) -> None:
        synced.append((os.readlink(f"/proc/self/fd/{descriptor}"), files_in(tmp_path)))

    monkeypatch.setattr(os, "fsync", fsync)
    data = pattern(LARGE)
    await download_object(
        await stocked(data), KEY, tmp_path / "file", transfer, size=LARGE, crc32c=crc32c(data)
    )
    temporary = str(tmp_path / PART)
    assert synced == [(temporary, [PART]), (str(tmp_path), ["file"])]


async def test_a_budget_of_less_than_one_range_slows_down_and_does_not_lock_up(
    tmp_path: Path, transfer: Transfer
) -> None:
    data = pattern(LARGE)
    small = replace(transfer, budget=Budget(connections=8, memory_bytes=1))
    async with asyncio.timeout(30):
        await download_object(
            await stocked(data), KEY, tmp_path / "file", small, size=LARGE, crc32c=crc32c(data)
        )
    assert (tmp_path / "file").read_bytes() == data


async def test_more_ranges_at_once_hold_no_more_memory(tmp_path: Path, transfer: Transfer) -> None:
    ranges = 32
    options = replace(transfer.options, part_bytes=MiB)
    wide = replace(transfer, options=options, budget=Budget(connections=ranges, memory_bytes=256 * MiB))
    held: list[int] = []
    together = asyncio.Barrier(ranges)

    class Gathering(ScriptedBackend):
        async def get(self, key: str, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
            async with asyncio.timeout(30):
                await together.wait()
            held.append(wide.budget.memory_in_use)
            yield bytes((stop or 0) - start)

    value = crc32c(bytes(ranges * MiB))
    await download_object(Gathering(), KEY, tmp_path / "file", wide, size=ranges * MiB, crc32c=value)
    assert max(held) <= 20 * MiB


async def test_a_name_of_the_greatest_length_is_fetched(tmp_path: Path, transfer: Transfer) -> None:
    backend = ScriptedBackend()
    name = "ü" * 127 + "x"  # 255 bytes
    await backend.put(name, BytesBody(b"abc"))
    await download_object(backend, name, tmp_path / name, transfer, size=3, crc32c=None)
    assert os.listdir(tmp_path) == [name]


async def test_files_that_are_called_like_temporary_ones_are_fetched_beside_each_other(
    tmp_path: Path, transfer: Transfer
) -> None:
    backend = ScriptedBackend()
    names = ["a", ".a.part", _stem("a")]
    for name in names:
        await backend.put(name, BytesBody(name.encode() * 100_000))
    for name in (names[0], names[2], names[1]):
        size = len(name) * 100_000
        await download_object(backend, name, tmp_path / name, transfer, size=size, crc32c=None)
    assert {path.name: path.read_bytes()[: len(path.name)].decode() for path in tmp_path.iterdir()} == {
        name: name for name in names
    }


async def test_a_link_in_the_place_of_a_temporary_file_is_not_followed(
    tmp_path: Path, transfer: Transfer
) -> None:
    backend = ScriptedBackend()
    await backend.put("file", BytesBody(b"abc"))
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / PART).symlink_to(tmp_path / "theirs")
    await download_object(backend, "file", tmp_path / "file", transfer, size=3, crc32c=None)
    assert (tmp_path / "file").read_bytes() == b"abc"
    assert (tmp_path / "theirs").read_text() == "theirs"
