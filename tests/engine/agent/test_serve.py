"""`ackpt agent` by hand: what it finishes, when it leaves, and how it is told to."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import ackpt
from ackpt.backends import register_backend
from ackpt.backends.file import FileBackend
from ackpt.engine.agent import remote
from ackpt.engine.agent.call import dismiss, finish
from ackpt.engine.agent.place import connect
from ackpt.engine.agent.wire import Document, Line
from ackpt.errors import UploaderError
from ackpt.events import Committed
from tests.engine.agent.runs import agent_pid, committed, folder_of, is_free, wait_for
from tests.engine.runs import Pinned

SECS = 60.0


@pytest.fixture
def run(tmp_path: Path) -> str:
    return f"file://{tmp_path}/run"


@pytest.fixture
def folder(tmp_path: Path, run: str) -> Path:
    """Return the staging folder of a run that was there before, with nothing in it."""
    with ackpt.BackgroundCheckpointer(run, staging_dir=tmp_path / "staging"):
        pass
    return folder_of(tmp_path / "staging")


@pytest.fixture
def agent(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run one that stays."""
    command = [sys.executable, "-m", "ackpt", "agent", str(folder), "--stay"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"serving {folder}\n"
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=SECS)


def test_one_that_stays_serves_one_trainer_after_the_other(
    agent: subprocess.Popen[str], folder: Path, run: str, tmp_path: Path
) -> None:
    for step in (1, 2):
        with ackpt.BackgroundCheckpointer(run, staging_dir=folder.parent, uploader="process") as checkpointer:
            assert agent_pid(folder.parent) == agent.pid
            assert isinstance(checkpointer.submit(Pinned(step)).result(SECS), Committed)
    assert committed(tmp_path / "run") == [1, 2]
    assert asyncio.run(finish(folder))
    assert not asyncio.run(dismiss(folder))
    assert agent.poll() is None


def test_one_that_is_told_to_leave_leaves_with_its_trainer(
    agent: subprocess.Popen[str], folder: Path, run: str
) -> None:
    with ackpt.BackgroundCheckpointer(run, staging_dir=folder.parent, uploader="process") as checkpointer:
        agent.send_signal(signal.SIGTERM)
        assert isinstance(checkpointer.submit(Pinned(1)).result(SECS), Committed)
        assert agent.poll() is None
    assert agent.wait(SECS) == 0


def test_one_that_is_told_to_leave_and_has_no_trainer_leaves_at_once(
    agent: subprocess.Popen[str], folder: Path
) -> None:
    agent.send_signal(signal.SIGTERM)
    assert agent.wait(SECS) == 0
    assert not (folder / "agent.sock").exists()
    assert is_free(folder.parent)


def test_one_without_a_trainer_leaves_after_its_grace(folder: Path) -> None:
    command = [sys.executable, "-m", "ackpt", "agent", str(folder), "--grace", "10ms"]
    assert subprocess.run(command, timeout=SECS, stdout=subprocess.DEVNULL).returncode == 0
    assert is_free(folder.parent)


def test_one_at_a_folder_that_is_in_use_says_so(agent: subprocess.Popen[str], folder: Path) -> None:
    command = [sys.executable, "-m", "ackpt", "agent", str(folder)]
    done = subprocess.run(command, timeout=SECS, capture_output=True, text=True)
    assert done.returncode == 1
    assert "another saver" in done.stderr
    assert agent.poll() is None


def test_one_that_does_not_answer_is_killed_and_replaced(
    folder: Path, run: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(remote, "SILENCE_SECS", 3.0)  # it gives a sign every 5 s: twice this is too late
    checkpointer = ackpt.BackgroundCheckpointer(run, staging_dir=folder.parent, uploader="process")
    with checkpointer:
        monkeypatch.setattr(remote, "SILENCE_SECS", 30.0)
        pid = agent_pid(folder.parent)
        os.kill(pid, signal.SIGSTOP)
        assert isinstance(checkpointer.submit(Pinned(1)).result(SECS), Committed)
        assert agent_pid(folder.parent) != pid
    assert any("has gone" in each.message for each in caplog.records)
    wait_for(lambda: is_free(folder.parent), "left")


SULKY = """
import sys
from pathlib import Path
from ackpt import register_backend
from ackpt.backends.file import FileBackend
from ackpt.cli.main import main

class Sulky(FileBackend):
    async def aclose(self):
        raise RuntimeError("no")

register_backend("sulky", lambda url: Sulky(Path(sys.argv[2])))
sys.exit(main(["agent", sys.argv[1], "--grace", "100ms"]))
"""


def test_a_backend_that_cannot_be_closed_does_not_keep_the_run_from_the_next_trainer(tmp_path: Path) -> None:
    register_backend("sulky", lambda url: FileBackend(tmp_path / "run"))
    with ackpt.BackgroundCheckpointer("sulky://a/run", staging_dir=tmp_path / "staging"):
        folder = folder_of(tmp_path / "staging")
    command = [sys.executable, "-c", SULKY, str(folder), str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as agent:
        try:
            assert agent.stdout is not None
            assert agent.stdout.readline() == f"serving {folder}\n"
            trainer = ackpt.BackgroundCheckpointer(
                "sulky://a/run", staging_dir=folder.parent, uploader="process"
            )
            with trainer:
                assert agent_pid(folder.parent) == agent.pid
                assert isinstance(trainer.submit(Pinned(1)).result(SECS), Committed)
            _, said = agent.communicate(timeout=SECS)  # it leaves, and the folder is free
        finally:
            agent.kill()
    assert "RuntimeError: no" in said
    assert is_free(folder.parent)


def test_a_trainer_of_another_version_is_told_so(
    agent: subprocess.Popen[str], folder: Path, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "VERSION", 99)
    monkeypatch.setattr(remote, "_TRIES", 2)
    with pytest.raises(UploaderError, match="speaks version 2, this trainer 99"):
        ackpt.BackgroundCheckpointer(run, staging_dir=folder.parent, uploader="process").start()


def test_a_limit_that_is_changed_while_a_trainer_is_received_is_kept(
    agent: subprocess.Popen[str], folder: Path, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, ask = threading.Event(), Line.ask

    async def noted(line: Line, name: str, /, **fields: object) -> Document:
        asked.set()
        return await ask(line, name, **fields)

    monkeypatch.setattr(Line, "ask", noted)
    limits = ackpt.Limits(max_bytes_per_sec=1000)
    checkpointer = ackpt.BackgroundCheckpointer(
        run, staging_dir=folder.parent, uploader="process", limits=limits
    )
    agent.send_signal(signal.SIGSTOP)
    starting = threading.Thread(target=checkpointer.start)
    starting.start()
    assert asked.wait(SECS)  # the limits as they are go with the question, and the answer is to come
    limits.max_bytes_per_sec = None
    agent.send_signal(signal.SIGCONT)
    starting.join(SECS)
    with checkpointer:
        assert isinstance(checkpointer.submit(Pinned(1)).result(5), Committed)


def test_a_socket_at_which_nobody_listens_is_nobody(tmp_path: Path) -> None:
    assert connect(tmp_path) is None
    (tmp_path / "agent.sock").touch()
    assert connect(tmp_path) is None


def test_a_process_of_another_user_is_nobody(
    agent: subprocess.Popen[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = connect(folder)
    assert connection is not None
    connection.close()
    monkeypatch.setattr("ackpt.engine.agent.place.os.geteuid", lambda: os.getuid() + 1)
    assert connect(folder) is None
