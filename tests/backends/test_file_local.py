"""Local files put into a file backend: from file to file, with all that holds for streamed ones."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from ackpt.backends._file import receive as receive_module
from ackpt.backends._file.transplant import share, transplant
from ackpt.backends.base import MultipartBackend
from ackpt.backends.file import FileBackend
from ackpt.errors import AlreadyExistsError, LocalFileError, TransientError
from ackpt.options import KiB, MiB
from ackpt.transfer import body as body_module
from ackpt.transfer.body import FileBody
from ackpt.transfer.budget import Budget
from ackpt.transfer.checksum import crc32c
from ackpt.transfer.local import FileStamp
from ackpt.transfer.rate import RateLimit
from ackpt.transfer.reliable import reliable
from ackpt.transfer.retry import Deadline, Retry
from tests.transfer.conftest import eventually, pattern
from tests.transfer.hand_clock import HandClock

SIZE = 5 * MiB + 77
DATA = pattern(SIZE)


class Whole(FileBody):
    """Be a body that must not be streamed."""

    async def __aiter__(self) -> AsyncGenerator[memoryview, None]:
        raise AssertionError("its bytes were streamed")
        yield memoryview(b"")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "staged"
    path.write_bytes(DATA)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def backend(root: Path) -> FileBackend:
    return FileBackend(root)


def body(path: Path, start: int = 0, stop: int = SIZE, *, budget: Budget | None = None) -> FileBody:
    budget = budget or Budget(connections=4, memory_bytes=64 * MiB)
    return Whole(path, start, stop, budget=budget, stamp=FileStamp.of(path))


def left(root: Path) -> list[str]:
    return sorted(each.relative_to(root).as_posix() for each in root.rglob("*") if each.is_file())


def can_share(folder: Path) -> bool:
    """Tell whether the file system below `folder` shares blocks."""
    with (folder / "a").open("wb+") as one, (folder / "b").open("wb+") as other:
        one.write(bytes(MiB))
        one.flush()
        return share(one.fileno(), 0, MiB, other.fileno(), 0)


@pytest.mark.parametrize("size", [0, 1, 4 * KiB, MiB, SIZE])
async def test_a_file_is_put_from_file_to_file_and_its_checksum_is_known(
    backend: FileBackend, root: Path, path: Path, size: int
) -> None:
    sent = body(path, 0, size)
    info = await backend.put("folder/object", sent)
    assert (root / "folder" / "object").read_bytes() == DATA[:size]
    assert info.crc32c == await sent.crc32c() == crc32c(DATA[:size])
    assert (await backend.head("folder/object")).crc32c == info.crc32c


async def test_parts_of_a_file_are_put_from_file_to_file_also_by_a_later_process(
    backend: FileBackend, root: Path, path: Path
) -> None:
    upload = await backend.create_upload("object")
    first = await upload.put_part(1, body(path, 0, 2 * MiB))
    later = await FileBackend(root).open_upload("object", upload.id)
    assert [part.crc32c for part in await later.parts()] == [first.crc32c] == [crc32c(DATA[: 2 * MiB])]
    rest = [
        await later.put_part(2, body(path, 2 * MiB, 4 * MiB)),
        await later.put_part(3, body(path, 4 * MiB, SIZE)),
    ]
    info = await later.complete([first, *rest])
    assert (root / "object").read_bytes() == DATA
    assert info.crc32c == crc32c(DATA)


async def test_where_the_file_system_can_blocks_are_shared_and_nothing_is_written(
    backend: FileBackend, root: Path, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not can_share(tmp_path):
        pytest.skip("the file system of the temporary folder shares no blocks")

    def refuse(*_: object) -> int:
        raise OSError(errno.EIO, "written")

    monkeypatch.setattr(os, "pwrite", refuse)
    info = await backend.put("object", body(path))
    assert info.crc32c == crc32c(DATA)
    path.write_bytes(b"another")
    assert (root / "object").read_bytes() == DATA


async def test_a_condition_that_does_not_hold_copies_nothing(
    backend: FileBackend, root: Path, path: Path
) -> None:
    from ackpt.backends.base import IfAbsent

    await backend.put("object", body(path, 0, 10))
    with pytest.raises(AlreadyExistsError):
        await backend.put("object", body(path), condition=IfAbsent())
    assert (root / "object").read_bytes() == DATA[:10]


async def test_a_file_that_changes_while_it_is_copied_makes_no_object(
    backend: FileBackend, root: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changing(*args: int) -> int:
        value = transplant(*args)
        with path.open("ab") as file:
            file.write(b"more")
        return value

    monkeypatch.setattr(receive_module, "transplant", changing)
    with pytest.raises(LocalFileError, match="changed while it was being sent"):
        await backend.put("object", body(path))
    assert [name for name in left(root) if "lock" not in name] == []


async def test_a_file_that_is_too_short_makes_no_object(backend: FileBackend, root: Path, path: Path) -> None:
    os.truncate(path, MiB)
    with pytest.raises(LocalFileError, match=f"^{path}: expected at least {4 * MiB} bytes, found {MiB}"):
        await backend.put("object", body(path))
    assert [name for name in left(root) if "lock" not in name] == []


async def test_a_disk_that_gives_back_other_bytes_than_before_makes_no_object(
    backend: FileBackend, root: Path, path: Path
) -> None:
    sent = body(path)
    assert await sent.crc32c() == crc32c(DATA)
    status = path.stat()
    with path.open("r+b") as file:
        file.write(b"!")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(LocalFileError, match="the disk gives back other bytes than were written"):
        await backend.put("object", sent)
    assert [name for name in left(root) if "lock" not in name] == []


async def test_a_copy_that_is_cancelled_leaves_no_file_and_no_descriptor(
    backend: FileBackend, root: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    summed = []

    def slow(*args: int) -> int:
        begun.set()
        go_on.wait(10)
        summed.append(transplant(*args))
        return summed[-1]

    monkeypatch.setattr(receive_module, "transplant", slow)
    before = set(os.listdir("/proc/self/fd"))
    task = asyncio.create_task(backend.put("object", body(path)))
    await eventually(begun.is_set)
    task.cancel()
    await asyncio.sleep(0.05)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    await backend.aclose()
    assert summed == [crc32c(DATA[: 4 * MiB])], "what was under way has lost its descriptor"
    assert [name for name in left(root) if "lock" not in name] == []
    assert len(set(os.listdir("/proc/self/fd")) - before) <= 1  # that of listdir


async def test_a_copy_keeps_to_the_rate(backend: FileBackend, path: Path) -> None:
    clock = HandClock()
    rate = RateLimit(MiB, clock=clock, sleep=clock.sleep)
    began = clock.now
    await backend.put("object", body(path, budget=Budget(connections=4, memory_bytes=64 * MiB, rate=rate)))
    assert 4.5 < clock.now - began < 6.0


async def test_a_copy_that_moves_is_let_alone_and_one_that_stands_still_is_given_up(
    backend: FileBackend, root: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pause = 0.05

    def slow(*args: int) -> int:
        time.sleep(pause)
        return transplant(*args)

    monkeypatch.setattr(receive_module, "transplant", slow)
    monkeypatch.setattr(body_module, "_STRETCH_BYTES", MiB)
    store = reliable(backend, Retry(attempts=1, deadline=Deadline(10.0), stall_secs=0.2))
    assert isinstance(store, MultipartBackend)
    await store.put("object", body(path))
    assert (root / "object").read_bytes() == DATA
    pause = 0.5
    with pytest.raises(TransientError, match=r"nothing moved for 0\.2 s"):
        await store.put("other", body(path))
    assert not (root / "other").exists()
