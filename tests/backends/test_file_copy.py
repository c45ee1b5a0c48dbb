"""Copies of files: durable, inside the kernel or without it, of files that other programs made, too."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from crc32c import crc32c

from ackpt.backends._file import copy as file_copy
from ackpt.backends.file import FileBackend
from ackpt.errors import NotFoundError, StorageFullError, UnsupportedError
from ackpt.options import KiB
from ackpt.transfer.body import BytesBody

DATA = os.urandom(300 * KiB + 7)


@pytest.fixture
def backend(tmp_path: Path) -> FileBackend:
    return FileBackend(tmp_path / "root")


def fails(number: int) -> Callable[..., int]:
    def call(*_: Any) -> int:
        raise OSError(number, os.strerror(number))

    return call


@pytest.mark.parametrize("kernel", [fails(errno.EXDEV), fails(errno.ENOSYS), lambda *_: 0])
async def test_where_the_kernel_cannot_copy_the_bytes_go_through_memory(
    backend: FileBackend, monkeypatch: pytest.MonkeyPatch, kernel: Callable[..., int]
) -> None:
    source = await backend.put("object", BytesBody(DATA))
    monkeypatch.setattr(os, "copy_file_range", kernel)
    info = await backend.copy(source, "folder/copy")
    assert (Path(backend._root.path) / "folder" / "copy").read_bytes() == DATA
    assert info.crc32c == (await backend.head("folder/copy")).crc32c == crc32c(DATA)


async def test_a_copy_goes_piece_by_piece(backend: FileBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    source = await backend.put("object", BytesBody(DATA))
    monkeypatch.setattr(file_copy, "_PIECE_BYTES", 1000)
    await backend.copy(source, "copy")
    assert (Path(backend._root.path) / "copy").read_bytes() == DATA


async def test_a_copy_of_a_file_that_another_program_made_has_a_checksum(
    backend: FileBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "object").write_bytes(DATA)
    monkeypatch.setattr(file_copy, "_PIECE_BYTES", 100_000)
    source = await backend.head("object")
    assert source.crc32c is None
    assert (await backend.copy(source, "copy")).crc32c == crc32c(DATA)


async def test_a_copy_keeps_the_checksum_of_its_source_and_so_shows_damage_on_the_disk(
    backend: FileBackend, tmp_path: Path
) -> None:
    source = await backend.put("object", BytesBody(DATA))
    path = tmp_path / "root" / "object"
    status = path.stat()
    with path.open("r+b") as file:
        file.write(b"rot")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    info = await backend.copy(source, "copy")
    assert info.crc32c == crc32c(DATA) != crc32c((tmp_path / "root" / "copy").read_bytes())


async def test_a_file_that_changes_in_place_while_it_is_copied_is_not_copied(
    backend: FileBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = await backend.put("object", BytesBody(DATA))
    copy_range = file_copy.copy_range

    def meanwhile(*given: int) -> int:
        with (tmp_path / "root" / "object").open("r+b") as file:
            file.write(b"changed")
        return copy_range(*given)

    monkeypatch.setattr(file_copy, "copy_range", meanwhile)
    with pytest.raises(NotFoundError, match="changed while it was copied"):
        await backend.copy(source, "copy")
    assert [info.key async for info in backend.list()] == ["object"]


async def test_a_file_that_is_cut_off_while_it_is_copied_is_not_copied(
    backend: FileBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = await backend.put("object", BytesBody(DATA))
    copy_range = file_copy.copy_range

    def meanwhile(*given: int) -> int:
        os.truncate(tmp_path / "root" / "object", 10)
        return copy_range(*given)

    monkeypatch.setattr(file_copy, "copy_range", meanwhile)
    with pytest.raises(NotFoundError):
        await backend.copy(source, "copy")


async def test_a_copy_that_finds_the_disk_full_leaves_nothing(
    backend: FileBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = await backend.put("object", BytesBody(DATA))
    monkeypatch.setattr(os, "copy_file_range", fails(errno.ENOSPC))
    with pytest.raises(StorageFullError):
        await backend.copy(source, "copy")
    assert sorted(os.listdir(tmp_path / "root" / ".ackpt-tmp")) == ["lock"]


async def test_a_copy_is_on_the_disk_when_it_returns(
    backend: FileBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = await backend.put("object", BytesBody(DATA))
    synced: list[str] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        synced.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    await backend.copy(source, "folder/copy")
    assert [name.startswith("put-") for name in synced[:1]] == [True]
    assert synced[1:] == ["folder", "root"]


async def test_a_copy_to_a_folder_is_refused(backend: FileBackend) -> None:
    source = await backend.put("folder/object", BytesBody(DATA))
    with pytest.raises(UnsupportedError):
        await backend.copy(source, "folder")
    with pytest.raises(UnsupportedError):
        await backend.copy(source, "../out")
