"""The fallback behind an uploader process: real processes, and a server that goes away and comes back."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

import ackpt
from ackpt.checkpoint.catalog import read_object
from ackpt.engine.agent import remote
from ackpt.engine.agent.call import dismiss
from ackpt.errors import TransientError
from ackpt.events import Committed, Failed, Outcome, Staged
from tests.engine.agent.runs import agent_pid, committed, folder_of, is_free, wait_for
from tests.engine.runs import Pinned, Recorder, content

SECS = 60.0
SUFFIX = ".manifest.json"


class Outages:
    """Be a server whose process is killed, and started again with what it had."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None
        self._port = "0"
        self.come_back()

    def go_away(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate(timeout=SECS)
            self._process = None

    def come_back(self) -> None:
        command = [sys.executable, "-m", "tests.servers.gcs", "--bucket", "bucket", "--port", self._port]
        command += ["--folder", str(self._folder)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        endpoint = self._process.stdout.readline().strip()
        assert endpoint, "the server did not start"
        self._port = endpoint.rpartition(":")[2]

    @property
    def run(self) -> str:
        return f"gs://bucket/run?endpoint=http://127.0.0.1:{self._port}&anonymous=true&retry_timeout=0s"

    def stored(self) -> dict[str, bytes]:
        async def read() -> dict[str, bytes]:
            backend = ackpt.open_backend(self.run)
            try:
                async with aclosing(backend.list()) as objects:
                    keys = [info.key async for info in objects]
                return {key: await read_object(backend, key) for key in keys}
            finally:
                await backend.aclose()

        return asyncio.run(read())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Outages]:
    outages = Outages(tmp_path / "server")
    yield outages
    outages.go_away()


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return tmp_path / "fallback"


@pytest.fixture
def staging(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "staging"
    yield folder
    if folder.is_dir():
        asyncio.run(dismiss(folder_of(folder)))
        wait_for(lambda: is_free(folder), "the uploader process leaves")


def saver(store: Outages, staging: Path, other: Path | None) -> ackpt.BackgroundCheckpointer:
    return ackpt.BackgroundCheckpointer(
        store.run,
        staging_dir=staging,
        uploader="process",
        fallback=other,
        retention=ackpt.KeepLast(2),
        overlap=ackpt.Queue(4),
    )


def save(checkpointer: ackpt.BackgroundCheckpointer, step: int) -> str:
    """Save, and return where it was committed."""
    outcome = checkpointer.submit(Pinned(step)).result(SECS)
    assert isinstance(outcome, Committed), outcome
    checkpointer.wait(SECS)
    return outcome.target.partition("://")[0]


def assert_has(store: Outages, *steps: int) -> None:
    """Make sure that the store holds these checkpoints, byte for byte, and no others."""
    objects = store.stored()
    names = [key.removesuffix(SUFFIX) for key in objects if key.endswith(SUFFIX)]
    assert sorted(names) == [f"ckpt-{step}" for step in steps]
    for step in steps:
        for name, data in content(step).items():
            assert objects[f"ckpt-{step}.{name}"] == data
    assert b'"ckpt-%d"' % steps[-1] in objects["checkpoint"].splitlines()[0]


def test_saves_go_to_the_fallback_while_the_store_is_away_and_are_given_back(
    store: Outages, staging: Path, other: Path, caplog: pytest.LogCaptureFixture
) -> None:
    events = Recorder()
    checkpointer = saver(store, staging, other)
    checkpointer.subscribe(events)
    with checkpointer, caplog.at_level(logging.WARNING, "ackpt"):
        assert save(checkpointer, 1) == "gs"
        store.go_away()
        assert [save(checkpointer, step) for step in (2, 3)] == ["file", "file"]
        assert committed(other) == [2, 3]
        store.come_back()
        assert save(checkpointer, 4) == "gs"
    assert_has(store, 3, 4)
    assert committed(other) == []
    assert [(each.step, type(each)) for each in events.events if isinstance(each, Outcome)][:4] == [
        (step, Committed) for step in (1, 2, 3, 4)
    ]
    said = [each.message for each in caplog.records]
    assert len([text for text in said if "is down" in text]) == 1
    assert len([text for text in said if text.endswith("run is back")]) == 1


def test_an_uploader_process_that_is_killed_while_the_store_is_away_is_replaced_by_one_that_knows_what_to_do(
    store: Outages, staging: Path, other: Path
) -> None:
    events = Recorder()
    checkpointer = saver(store, staging, other)
    checkpointer.subscribe(events)
    with checkpointer:
        assert save(checkpointer, 1) == "gs"
        store.go_away()
        pid = agent_pid(staging)
        os.kill(pid, signal.SIGSTOP)
        pending = checkpointer.submit(Pinned(2))
        wait_for(lambda: [each for each in events.of(Staged) if each.step == 2], "staged")
        os.kill(pid, signal.SIGKILL)
        outcome = pending.result(SECS)
        assert isinstance(outcome, Committed), outcome
        assert outcome.target.startswith("file://")
        store.come_back()
        assert save(checkpointer, 3) == "gs"
        assert save(checkpointer, 4) == "gs"
    assert_has(store, 3, 4)  # what the process that was killed had committed is known, and retained
    assert committed(other) == []


def test_a_trainer_whose_uploader_processes_all_die_while_the_store_is_away_goes_on_by_itself(
    store: Outages, staging: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "RESTARTS", 1)
    with saver(store, staging, other) as checkpointer:
        assert save(checkpointer, 1) == "gs"
        store.go_away()
        for step in (2, 3):
            os.kill(agent_pid(staging), signal.SIGKILL)
            assert save(checkpointer, step) == "file"
        store.come_back()
        assert save(checkpointer, 4) == "gs"
        checkpointer.wait(SECS)
    assert_has(store, 3, 4)
    assert committed(other) == []


def test_what_a_killed_trainer_has_in_the_fallback_is_restored_and_given_back_by_the_next(
    store: Outages, staging: Path, other: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "tests.engine.agent.trainer", store.run, str(staging), "2", str(other)]
    trainer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert trainer.stdout is not None
    pid = int(trainer.stdout.readline())
    assert trainer.stdout.readline() == "staged\n"
    store.go_away()
    os.kill(pid, signal.SIGCONT)
    wait_for(lambda: committed(other) == [2], "committed to the fallback")
    trainer.kill()
    trainer.communicate(timeout=SECS)
    store.come_back()
    prefix = ackpt.restore(store.run, tmp_path / "model", staging_dir=staging, fallback=other)
    assert prefix == str(tmp_path / "model" / "ckpt-2")
    with saver(store, staging, other) as checkpointer:
        checkpointer.wait(SECS)
        assert_has(store, 2)
        assert save(checkpointer, 3) == "gs"
    assert_has(store, 2, 3)
    assert committed(other) == []


def test_without_a_fallback_saves_fail_while_the_store_is_away_whoever_dies_meanwhile(
    store: Outages, staging: Path
) -> None:
    with saver(store, staging, None) as checkpointer:
        assert save(checkpointer, 1) == "gs"
        store.go_away()
        for step in (2, 3):
            os.kill(agent_pid(staging), signal.SIGKILL)
            outcome = checkpointer.submit(Pinned(step)).result(SECS)
            assert isinstance(outcome, Failed)
            assert isinstance(outcome.error, TransientError)
        store.come_back()
        assert save(checkpointer, 4) == "gs"
    assert_has(store, 1, 4)
