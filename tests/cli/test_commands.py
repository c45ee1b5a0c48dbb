"""The command line: what each command prints, and the status it ends with."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from ackpt import Checkpointer, KeepAll
from ackpt.backends.file import FileBackend
from ackpt.backends.memory import MemoryBackend
from ackpt.checkpoint.intent import declare
from ackpt.checkpoint.staging import StagingFolder
from ackpt.cli.main import main
from ackpt.events import Parked
from ackpt.testing import FaultScript, On, Stall, inject
from ackpt.url import StorageURL
from tests.engine.runs import Pinned, until

Ran = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ackpt(capsys: pytest.CaptureFixture[str]) -> Ran:
    """Run a command; return its status and what it printed."""

    def run(*arguments: object) -> tuple[int, str, str]:
        status = main([str(each) for each in arguments])
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Make a run with two committed checkpoints."""

    async def make() -> None:
        async with Checkpointer(
            folder, staging_dir=tmp_path / "staging", retention=KeepAll()
        ) as checkpointer:
            for step in (5, 6):
                await (await checkpointer.submit(Pinned(step), metrics={"loss": 0.5}))

    folder = tmp_path / "run"
    asyncio.run(make())
    return folder


def test_ls_lists_what_is_committed(run: Path, ackpt: Ran) -> None:
    status, out, _ = ackpt("ls", run)
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()] == ["ckpt-5", "ckpt-6"]
    status, out, _ = ackpt("ls", "--json", run)
    first = json.loads(out.splitlines()[0])
    assert (first["step"], first["objects"], first["metrics"]) == (5, 3, {"loss": 0.5})
    assert not first["pinned"]


def test_an_empty_run_is_said_to_be_empty(tmp_path: Path, ackpt: Ran) -> None:
    (tmp_path / "empty").mkdir()
    said = f"no committed checkpoint in file://{tmp_path}/empty\n"
    assert ackpt("ls", tmp_path / "empty")[:2] == (0, said)


def test_a_run_with_nothing_to_verify_is_not_well(tmp_path: Path, ackpt: Ran) -> None:
    (tmp_path / "empty").mkdir()
    status, out, _ = ackpt("verify", tmp_path / "empty")
    assert status == 1
    assert out == f"no committed checkpoint in file://{tmp_path}/empty; nothing was verified\n"


def test_ls_tells_a_damaged_manifest(run: Path, ackpt: Ran) -> None:
    (run / "ckpt-5.manifest.json").write_text("{}")
    status, out, _ = ackpt("ls", run)
    assert status == 1
    assert out.startswith("ckpt-5  damaged: ")


def test_pull_fetches_the_newest_or_the_step_that_is_asked_for(run: Path, tmp_path: Path, ackpt: Ran) -> None:
    assert ackpt("pull", run, tmp_path / "a")[:2] == (0, f"{tmp_path}/a/ckpt-6\n")
    assert (tmp_path / "a" / "ckpt-6.index").read_bytes() == b"index of 6"
    assert ackpt("pull", run, tmp_path / "b", "--step", 5)[:2] == (0, f"{tmp_path}/b/ckpt-5\n")
    status, _, err = ackpt("pull", run, tmp_path / "c", "--step", 7)
    assert status == 1
    assert "step 7 is not committed" in err


@pytest.mark.parametrize("deep", [[], ["--deep"]])
def test_verify_tells_what_is_damaged(run: Path, ackpt: Ran, deep: list[str]) -> None:
    status, out, _ = ackpt("verify", run, *deep)
    assert status == 0
    assert [line.split()[:2] for line in out.splitlines()] == [["ckpt-6", "ok"], ["ckpt-5", "ok"]]
    (run / "ckpt-5.index").write_bytes(b"INDEX of 5")
    status, out, _ = ackpt("verify", run, "--deep")
    assert status == 1
    assert "ckpt-5  damaged" in out
    assert "ckpt-5.index" in out.splitlines()[-1]


def test_gc_lists_and_removes_only_when_told(run: Path, ackpt: Ran) -> None:
    store = FileBackend(run)
    asyncio.run(declare(store, prefix="ckpt-9", writer="w"))
    (run / "ckpt-9.index").write_bytes(b"left")
    assert ackpt("gc", run)[1] == "0 orphans, 0 B: found; nothing was deleted, --delete does it\n"
    status, out, _ = ackpt("gc", run, "--older-than", "0s")
    assert status == 0
    assert "ckpt-9.index  4 B  (ckpt-9 was never committed" in out
    assert (run / "ckpt-9.index").exists()
    status, out, _ = ackpt("gc", run, "--older-than", "0s", "--delete")
    assert out.splitlines()[-1].startswith("2 orphans, ")
    assert not (run / "ckpt-9.index").exists()
    assert (run / "ckpt-6.index").exists()


@pytest.fixture
def parked(tmp_path: Path) -> Path:
    """Leave a checkpoint of a run parked; return its staging folder."""
    staging = tmp_path / "staging"

    async def park() -> None:
        checkpointer = Checkpointer(tmp_path / "run", staging_dir=staging)
        stuck = FaultScript(On(fault=Stall(asyncio.Event()), operation="put", key="*.index"))
        checkpointer._store.backend = inject(checkpointer._store.backend, stuck)
        await checkpointer.start()
        pending = await checkpointer.submit(Pinned(7))
        await until(lambda: stuck.requests("put", "*.index"))
        await checkpointer.aclose(timeout=0.1)
        assert isinstance(await pending, Parked)

    asyncio.run(park())
    return next(staging.iterdir())


def test_resume_commits_what_is_parked_by_the_url(parked: Path, tmp_path: Path, ackpt: Ran) -> None:
    status, out, err = ackpt("resume", tmp_path / "run", "--staging-dir", tmp_path / "staging")
    assert (status, out) == (0, f"ckpt-7 committed to file://{tmp_path}/run\n")
    assert "195.3 KiB of 195.3 KiB, connections: 8" in err
    assert (tmp_path / "run" / "ckpt-7.manifest.json").exists()
    status, out, _ = ackpt("resume", tmp_path / "run", "--staging-dir", tmp_path / "staging")
    assert (status, out) == (0, f"nothing to finish for file://{tmp_path}/run\n")


def test_resume_commits_what_is_parked_by_the_staging_folder(
    parked: Path, tmp_path: Path, ackpt: Ran
) -> None:
    assert ackpt("resume", parked)[:2] == (0, f"ckpt-7 committed to file://{tmp_path}/run\n")


def test_resume_asks_for_the_url_where_the_folder_does_not_tell(
    parked: Path, tmp_path: Path, ackpt: Ran
) -> None:
    (parked / "target").unlink()
    status, _, err = ackpt("resume", parked)
    assert status == 1
    assert "name its URL with --url" in err
    assert ackpt("resume", parked, "--url", tmp_path / "run")[0] == 0


def test_resume_finds_what_is_parked_wherever_the_folder_was_moved(
    parked: Path, tmp_path: Path, ackpt: Ran
) -> None:
    moved = parked.rename(tmp_path / "moved")
    (tmp_path / "link").symlink_to(moved)
    assert ackpt("resume", tmp_path / "link")[:2] == (0, f"ckpt-7 committed to file://{tmp_path}/run\n")


def test_resume_of_another_run_than_the_one_that_stages_there_touches_nothing(
    parked: Path, tmp_path: Path, ackpt: Ran
) -> None:
    for noted in (True, False):
        if not noted:
            (parked / "target").unlink()
        status, _, err = ackpt("resume", parked, "--url", tmp_path / "other")
        assert status == 1
        assert err.endswith(f"stages, and not file://{tmp_path}/other; nothing was touched\n")
    assert ackpt("resume", parked, "--url", tmp_path / "run")[0] == 0


def test_resume_in_a_store_that_has_nothing_of_the_run_touches_nothing(
    parked: Path, tmp_path: Path, ackpt: Ran, caplog: pytest.LogCaptureFixture
) -> None:
    """Real event: the URL was given without its endpoint, and the bucket there has the same name."""
    (tmp_path / "run").rename(tmp_path / "aside")
    (tmp_path / "run").mkdir()
    assert ackpt("resume", parked)[:2] == (0, f"nothing to finish for file://{tmp_path}/run\n")
    assert f"what is staged in {parked} was left as it is: check the URL" in caplog.text
    shutil.rmtree(tmp_path / "run")
    (tmp_path / "aside").rename(tmp_path / "run")
    assert ackpt("resume", parked)[:2] == (0, f"ckpt-7 committed to file://{tmp_path}/run\n")


def test_resume_beside_another_one_says_so(parked: Path, tmp_path: Path, ackpt: Ran) -> None:
    other = StagingFolder(parked)
    other.lock()
    status, out, err = ackpt("resume", tmp_path / "run", "--staging-dir", tmp_path / "staging")
    assert (status, out) == (1, "")
    assert f"is at work in {parked}; it finishes what lies there" in err
    other.unlock()
    assert ackpt("resume", parked)[:2] == (0, f"ckpt-7 committed to file://{tmp_path}/run\n")


def test_resume_tells_what_failed(parked: Path, tmp_path: Path, ackpt: Ran) -> None:
    (tmp_path / "run" / "ckpt-7.index").write_bytes(b"somebody else's")
    (tmp_path / "run" / "ckpt-7.sending.json").unlink()
    status, out, _ = ackpt("resume", parked)
    assert status == 1
    assert out.startswith("step 7 failed: ckpt-7.index is there already with other content")


def test_what_goes_wrong_is_one_line_and_status_1(tmp_path: Path, ackpt: Ran) -> None:
    (tmp_path / "file").write_text("")
    status, out, err = ackpt("ls", tmp_path / "file")
    assert (status, out) == (1, "")
    assert err.startswith("ackpt ls: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nowhere://x/y", "no backend for scheme 'nowhere'"),
        ("memory://x/y?tier=cold", "unknown option 'tier'"),
    ],
)
def test_a_url_of_no_use_is_bad_usage(url: str, says: str, ackpt: Ran) -> None:
    status, _, err = ackpt("ls", url)
    assert status == 2
    assert says in err


def test_an_age_beyond_the_calendar_is_bad_usage(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["gc", str(run), "--older-than", "999999999999h"])
    assert left.value.code == 2
    assert "less than a hundred years" in capsys.readouterr().err


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert (left.value.code, capsys.readouterr().out) == (0, f"ackpt {version('ackpt')}\n")


def test_bad_usage_is_status_2() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ackpt", "frobnicate"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "invalid choice" in done.stderr


def test_a_reader_that_has_read_enough_is_no_error(run: Path) -> None:
    command = [sys.executable, "-m", "ackpt"]
    with subprocess.Popen(
        [*command, "ls", str(run)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_pull_into_a_url_is_refused(run: Path, ackpt: Ran) -> None:
    status, _, err = ackpt("pull", run, "gs://user:secret@bucket/run")
    assert status == 2
    assert "expected a local folder" in err
    assert "secret" not in err


def test_gc_tells_open_uploads_from_bytes(ackpt: Ran) -> None:
    target = "memory://gc-of-uploads/run"

    async def leave() -> None:
        store = MemoryBackend.from_url(StorageURL.parse(target))
        await declare(store, prefix="ckpt-9", writer="w")
        await store.create_upload("ckpt-9.data")

    asyncio.run(leave())
    _, out, _ = ackpt("gc", target, "--older-than", "0s")
    assert "to ckpt-9.data  size not known  (ckpt-9 was never committed" in out
    assert " and 1 open uploads: found" in out.splitlines()[-1]
