"""The journal: what was recorded can be read by a later process, and nothing damaged is believed."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ackpt.checkpoint.journal import Journal, JournalState, read_journal
from ackpt.checkpoint.staged import StagedFile
from ackpt.errors import StagingError
from tests.checkpoint.manifests import CLAIM


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    (folder / "ckpt-5").mkdir(parents=True)
    return folder


def staged(files: Path, key: str, data: bytes = b"data") -> StagedFile:
    (files / key).write_bytes(data)
    return StagedFile(key=key, path=files / key, size=len(data))


def write(tmp_path: Path, files: Path) -> Path:
    """Write a whole journal: two files, an upload, staged."""
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.begin(step=5, prefix="ckpt-5", metrics={"loss": 0.5}, claim=CLAIM)
    journal.add_file(staged(files, "ckpt-5.data"))
    journal.add_upload("ckpt-5.data", "u1")
    journal.add_file(staged(files, "ckpt-5/nested"))
    journal.mark_staged(files)
    journal.close()
    return path


def test_a_later_process_reads_what_was_recorded(tmp_path: Path, files: Path) -> None:
    assert read_journal(write(tmp_path, files), files) == JournalState(
        step=5,
        prefix="ckpt-5",
        metrics={"loss": 0.5},
        files=(
            StagedFile(key="ckpt-5.data", path=files / "ckpt-5.data", size=4, crc32c=0xAED87DD1),
            StagedFile(key="ckpt-5/nested", path=files / "ckpt-5/nested", size=4, crc32c=0xAED87DD1),
        ),
        uploads={"ckpt-5.data": "u1"},
        claim=CLAIM,
        staged=True,
    )


def test_the_journal_is_readable_by_its_owner_alone(tmp_path: Path, files: Path) -> None:
    assert write(tmp_path, files).stat().st_mode & 0o777 == 0o600


def test_every_heir_and_the_last_upload_of_a_key_count(tmp_path: Path, files: Path) -> None:
    path = write(tmp_path, files)
    journal = Journal(path)
    journal.add_heir("w2")
    journal.add_heir("w3")
    journal.add_upload("ckpt-5.data", "u2")
    journal.close()
    journal.close()
    state = read_journal(path, files)
    assert state is not None
    assert (state.claim, state.heirs) == (CLAIM, {"w2", "w3"})
    assert (state.uploads, state.staged) == ({"ckpt-5.data": "u2"}, True)


def test_every_torn_end_reads_as_the_records_before_it(tmp_path: Path, files: Path) -> None:
    path = write(tmp_path, files)
    whole = path.read_bytes()
    ends = [at + 1 for at, byte in enumerate(whole) if byte == ord("\n")]
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        state = read_journal(path, files)
        complete = sum(end <= length for end in ends)
        if not complete:
            assert state is None
        else:
            assert state is not None
            assert not state.staged
            assert (len(state.files), len(state.uploads)) == {
                1: (0, 0),
                2: (0, 0),
                3: (1, 0),
                4: (1, 1),
                5: (2, 1),
            }[complete]


def test_a_process_that_goes_on_after_a_torn_end_does_not_spoil_what_it_adds(
    tmp_path: Path, files: Path
) -> None:
    """Real event: killed while an upload was being recorded; the next process records itself."""
    path = write(tmp_path, files)
    with path.open("ab") as file:
        file.write(b'{"record": "upload", "key": "ckp')
    journal = Journal(path)
    journal.add_heir("w2")
    journal.close()
    state = read_journal(path, files)
    assert state is not None
    assert state.staged
    assert state.heirs == {"w2"}


def test_a_record_that_the_disk_had_no_room_for_does_not_spoil_the_next(tmp_path: Path, files: Path) -> None:
    path = write(tmp_path, files)
    journal = Journal(path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            journal.add_upload("ckpt-5/nested", "u2")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    journal.add_heir("w2")
    journal.close()
    state = read_journal(path, files)
    assert state is not None
    assert state.staged
    assert (state.heirs, state.uploads) == ({"w2"}, {"ckpt-5.data": "u1"})


def test_without_a_journal_there_is_nothing(tmp_path: Path, files: Path) -> None:
    assert read_journal(tmp_path / "journal.jsonl", files) is None


def truncated(files: Path) -> None:
    (files / "ckpt-5.data").write_bytes(b"dat")


def grown(files: Path) -> None:
    (files / "ckpt-5.data").write_bytes(b"data+")


def gone(files: Path) -> None:
    (files / "ckpt-5.data").unlink()


def link(files: Path) -> None:
    gone(files)
    (files / "elsewhere").write_bytes(b"data")
    (files / "ckpt-5.data").symlink_to(files / "elsewhere")


def linked_folder(files: Path) -> None:
    (files / "ckpt-5").rename(files / "elsewhere")
    (files / "ckpt-5").symlink_to(files / "elsewhere")


def folder(files: Path) -> None:
    gone(files)
    (files / "ckpt-5.data").mkdir()


@pytest.mark.parametrize("damage", [truncated, grown, gone, link, linked_folder, folder])
def test_a_file_that_is_not_as_it_was_recorded_makes_the_save_count_as_not_staged(
    tmp_path: Path, files: Path, damage: Callable[[Path], None]
) -> None:
    path = write(tmp_path, files)
    damage(files)
    state = read_journal(path, files)
    assert state is not None
    assert not state.staged
    assert state.uploads.keys() <= {"ckpt-5.data"}


def test_a_journal_that_cannot_be_read_just_now_is_not_one_that_says_nothing(
    tmp_path: Path, files: Path
) -> None:
    """Real event: a process without a free file descriptor took staged saves for empty, and removed them."""
    path = write(tmp_path, files)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open("/dev/null", os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
    try:
        with pytest.raises(StagingError, match="it was left as it is: try again"):
            read_journal(path, files)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    state = read_journal(path, files)
    assert state is not None
    assert state.staged


def linked_journal(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder_of_its_name(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [linked_journal, pipe, folder_of_its_name])
def test_a_journal_that_is_no_plain_file_says_nothing(
    tmp_path: Path, files: Path, damage: Callable[[Path], None]
) -> None:
    path = write(tmp_path, files)
    damage(path)
    assert read_journal(path, files) is None


def test_a_journal_is_never_written_through_a_link(tmp_path: Path, files: Path) -> None:
    path = write(tmp_path, files)
    linked_journal(path)
    path.with_name("elsewhere").write_text("a file of somebody's, without an end of line")
    with pytest.raises(OSError, match="symbolic links"):
        Journal(path)
    assert path.with_name("elsewhere").read_text().endswith("line")


def test_files_behind_a_link_count_as_not_staged(tmp_path: Path, files: Path) -> None:
    path = write(tmp_path, files)
    files.rename(tmp_path / "elsewhere")
    files.symlink_to(tmp_path / "elsewhere")
    state = read_journal(path, files)
    assert state is not None
    assert not state.staged


BEGIN = {"record": "begin", "version": 1, "step": 5, "prefix": "ckpt-5", "metrics": {}}
STAGED = {"record": "staged"}


@pytest.mark.parametrize(
    "records",
    [
        [{**BEGIN, "version": 2}, STAGED],
        [{**BEGIN, "prefix": "../ckpt-5"}, STAGED],
        [{**BEGIN, "prefix": "ckpt-6"}, STAGED],
        [{**BEGIN, "metrics": "text"}, STAGED],
        [{**BEGIN, "metrics": {"loss": "text"}}, STAGED],
        [STAGED],
        [[], STAGED],
        [17],
    ],
)
def test_a_first_record_that_cannot_be_believed_is_as_none(
    tmp_path: Path, files: Path, records: list[object]
) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in records))
    assert read_journal(path, files) is None


@pytest.mark.parametrize(
    "record",
    [
        {"record": "file", "key": "ckpt-5/../../journal.jsonl", "size": 0},
        {"record": "file", "key": "/etc/passwd", "size": 0},
        {"record": "file", "key": "ckpt-4.data", "size": 4},
        {"record": "file", "key": "ckpt-5.data", "size": "4"},
        {"record": "file", "key": 5, "size": 4},
        {"record": "upload", "key": "other-run/x", "id": "u"},
        {"record": "upload", "key": "ckpt-5.data", "id": 5},
        {"record": "claim", "run": "r"},
        {"record": "from the future"},
        {},
        [],
        "text",
    ],
)
def test_a_record_that_cannot_be_believed_makes_the_save_count_as_not_staged(
    tmp_path: Path, files: Path, record: object
) -> None:
    path = write(tmp_path, files)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:-1], json.dumps(record).encode() + b"\n", lines[-1]]))
    state = read_journal(path, files)
    assert state is not None
    assert not state.staged
    assert state.uploads == {"ckpt-5.data": "u1"}


@settings(deadline=None)  # each example is synced to the disk, which may be busy
@given(st.binary(min_size=1, max_size=30), st.integers(0, 600))
def test_no_damage_makes_reading_raise_or_name_anything_outside(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    files = folder / "files"
    (files / "ckpt-5").mkdir(parents=True)
    path = write(folder, files)
    whole = path.read_bytes()
    at = min(at, len(whole) - 1)
    path.write_bytes(whole[:at] + noise + whole[at + len(noise) :])
    state = read_journal(path, files)
    if state is not None:
        assert all(os.path.realpath(each.path).startswith(f"{files}/ckpt-5") for each in state.files)
        assert all(key.startswith("ckpt-5") for key in state.uploads)


def test_a_file_is_on_the_disk_before_its_record_and_all_names_before_the_last(
    tmp_path: Path, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a crash of the machine may reorder is held apart by an fsync."""
    order: list[str] = []
    real_fsync, real_write = os.fsync, os.write

    def fsync(fd: int) -> None:
        order.append("fsync " + os.path.relpath(os.readlink(f"/proc/self/fd/{fd}"), tmp_path))
        real_fsync(fd)

    def write_(fd: int, data: bytes) -> int:
        record = json.loads(data)
        order.append(f"record {record['record']}")
        return real_write(fd, data)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "write", write_)
    write(tmp_path, files)
    mine = "fsync journal.jsonl"
    assert order[:4] == ["record begin", mine, "record claim", mine]
    for key in ("ckpt-5.data", "ckpt-5/nested"):
        at = order.index(f"fsync files/{key}")
        assert order[at + 1 : at + 3] == ["record file", mine]
    assert order[-2:] == ["record staged", mine]
    last = order[order.index("fsync files/ckpt-5/nested") : -2]
    # the names: of the files, of the folder they are in, and of the save itself
    assert {"fsync files/ckpt-5", "fsync files", "fsync .", "fsync .."} <= set(last)
