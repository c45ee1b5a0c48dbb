"""The file backend keeps every law, and those of files: keys, links, folders, checksums, errors."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from ackpt.backends import open_backend
from ackpt.backends._file import locks
from ackpt.backends._file.checksum import crc32c_of_parts
from ackpt.backends._file.root import Root
from ackpt.backends.base import IfAbsent, IfVersion
from ackpt.backends.file import FileBackend
from ackpt.errors import (
    AlreadyExistsError,
    BucketNotFoundError,
    NotFoundError,
    PermissionDeniedError,
    StorageError,
    StorageFullError,
    TransientError,
    UnsupportedError,
)
from ackpt.testing import BackendConformance
from ackpt.testing.bodies import StallingBody
from ackpt.testing.law import MakeBackend, cancelled_halfway, read
from ackpt.transfer.body import BytesBody

HOME = ".ackpt-tmp"


class TestFile(BackendConformance):
    @pytest.fixture
    def make_backend(self, tmp_path: Path) -> MakeBackend:
        return lambda: open_backend(tmp_path / "not" / "there yet")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def backend(root: Path) -> FileBackend:
    return FileBackend(root)


async def put(backend: FileBackend, key: str, data: bytes = b"bytes") -> None:
    await backend.put(key, BytesBody(data))


async def keys(backend: FileBackend) -> list[str]:
    return sorted([info.key async for info in backend.list()])


# Keys and what is below the root


async def test_an_object_is_the_file_of_its_key(root: Path, backend: FileBackend) -> None:
    await put(backend, "folder/model.ckpt-1000.index", b"abc")
    assert (root / "folder" / "model.ckpt-1000.index").read_bytes() == b"abc"
    assert sorted(path.name for path in root.iterdir()) == [HOME, "folder"]


async def test_objects_have_the_mode_that_the_umask_says(root: Path, backend: FileBackend) -> None:
    before = os.umask(0o027)
    try:
        await put(backend, "object")
    finally:
        os.umask(before)
    assert stat.S_IMODE((root / "object").stat().st_mode) == 0o640


@pytest.mark.parametrize(
    "key", ["../outside", "a/../../outside", "/etc/outside", "a//b", ".", f"{HOME}/lock", "a\0b"]
)
async def test_a_key_that_is_no_path_below_the_root_is_refused(
    root: Path, backend: FileBackend, key: str
) -> None:
    root.mkdir()
    (root.parent / "outside").write_bytes(b"not ours")
    with pytest.raises(UnsupportedError):
        await put(backend, key)
    with pytest.raises(UnsupportedError):
        await read(backend, key)
    with pytest.raises(UnsupportedError):
        await backend.head(key)
    with pytest.raises(UnsupportedError):
        await backend.delete(key)
    with pytest.raises(UnsupportedError):
        await backend.create_upload(key)
    assert (root.parent / "outside").read_bytes() == b"not ours"
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("target", ["outside", "root/inside"])
async def test_links_below_the_root_are_not_followed(root: Path, backend: FileBackend, target: str) -> None:
    await put(backend, "inside/secret", b"secret")
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (root / "link").symlink_to(root.parent / target)
    (root / "file").symlink_to(root.parent / target / "secret")
    with pytest.raises(PermissionDeniedError, match="symbolic link"):
        await read(backend, "link/secret")
    with pytest.raises(PermissionDeniedError, match="symbolic link"):
        await put(backend, "link/secret", b"changed")
    with pytest.raises(PermissionDeniedError, match="symbolic link"):
        await backend.delete("link/secret")
    with pytest.raises(PermissionDeniedError, match="symbolic link"):
        await read(backend, "file")
    assert await keys(backend) == ["inside/secret"]
    await put(backend, "file", b"changed")
    assert (root / "file").read_bytes() == b"changed"
    assert not (root / "file").is_symlink()
    assert (outside / "secret").read_bytes() == (root / "inside/secret").read_bytes() == b"secret"


async def test_the_root_itself_may_be_a_link(tmp_path: Path, root: Path) -> None:
    root.mkdir()
    (tmp_path / "link").symlink_to(root)
    await put(FileBackend(tmp_path / "link"), "object")
    assert (root / "object").exists()


@pytest.mark.parametrize("where", ["root", "above"])
async def test_a_root_that_is_a_file_is_an_error_of_its_own(root: Path, where: str) -> None:
    root.write_bytes(b"a file")
    backend = FileBackend(root if where == "root" else root / "below")
    for attempt in [
        put(backend, "object"),
        read(backend, "object"),
        backend.head("object"),
        keys(backend),
        backend.create_upload("object"),
    ]:
        with pytest.raises(BucketNotFoundError, match="not a folder"):
            await attempt
    assert root.read_bytes() == b"a file"


async def test_reading_makes_no_folder(root: Path, backend: FileBackend) -> None:
    assert await keys(backend) == []
    assert [info async for info in backend.list_uploads()] == []
    with pytest.raises(NotFoundError):
        await backend.head("object")
    await backend.delete("object")
    with pytest.raises(NotFoundError):
        await backend.open_upload("object", "0" * 32)
    assert not root.exists()


async def test_a_key_cannot_be_a_file_and_a_folder(root: Path, backend: FileBackend) -> None:
    await put(backend, "a")
    with pytest.raises(UnsupportedError, match="'a' is one already, not a folder"):
        await put(backend, "a/b")
    await put(backend, "c/d")
    with pytest.raises(UnsupportedError, match="there is a folder of that name"):
        await put(backend, "c")
    with pytest.raises(UnsupportedError):
        await backend.put("c", BytesBody(b""), condition=IfAbsent())
    assert await keys(backend) == ["a", "c/d"]


async def test_delete_removes_the_folders_it_empties_but_not_the_root(
    root: Path, backend: FileBackend
) -> None:
    await put(backend, "a/b/c")
    await put(backend, "a/d")
    await backend.delete("a/b/c")
    assert not (root / "a" / "b").exists()
    await backend.delete("a/d")
    assert [path.name for path in root.iterdir()] == [HOME]
    await put(backend, "a", b"a file now")
    assert await keys(backend) == ["a"]


async def test_delete_of_a_folder_deletes_nothing(root: Path, backend: FileBackend) -> None:
    await put(backend, "folder/object")
    await backend.delete("folder")
    assert await keys(backend) == ["folder/object"]


async def test_only_regular_files_are_objects(root: Path, backend: FileBackend) -> None:
    await put(backend, "object")
    await put(FileBackend(root / "nested"), "object")
    os.mkfifo(root / "pipe")
    (root / "empty folder").mkdir()
    (root / "dangling").symlink_to("nowhere")
    (root / os.fsdecode(b"\xff")).write_bytes(b"not text")
    assert await keys(backend) == ["nested/object", "object"]
    for key in ["pipe", "empty folder"]:
        with pytest.raises(NotFoundError):
            await backend.head(key)


async def test_a_segment_that_is_too_long_is_refused(backend: FileBackend) -> None:
    with pytest.raises(UnsupportedError, match="255 bytes"):
        await put(backend, "x" * 256)


# Versions and checksums


async def test_an_object_changed_in_place_has_another_version_and_no_checksum(
    root: Path, backend: FileBackend
) -> None:
    await put(backend, "object", b"bytes")
    before = await backend.head("object")
    assert before.crc32c == crc32c(b"bytes")
    (root / "object").write_bytes(b"other")
    after = await backend.head("object")
    assert after.version != before.version
    assert after.crc32c is None
    assert [info.crc32c async for info in backend.list()] == [None]


async def test_foreign_files_are_objects_without_a_checksum(root: Path, backend: FileBackend) -> None:
    root.mkdir()
    (root / "checkpoint").write_bytes(b"written by TensorFlow")
    info = await backend.head("checkpoint")
    assert info.crc32c is None
    await backend.put("checkpoint", BytesBody(b"ours"), condition=IfVersion(info.version))
    assert (await backend.head("checkpoint")).crc32c == crc32c(b"ours")


@pytest.mark.parametrize("kept", [b"", b"garbage", b"1 2 zzzzzzzz", b"\xff" * 30])
async def test_a_damaged_attribute_is_no_checksum(root: Path, backend: FileBackend, kept: bytes) -> None:
    await put(backend, "object")
    os.setxattr(root / "object", "user.ackpt.crc32c", kept)
    assert (await backend.head("object")).crc32c is None


async def test_without_extended_attributes_no_checksum_is_kept(
    backend: FileBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "not supported")

    monkeypatch.setattr(os, "setxattr", refuse)
    info = await backend.put("object", BytesBody(b"bytes"))
    assert info.crc32c == crc32c(b"bytes")
    assert (await backend.head("object")).crc32c is None


@given(st.lists(st.binary(max_size=300), max_size=6))
def test_checksums_of_parts_make_that_of_the_whole(parts: list[bytes]) -> None:
    assert crc32c_of_parts((crc32c(part), len(part)) for part in parts) == crc32c(b"".join(parts))


async def test_a_file_cut_off_while_it_is_read_is_an_error(root: Path, backend: FileBackend) -> None:
    await put(backend, "object", bytes(1_000_000))
    blocks = backend.get("object")
    await anext(blocks)
    os.truncate(root / "object", 200_000)
    with pytest.raises(StorageError, match="cut off at byte 200000 of 1000000"):
        [block async for block in blocks]


# Conditions and locks


async def test_create_only_works_without_hard_links(
    backend: FileBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    await backend.put("object", BytesBody(b"first"), condition=IfAbsent())
    with pytest.raises(AlreadyExistsError):
        await backend.put("object", BytesBody(b"second"), condition=IfAbsent())
    assert await read(backend, "object") == b"first"


async def test_create_only_does_not_overwrite_what_another_program_makes_meanwhile(
    root: Path, backend: FileBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def blind(*_: object) -> None:
        (root / "object").write_bytes(b"theirs")

    monkeypatch.setattr(Root, "check", blind)
    with pytest.raises(AlreadyExistsError):
        await backend.put("object", BytesBody(b"ours"), condition=IfAbsent())
    assert (root / "object").read_bytes() == b"theirs"


async def test_a_lock_that_is_never_let_go_is_a_transient_error(
    root: Path, backend: FileBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(backend, "object", b"old")
    monkeypatch.setattr(locks, "LOCK_SECS", 0.0)
    with Root(str(root)).lock():
        with pytest.raises(TransientError, match="another writer has held the lock"):
            await put(backend, "object", b"new")
        with pytest.raises(TransientError):
            await backend.delete("object")
        assert await read(backend, "object") == b"old"
    await put(backend, "object", b"new")


# Errors of the system


@pytest.fixture
def powerless() -> Iterator[None]:
    """Be nobody for a while, if this is root, whom permissions do not stop."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


async def test_a_folder_that_may_not_be_written_is_permission_denied(
    tmp_path_factory: pytest.TempPathFactory, powerless: None
) -> None:
    backend = FileBackend("/proc/ackpt-cannot-be-here")
    with pytest.raises((PermissionDeniedError, NotFoundError)):
        await put(backend, "object")
    with pytest.raises(PermissionDeniedError, match="allow this user to read and write there"):
        await put(FileBackend("/usr/ackpt-cannot-be-here"), "object")


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, StorageFullError),
        (errno.EDQUOT, StorageFullError),
        (errno.EROFS, PermissionDeniedError),
        (errno.EMFILE, TransientError),
        (errno.EIO, StorageError),
    ],
)
@pytest.mark.parametrize("call", ["pwrite", "fsync", "rename", "open"])
async def test_an_error_of_the_system_is_translated_and_stores_nothing(
    root: Path,
    backend: FileBackend,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    kind: type[StorageError],
    call: str,
) -> None:
    await put(backend, "object", b"old")

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(kind) as caught:
            await put(backend, "object", b"new")
    assert type(caught.value) is kind
    assert caught.value.key == "object"
    assert isinstance(caught.value.__cause__, OSError)
    assert str(root) in str(caught.value)
    assert await read(backend, "object") == b"old"
    assert os.listdir(root / HOME) == ["lock"]


# What stays behind


async def test_nothing_stays_behind_but_the_lock(root: Path, backend: FileBackend) -> None:
    await put(backend, "object")
    with pytest.raises(AlreadyExistsError):
        await backend.put("object", BytesBody(b""), condition=IfAbsent())
    await backend.put("other", BytesBody(b""), condition=IfAbsent())
    body = StallingBody(bytes(3_000_000), after=2_000_000)
    await cancelled_halfway(backend.put("third", body), body.reached)
    upload = await backend.create_upload("fourth")
    await upload.complete([await upload.put_part(1, BytesBody(b"part"))])
    upload = await backend.create_upload("fifth")
    body = StallingBody(bytes(3_000_000), after=2_000_000)
    await cancelled_halfway(upload.put_part(1, body), body.reached)
    await upload.abort()
    assert os.listdir(root / HOME) == ["lock"]
    assert await keys(backend) == ["fourth", "object", "other"]


async def test_no_descriptor_stays_open(root: Path, backend: FileBackend) -> None:
    async def use() -> None:
        await put(backend, "folder/object", bytes(300_000))
        await read(backend, "folder/object")
        blocks = backend.get("folder/object")
        await anext(blocks)
        await blocks.aclose()
        infos = backend.list()
        await anext(infos)
        await infos.aclose()
        with pytest.raises(NotFoundError):
            await backend.head("absent")
        upload = await backend.create_upload("object")
        receipts = [await upload.put_part(1, BytesBody(b"x")), await upload.put_part(2, BytesBody(b"xy"))]
        await (await backend.open_upload("object", upload.id)).complete(receipts)
        body = StallingBody(bytes(3_000_000))
        await cancelled_halfway(backend.put("third", body), body.reached)
        await backend.delete("object")

    await use()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        await use()
    assert len(os.listdir("/proc/self/fd")) == before
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_put_cancelled_while_it_syncs_shows_nothing_and_ends_clean(
    root: Path, backend: FileBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(backend, "object", b"old")
    loop, syncing, go_on = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    fsync = os.fsync

    def slow(descriptor: int) -> None:
        loop.call_soon_threadsafe(syncing.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(timeout=30)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    task = asyncio.create_task(put(backend, "object", b"new"))
    await syncing.wait()
    task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.wait({task})
    assert task.cancelled()
    assert await read(backend, "object") == b"old"
    assert os.listdir(root / HOME) == ["lock"]
