"""The staging folder: one saver at a time, its owner's eyes alone, and clear errors where it is of no use."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ackpt.checkpoint.staging import ROOT_VARIABLE, StagingFolder, staging_folder
from ackpt.errors import StagingError, StagingLockedError, StorageFullError
from ackpt.url import StorageURL
from tests.checkpoint.manifests import CLAIM

HOLD = """
import os, sys, time
from pathlib import Path
from ackpt.checkpoint.staging import StagingFolder
staging = StagingFolder(Path(sys.argv[1]))
staging.lock()
{then}
print("held", flush=True)
time.sleep(60)
"""
FORK = """
child = os.fork()
if child == 0:
    os.close(1)
    time.sleep(60)
print(child, end=" ")
"""


def hold(folder: Path, root: Path, then: str = "") -> tuple[subprocess.Popen[str], list[str]]:
    """Let another process take the folder; return it and what it said."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD.format(then=then), str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
    )
    assert process.stdout is not None
    return process, process.stdout.readline().split()


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def new(staging: StagingFolder, step: int = 5) -> Path:
    save, journal = staging.new(step=step, prefix=f"ckpt-{step}", metrics={}, claim=CLAIM)
    journal.close()
    return save.folder


def test_a_folder_that_was_open_to_others_is_closed_to_them(tmp_path: Path) -> None:
    folder = tmp_path / "staging"
    folder.mkdir(mode=0o755)
    staging = StagingFolder(folder)
    staging.lock()
    made = new(staging)
    staging.unlock()
    modes = {each: each.stat().st_mode & 0o777 for each in [folder, made, *made.iterdir(), folder / "lock"]}
    assert modes == {
        folder: 0o700,
        made: 0o700,
        made / "files": 0o700,
        made / "journal.jsonl": 0o600,
        folder / "lock": 0o600,
    }


def test_a_second_saver_in_this_process_is_refused_until_the_first_lets_go(tmp_path: Path) -> None:
    first, second = StagingFolder(tmp_path / "s"), StagingFolder(tmp_path / "s")
    first.lock()
    first.lock()
    with pytest.raises(StagingLockedError, match="another saver is using the staging folder"):
        second.lock()
    first.unlock()
    first.unlock()
    second.lock()
    second.unlock()


def test_a_saver_in_another_process_is_refused_and_a_killed_one_has_let_go(
    tmp_path: Path, root: Path
) -> None:
    process, said = hold(tmp_path / "s", root)
    try:
        assert said == ["held"]
        mine = StagingFolder(tmp_path / "s")
        with pytest.raises(StagingLockedError):
            mine.lock()
    finally:
        kill(process)
    mine.lock()
    mine.unlock()


def test_a_fork_that_outlives_a_killed_saver_does_not_keep_its_folder(tmp_path: Path, root: Path) -> None:
    """Real event: data loader workers live on for a while after their trainer was killed."""
    process, said = hold(tmp_path / "s", root, FORK)
    child = int(said[0])
    try:
        assert said[1] == "held"
        kill(process)
        os.kill(child, 0)
        mine = StagingFolder(tmp_path / "s")
        mine.lock()
        mine.unlock()
    finally:
        process.kill()
        os.kill(child, signal.SIGKILL)


def test_a_fork_does_not_let_go_of_its_parents_folder(tmp_path: Path) -> None:
    mine = StagingFolder(tmp_path / "s")
    mine.lock()
    child = os.fork()
    if child == 0:
        mine.unlock()
        os._exit(0)
    os.waitpid(child, 0)
    with pytest.raises(StagingLockedError):
        StagingFolder(tmp_path / "s").lock()
    mine.unlock()


def test_a_file_in_the_place_of_the_folder_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("")
    for folder in (tmp_path / "s", tmp_path / "s" / "below"):
        with pytest.raises(StagingError, match=r"cannot be used .*\$ACKPT_STAGING_DIR"):
            StagingFolder(folder).lock()


@pytest.fixture
def read_only(tmp_path: Path) -> Path:
    """Make a folder that nobody can write to, and become somebody whom that stops."""
    folder = tmp_path / "read-only"
    folder.mkdir(mode=0o555)
    return folder


def test_a_folder_that_cannot_be_written_to_is_an_error_that_says_what_to_do(read_only: Path) -> None:
    child = os.fork()
    if child == 0:  # in a process of its own: root may write everywhere, and cannot become root again
        code = 1
        try:
            os.chmod(read_only.parent, 0o755)
            if os.geteuid() == 0:
                os.setuid(65534)
            StagingFolder(read_only / "s").lock()
        except StagingError as error:
            code = 0 if "cannot be used (Permission denied)" in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_without_room_a_save_is_refused_and_leaves_nothing_behind(small_disk: Path) -> None:
    staging = StagingFolder(small_disk / "s")
    staging.lock()
    new(staging, 4)
    with pytest.raises(OSError, match="No space left"), (small_disk / "filler").open("wb", 0) as filler:
        while True:
            filler.write(b"x" * 4096)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(StorageFullError, match=r"ckpt-5 cannot be staged in .*No space left.*make room"):
        new(staging)
    assert len(os.listdir("/proc/self/fd")) == before
    assert [save.folder.name for save in staging.saves()] == ["ckpt-4"]
    staging.unlock()


def test_two_saves_of_one_step_get_folders_of_their_own(tmp_path: Path) -> None:
    staging = StagingFolder(tmp_path)
    assert [new(staging).name for _ in range(3)] == ["ckpt-5", "ckpt-5.1", "ckpt-5.2"]
    assert {save.folder.name for save in staging.saves()} == {"ckpt-5", "ckpt-5.1", "ckpt-5.2"}


def test_saves_are_folders_and_not_links(tmp_path: Path) -> None:
    staging = StagingFolder(tmp_path / "s")
    staging.lock()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "s" / "ckpt-5").symlink_to(tmp_path / "elsewhere")
    assert staging.saves() == []
    staging.unlock()


def test_removing_a_save_again_does_nothing(tmp_path: Path) -> None:
    staging = StagingFolder(tmp_path)
    new(staging)
    (save,) = staging.saves()
    save.remove()
    save.remove()
    assert staging.saves() == []


def test_a_save_that_cannot_be_removed_is_an_error_and_is_never_resumed(tmp_path: Path) -> None:
    staging = StagingFolder(tmp_path)
    new(staging)
    (save,) = staging.saves()
    (save.files / "mount").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "ackpt-test", str(save.files / "mount")], check=True)
    try:
        with pytest.raises(StagingError, match="ckpt-5 cannot be removed .*busy.*by hand"):
            save.remove()
        assert save.read() is None
    finally:
        subprocess.run(["umount", str(save.files / "mount")], check=True)


def test_a_run_stages_below_the_folder_given_or_the_variable_or_the_users_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = StorageURL.parse("gs://bucket/run?part_size=1MiB")
    assert staging_folder(target, tmp_path).parent == tmp_path
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert staging_folder(target).parent == tmp_path / "state" / "ackpt" / "staging"
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path / "variable"))
    assert staging_folder(target).parent == tmp_path / "variable"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv(ROOT_VARIABLE)
    monkeypatch.setenv("XDG_STATE_HOME", "")
    assert staging_folder(target).parent == tmp_path / "home" / ".local" / "state" / "ackpt" / "staging"
    monkeypatch.chdir(tmp_path)
    assert staging_folder(target, "here").parent == tmp_path / "here"


def test_each_run_has_a_folder_of_its_own_whatever_its_options(tmp_path: Path) -> None:
    urls = ["gs://b/run", "gs://b/run2", "gs://b/r/un", "gs://b-r/un", "s3://b/run", "gs://b/" + "x" * 300]
    folders = [staging_folder(StorageURL.parse(url), tmp_path) for url in urls]
    assert len(set(folders)) == len(urls)
    assert all(len(os.fsencode(folder.name)) < 100 for folder in folders)
    with_options = StorageURL.parse("gs://b/run?part_size=1MiB")
    assert staging_folder(with_options, tmp_path) == folders[0]


def test_a_staging_folder_that_was_removed_is_made_and_taken_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    staging = StagingFolder(tmp_path / "s", target="memory://x")
    staging.lock()
    shutil.rmtree(tmp_path / "s")
    new(staging)
    assert staging.target == "memory://x"
    assert "was removed; it is made again" in caplog.text
    with pytest.raises(StagingLockedError):
        StagingFolder(tmp_path / "s").lock()
    staging.unlock()


def test_a_folder_that_was_removed_and_taken_by_another_saver_is_not_used_any_more(tmp_path: Path) -> None:
    """Real event: a person removes the folder of a saver that looks dead, and starts another one."""
    staging, other = StagingFolder(tmp_path / "s"), StagingFolder(tmp_path / "s")
    staging.lock()
    shutil.rmtree(tmp_path / "s")
    other.lock()
    for _ in range(2):
        with pytest.raises(StagingLockedError, match="another saver is using the staging folder"):
            new(staging)
    new(other)
    assert len(other.saves()) == 1
    assert staging.saves() == []
    other.unlock()
    new(staging)
    assert len(staging.saves()) == 2
    with pytest.raises(StagingLockedError):
        other.lock()
    staging.unlock()


def test_a_lock_that_was_removed_is_taken_again(tmp_path: Path) -> None:
    staging = StagingFolder(tmp_path / "s")
    staging.lock()
    (tmp_path / "s" / "lock").unlink()
    new(staging)
    with pytest.raises(StagingLockedError):
        StagingFolder(tmp_path / "s").lock()
    staging.unlock()
