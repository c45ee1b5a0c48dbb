"""Durability of the file backend: the order of its system calls, killed processes, full disks, races."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ackpt.backends.base import IfAbsent
from ackpt.backends.file import FileBackend
from ackpt.errors import StorageError
from ackpt.testing.law import read
from ackpt.transfer.body import BytesBody

from .processes import child, hear, tell

HOME = ".ackpt-tmp"


class Calls:
    """Record what is done to files and folders, in order; the calls themselves are done."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.made: list[str] = []
        self._root = root
        for name in ("pwrite", "fsync", "utime", "setxattr"):
            self._record(patch, name, lambda name, args: f"{name} {self._kind(args[0])}")
        for name in ("rename", "link", "mkdir", "unlink"):
            self._record(patch, name, lambda name, args: f"{name} {os.path.basename(str(args[-1]))}")

    def _record(self, patch: pytest.MonkeyPatch, name: str, text) -> None:  # type: ignore[no-untyped-def]
        real = getattr(os, name)

        def call(*args: object, **kwargs: object) -> object:
            result = real(*args, **kwargs)
            self.made.append(text(name, args))
            return result

        patch.setattr(os, name, call)

    def _kind(self, file: object) -> str:
        path = Path(os.readlink(f"/proc/self/fd/{file}"))
        if path.is_dir():
            return f"folder {os.path.relpath(path, self._root)}"
        return "file"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def calls(root: Path, monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(root, monkeypatch)


async def test_a_put_is_synced_before_its_name_and_its_name_before_it_returns(
    root: Path, calls: Calls
) -> None:
    backend = FileBackend(root)
    await backend.put("first", BytesBody(b""))
    calls.made.clear()
    await backend.put("a/object", BytesBody(b"bytes"))
    assert calls.made == [
        "pwrite file",
        "utime file",
        "setxattr file",
        "fsync file",
        "mkdir a",
        "rename object",
        "fsync folder a",
        "fsync folder .",
    ]


async def test_a_create_only_put_links_and_syncs_in_the_same_order(root: Path, calls: Calls) -> None:
    backend = FileBackend(root)
    await backend.put("first", BytesBody(b""))
    calls.made.clear()
    await backend.put("object", BytesBody(b"bytes"), condition=IfAbsent())
    made = [call for call in calls.made if not call.startswith("unlink")]
    assert made == [
        "pwrite file",
        "utime file",
        "setxattr file",
        "fsync file",
        "link object",
        "fsync folder .",
    ]


async def test_the_root_is_durable_with_the_first_object(root: Path, calls: Calls) -> None:
    await FileBackend(root / "run").put("object", BytesBody(b"bytes"))
    made = [call for call in calls.made if call.startswith(("mkdir", "fsync folder"))]
    assert made == [
        "mkdir root",
        "fsync folder ..",
        "mkdir run",
        "fsync folder .",
        f"mkdir {HOME}",
        "fsync folder run",
        "fsync folder run",
    ]


async def test_a_delete_is_durable(root: Path, calls: Calls) -> None:
    backend = FileBackend(root)
    await backend.put("a/b/object", BytesBody(b"bytes"))
    calls.made.clear()
    await backend.delete("a/b/object")
    assert calls.made == ["unlink object", "fsync folder ."]


async def test_a_completion_renames_the_file_that_the_parts_were_written_to(root: Path, calls: Calls) -> None:
    backend = FileBackend(root)
    upload = await backend.create_upload("object")
    receipts = [
        await upload.put_part(number, BytesBody(b"x" * size)) for number, size in [(2, 9), (1, 9), (3, 4)]
    ]
    (data,) = (root / HOME).glob("upload-*/data")
    inode = data.stat().st_ino
    calls.made.clear()
    await upload.complete(receipts)
    assert (root / "object").stat().st_ino == inode
    made = [call for call in calls.made if not call.startswith("unlink")]
    assert made == ["utime file", "setxattr file", "fsync file", "rename object", "fsync folder ."]


@pytest.mark.parametrize("call", ["rename", "fsync"])
async def test_a_completion_that_fails_can_be_done_again(
    root: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    backend = FileBackend(root)
    upload = await backend.create_upload("object")
    receipts = [await upload.put_part(number, BytesBody(b"%d" % number * 9)) for number in (1, 2)]

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(StorageError):
            await upload.complete(receipts)
    assert not (root / "object").exists()
    await upload.complete(receipts)
    assert (root / "object").read_bytes() == b"1" * 9 + b"2" * 9


# Killed processes


async def test_a_put_killed_in_the_middle_shows_nothing_and_is_swept_by_the_next_process(root: Path) -> None:
    await FileBackend(root).put("object", BytesBody(b"old"))
    with child(
        root,
        """
        body = StallingBody(bytes(8_000_000), after=6_000_000)
        task = asyncio.ensure_future(backend.put("object", body))
        await body.reached.wait()
        say("reached")
        await task
        """,
    ) as process:
        assert hear(process) == "reached"
        (temporary,) = (root / HOME).glob("put-*")
        backend = FileBackend(root)
        await backend.put("other", BytesBody(b"while it lives"))
        assert temporary.exists(), "the file of a living writer was removed"
        os.kill(process.pid, signal.SIGKILL)
        process.wait(timeout=30)
    backend = FileBackend(root)
    assert [info.key async for info in backend.list()] == ["object", "other"] or sorted(
        [info.key async for info in backend.list()]
    ) == ["object", "other"]
    assert await read(backend, "object") == b"old"
    await backend.put("other", BytesBody(b"after its death"))
    assert os.listdir(root / HOME) == ["lock"]


async def test_a_process_killed_with_the_lock_held_blocks_nobody(root: Path) -> None:
    with child(
        root,
        """
        os.link = os.rename = lambda *args, **kwargs: (say("locked"), signal.pause())
        await backend.put("object", BytesBody(b"never"))
        """,
    ) as process:
        assert hear(process) == "locked"
        os.kill(process.pid, signal.SIGKILL)
        process.wait(timeout=30)
    await FileBackend(root).put("object", BytesBody(b"bytes"))
    assert (root / "object").read_bytes() == b"bytes"


async def test_an_upload_killed_in_the_middle_goes_on_in_place(root: Path) -> None:
    with child(
        root,
        """
        upload = await backend.create_upload("object")
        for number in (1, 2):
            await upload.put_part(number, BytesBody(b"%d" % number * 1_000_000))
        body = StallingBody(b"x" * 1_000_000, after=900_000)
        task = asyncio.ensure_future(upload.put_part(3, body))
        await body.reached.wait()
        say(upload.id)
        await task
        """,
    ) as process:
        upload_id = hear(process)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(timeout=30)
    backend = FileBackend(root)
    assert [(info.key, info.upload_id) async for info in backend.list_uploads()] == [("object", upload_id)]
    upload = await backend.open_upload("object", upload_id)
    receipts = list(await upload.parts())
    assert [receipt.number for receipt in receipts] == [1, 2]
    (data,) = (root / HOME).glob("upload-*/data")
    inode = data.stat().st_ino
    for number in (3, 4):
        receipts.append(await upload.put_part(number, BytesBody(b"%d" % number * 1_000_000)))
    await upload.complete(receipts)
    assert (root / "object").read_bytes() == b"".join(b"%d" % number * 1_000_000 for number in (1, 2, 3, 4))
    assert (root / "object").stat().st_ino == inode, "it was copied"
    assert os.listdir(root / HOME) == ["lock"]


async def test_a_part_whose_slot_a_living_process_holds_goes_elsewhere(root: Path) -> None:
    with child(
        root,
        """
        upload = await backend.create_upload("object")
        await upload.put_part(1, BytesBody(b"1" * 1_000_000))
        body = StallingBody(b"x" * 1_000_000, after=900_000)
        task = asyncio.ensure_future(upload.put_part(2, body))
        await body.reached.wait()
        say(upload.id)
        await task
        """,
    ) as process:
        backend = FileBackend(root)
        upload = await backend.open_upload("object", hear(process))
        (first,) = await upload.parts()
        second = await upload.put_part(2, BytesBody(b"2" * 1_000_000))
        await upload.complete([first, second])
    assert (root / "object").read_bytes() == b"1" * 1_000_000 + b"2" * 1_000_000


# What a crash of the machine may leave


async def test_a_part_that_did_not_reach_the_disk_is_not_told(root: Path) -> None:
    backend = FileBackend(root)
    upload = await backend.create_upload("object")
    receipts = [await upload.put_part(number, BytesBody(b"%d" % number * 1000)) for number in (1, 2, 3)]
    (data,) = (root / HOME).glob("upload-*/data")
    with open(data, "r+b") as file:  # noqa: ASYNC230
        file.seek(1500)
        file.write(b"\0")
        file.truncate(2999)
    upload = await FileBackend(root).open_upload("object", upload.id)
    assert [part.number for part in await upload.parts()] == [1]
    with pytest.raises(StorageError, match="part 2 of upload"):
        await upload.complete(receipts)
    receipts[1:] = [await upload.put_part(number, BytesBody(b"%d" % number * 1000)) for number in (2, 3)]
    await upload.complete(receipts)
    assert (root / "object").read_bytes() == b"1" * 1000 + b"2" * 1000 + b"3" * 1000


async def test_a_torn_line_of_the_journal_is_ended_and_passed_over(root: Path) -> None:
    backend = FileBackend(root)
    upload = await backend.create_upload("object")
    await upload.put_part(1, BytesBody(b"1"))
    (journal,) = (root / HOME).glob("upload-*/journal")
    with open(journal, "ab") as file:  # noqa: ASYNC230
        file.write(b'{"kind":"part","number":2,"si')
    upload = await FileBackend(root).open_upload("object", upload.id)
    await upload.put_part(2, BytesBody(b"2"))
    upload = await FileBackend(root).open_upload("object", upload.id)
    parts = await upload.parts()
    assert [part.number for part in parts] == [1, 2]
    await upload.complete(parts)
    assert (root / "object").read_bytes() == b"12"


async def test_an_upload_killed_between_rename_and_clean_up_is_done(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = FileBackend(root)
    upload = await backend.create_upload("object")
    receipts = [await upload.put_part(1, BytesBody(b"bytes"))]
    (folder,) = (root / HOME).glob("upload-*")
    shutil.copytree(folder, root.parent / "copy")
    await upload.complete(receipts)
    shutil.copytree(root.parent / "copy", folder)
    (folder / "data").unlink()
    from ackpt.errors import NotFoundError

    with pytest.raises(NotFoundError):
        await backend.open_upload("object", upload.id)
    assert not folder.exists()


async def test_the_remains_of_an_upload_without_a_journal_are_swept(root: Path) -> None:
    backend = FileBackend(root)
    upload = await backend.create_upload("object")
    await upload.put_part(1, BytesBody(b"bytes"))
    open_one = await backend.create_upload("other")
    (root / HOME / f"upload-{upload.id}" / "journal").unlink()
    backend = FileBackend(root)
    assert [info.upload_id async for info in backend.list_uploads()] == [open_one.id]
    await backend.put("third", BytesBody(b""))
    assert sorted(os.listdir(root / HOME)) == ["lock", f"upload-{open_one.id}"]


@pytest.mark.parametrize("upload_id", ["../../outside", "", "x" * 32, "0" * 32])
async def test_an_upload_id_is_never_a_path(root: Path, upload_id: str) -> None:
    from ackpt.errors import NotFoundError

    backend = FileBackend(root)
    await backend.put("object", BytesBody(b""))
    with pytest.raises(NotFoundError):
        await backend.open_upload("object", upload_id)


# Full disks

FILL = """
    try:
        upload = await backend.create_upload("part")
        for attempt in (backend.put("whole", BytesBody(bytes(3_000_000))),
                        upload.put_part(1, BytesBody(bytes(3_000_000)))):
            try:
                await attempt
            except StorageFullError as error:
                say(f"full: {error.key}")
        say(f"parts: {len(await upload.parts())}")
        await upload.abort()
        await backend.put("small", BytesBody(b"there is room for this"))
        say(" ".join(sorted([info.key async for info in backend.list()])))
        say(" ".join(os.listdir(Path(root) / ".ackpt-tmp")))
    except BaseException as error:
        say(repr(error))
"""


def check_full(process) -> None:  # type: ignore[no-untyped-def]
    assert [hear(process) for _ in range(5)] == ["full: whole", "full: part", "parts: 0", "old small", "lock"]


async def test_a_limit_on_the_size_of_files_is_storage_full_and_leaves_nothing(root: Path) -> None:
    await FileBackend(root).put("old", BytesBody(b"old"))
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))\n"
    with child(
        root, "import resource\n" + limit + "\n".join(line[4:] for line in FILL.splitlines())
    ) as process:
        check_full(process)
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 2_000_000


def private_mounts() -> list[str]:
    """Return what runs a command with mounts of its own, or skip where that is not allowed."""
    wrapper = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    if shutil.which("unshare") is None or os.system(f"{' '.join(wrapper)} true 2>/dev/null"):
        pytest.skip("this user may not make a mount namespace")
    return wrapper


async def test_a_full_disk_is_storage_full_and_leaves_nothing(root: Path) -> None:
    wrapper = private_mounts()
    root.mkdir()
    mount = 'mount -t tmpfs -o size=2m tmpfs "$0" && echo old > "$0/old" && exec "$@"'
    code = "\n".join(line[4:] for line in FILL.splitlines())
    with child(root, code, *wrapper, "sh", "-c", mount, str(root)) as process:
        check_full(process)


# Races between processes


@pytest.fixture
def racers(root: Path) -> Iterator[list]:  # type: ignore[type-arg]
    """Start two processes that put on command: `ABSENT key` or `VERSION key version`."""
    code = """
        say("ready")
        for line in sys.stdin:
            kind, key, *version = line.split()
            condition = IfAbsent() if kind == "ABSENT" else IfVersion(version[0])
            try:
                await backend.put(key, BytesBody(str(os.getpid()).encode()), condition=condition)
                say("won")
            except ConditionFailedError as error:
                say("lost" if isinstance(error, AlreadyExistsError) or kind == "VERSION" else repr(error))
    """
    with ExitStack() as stack:
        processes = [stack.enter_context(child(root, code)) for _ in range(2)]
        for process in processes:
            assert hear(process) == "ready"
        yield processes


async def test_of_two_processes_that_create_one_wins(root: Path, racers: list) -> None:  # type: ignore[type-arg]
    for turn in range(50):
        for process in racers:
            tell(process, f"ABSENT object-{turn}")
        results = [hear(process) for process in racers]
        assert sorted(results) == ["lost", "won"]
        assert (root / f"object-{turn}").read_text() == str(racers[results.index("won")].pid)


async def test_of_two_processes_that_replace_one_wins(root: Path, racers: list) -> None:  # type: ignore[type-arg]
    backend = FileBackend(root)
    version = (await backend.put("object", BytesBody(b"start"))).version
    for _ in range(50):
        for process in racers:
            tell(process, f"VERSION object {version}")
        results = [hear(process) for process in racers]
        assert sorted(results) == ["lost", "won"]
        version = (await backend.head("object")).version
        assert (root / "object").read_text() == str(racers[results.index("won")].pid)
