"""The uploader process from a trainer's side: real processes, real signals, and nothing lost."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import ackpt
from ackpt.checkpoint.retention import Retention
from ackpt.engine.agent.call import dismiss
from ackpt.engine.agent.remote import RESTARTS
from ackpt.errors import InvalidOptionError, StagingLockedError, StepConflictError, UnknownSchemeError
from ackpt.events import Committed, Deleted, Failed, Outcome, Parked, Staged
from bench.link import run_url, server
from tests.engine.agent.runs import agent_pid, committed, folder_of, is_free, wait_for
from tests.engine.runs import Pinned, Recorder, content

SECS = 60.0


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def staging(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "staging"
    yield folder
    if folder.is_dir():
        asyncio.run(dismiss(folder_of(folder)))  # one whose trainer was killed would stay for its grace
        wait_for(lambda: is_free(folder), "the uploader process leaves")


def saver(run: Path | str, staging: Path, **options: object) -> ackpt.BackgroundCheckpointer:
    target = run if isinstance(run, str) else f"file://{run}"
    return ackpt.BackgroundCheckpointer(target, staging_dir=staging, uploader="process", **options)


@contextmanager
def killed_trainer(run: Path, staging: Path, step: int) -> Iterator[Callable[[], None]]:
    """Have a trainer killed that has staged `step`; its uploader process sends when it is told to."""
    trainer = subprocess.Popen(
        [sys.executable, "-m", "tests.engine.agent.trainer", f"file://{run}", str(staging), str(step)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert trainer.stdout is not None
    pid = int(trainer.stdout.readline())
    try:
        assert trainer.stdout.readline() == "staged\n"
        trainer.kill()
        trainer.communicate()
        assert committed(run) == []
        yield lambda: os.kill(pid, signal.SIGCONT)
    finally:
        with suppress(ProcessLookupError):  # it may have done all and gone
            os.kill(pid, signal.SIGCONT)


def test_every_save_has_one_outcome_and_events_reach_this_process(run: Path, staging: Path) -> None:
    told = Recorder()

    class Listener(ackpt.CheckpointListener):
        async def on_committed(self, event: Committed) -> None:
            told(event)

        async def on_deleted(self, event: Deleted) -> None:
            told(event)

    events = Recorder()
    checkpointer = saver(run, staging, retention=ackpt.KeepLast(1), listeners=[Listener()])
    checkpointer.subscribe(events)
    with checkpointer:
        outcomes = [checkpointer.submit(Pinned(step)).result(SECS) for step in (1, 2)]
        checkpointer.wait(SECS)
    size = sum(map(len, content(1).values()))
    assert [(each.step, each.size) for each in outcomes if isinstance(each, Committed)] == [
        (1, size),
        (2, size),
    ]
    assert [each for each in events.events if isinstance(each, Outcome)] == outcomes
    assert [each.step for each in events.of(Staged)] == [1, 2]
    assert [(type(each), each.step) for each in told.events] == [(Committed, 1), (Committed, 2), (Deleted, 1)]
    assert committed(run) == [2]
    assert (run / "ckpt-2.index").read_bytes() == content(2)["index"]
    assert is_free(staging), "with nothing left to send it has gone"
    assert sorted(each.name for each in folder_of(staging).iterdir()) == ["agent.log", "lock", "target"]


def test_an_error_of_the_uploader_process_reaches_the_trainer(run: Path, staging: Path) -> None:
    with saver(run, staging, fallback=run.parent / "other") as checkpointer:
        checkpointer.submit(Pinned(1)).result(SECS)
        outcome = checkpointer.submit(Pinned(1, content(7))).result(SECS)
        assert isinstance(outcome, Failed)
        assert isinstance(outcome.error, StepConflictError)
        assert outcome.error.step == 1
        assert not outcome.staged
        assert isinstance(checkpointer.submit(Pinned(2)).result(SECS), Committed)
    assert (run / "ckpt-1.index").read_bytes() == content(1)["index"]


def test_an_uploader_process_that_is_killed_is_replaced_and_nothing_is_lost(
    run: Path, staging: Path, caplog: pytest.LogCaptureFixture
) -> None:
    events = Recorder()
    checkpointer = saver(run, staging)
    checkpointer.subscribe(events)
    with checkpointer, caplog.at_level(logging.WARNING, "ackpt"):
        pid = agent_pid(staging)
        os.kill(pid, signal.SIGSTOP)
        pending = checkpointer.submit(Pinned(1))
        wait_for(lambda: events.of(Staged), "staged")
        os.kill(pid, signal.SIGKILL)
        assert isinstance(pending.result(SECS), Committed)
        assert agent_pid(staging) != pid
    assert [type(each) for each in events.events if isinstance(each, Outcome)] == [Committed]
    assert committed(run) == [1]
    assert [
        each.message for each in caplog.records if "has gone" in each.message and "another" in each.message
    ]


def test_a_trainer_whose_uploader_processes_all_die_sends_by_itself(
    run: Path, staging: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with saver(run, staging, retention=ackpt.KeepLast(1)) as checkpointer:
        for step in range(RESTARTS + 1):
            os.kill(agent_pid(staging), signal.SIGKILL)
            assert isinstance(checkpointer.submit(Pinned(step)).result(SECS), Committed)
        assert isinstance(checkpointer.submit(Pinned(9)).result(SECS), Committed)
        checkpointer.wait(SECS)
        assert not (folder_of(staging) / "agent.sock").exists() or not is_free(staging)
    assert committed(run) == [9]
    assert any("this process sends from now on" in each.message for each in caplog.records)


def test_what_a_killed_trainer_has_staged_is_committed_by_its_uploader_process(
    run: Path, staging: Path
) -> None:
    with killed_trainer(run, staging, 1) as go_on:
        go_on()
        wait_for(lambda: committed(run) == [1], "committed")
    assert (run / "ckpt-1.index").read_bytes() == content(1)["index"]
    with saver(run, staging) as checkpointer:  # of the process that is there, or another one
        assert isinstance(checkpointer.submit(Pinned(2)).result(SECS), Committed)
    assert committed(run) == [1, 2]


def test_a_restore_behind_a_killed_trainer_waits_for_what_it_has_staged(
    run: Path, staging: Path, tmp_path: Path
) -> None:
    def restore() -> str | None:
        return ackpt.restore(f"file://{run}", tmp_path / "model", staging_dir=staging)

    with killed_trainer(run, staging, 1) as go_on, ThreadPoolExecutor() as pool:
        prefix = pool.submit(restore)
        with pytest.raises(TimeoutError):
            prefix.result(1.0)
        go_on()
    assert prefix.result(0) == str(tmp_path / "model" / "ckpt-1")


def test_a_trainer_that_sends_by_itself_takes_over_from_an_uploader_process(run: Path, staging: Path) -> None:
    with killed_trainer(run, staging, 1) as go_on:
        go_on()
        with ackpt.BackgroundCheckpointer(f"file://{run}", staging_dir=staging) as checkpointer:
            outcome = checkpointer.submit(Pinned(2)).result(SECS)
    assert isinstance(outcome, Committed)
    assert committed(run) == [1, 2]


def test_an_uploader_process_has_one_trainer(run: Path, staging: Path) -> None:
    with saver(run, staging) as checkpointer:
        with pytest.raises(StagingLockedError, match="another saver"):
            saver(run, staging).start()
        with pytest.raises(StagingLockedError, match="another saver"):
            ackpt.BackgroundCheckpointer(f"file://{run}", staging_dir=staging).start()
        assert isinstance(checkpointer.submit(Pinned(1)).result(SECS), Committed)


def test_what_is_late_at_the_close_is_parked_and_sent_all_the_same(staging: Path) -> None:
    with server(400_000) as endpoint:
        events = Recorder()
        checkpointer = saver(run_url(endpoint, "run"), staging)
        checkpointer.subscribe(events)
        checkpointer.start()
        pending = checkpointer.submit(Pinned(1, {"data": bytes(500_000), "index": b"i"}))
        wait_for(lambda: events.of(Staged), "staged")
        assert not checkpointer.close(0.0)
        assert isinstance(pending.result(0), Parked)
        wait_for(lambda: is_free(staging), "sent, and gone")
        assert ackpt.restore(run_url(endpoint, "run"), staging.parent / "model", staging_dir=staging)


def test_the_socket_is_the_owners_alone_and_arguments_tell_nothing(run: Path, staging: Path) -> None:
    with saver(f"file://{run}?attempts=3", staging):
        folder = folder_of(staging)
        modes = {each.name: stat.S_IMODE(each.lstat().st_mode) for each in (folder, *folder.iterdir())}
        assert modes[folder.name] == 0o700
        assert modes["agent.sock"] == modes["agent.log"] == modes["lock"] == 0o600
        arguments = Path(f"/proc/{agent_pid(staging)}/cmdline").read_bytes()
        assert b"attempts" not in arguments
        assert b"agent" in arguments


def test_a_policy_that_only_the_trainer_knows_is_refused(run: Path, staging: Path) -> None:
    class Mine(Retention):
        def keep(self, candidates: object) -> frozenset[int]:
            return frozenset()

    with pytest.raises(InvalidOptionError, match=r"KeepLast.*got .*Mine"):
        saver(run, staging, retention=Mine())
    with pytest.raises(InvalidOptionError, match="'thread' or 'process'"):
        ackpt.BackgroundCheckpointer(str(run), uploader="fork")
    with pytest.raises(InvalidOptionError, match="of one process alone"):
        saver("memory://bucket/run", staging)


def test_a_backend_that_only_the_trainer_knows_is_told_at_the_start(staging: Path) -> None:
    from tests.engine.runs import Run

    with pytest.raises(UnknownSchemeError, match="scripted"):
        saver(Run().url, staging).start()
