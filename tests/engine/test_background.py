"""The synchronous face: what a listener on the loop's own thread may not do."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import ackpt
from ackpt.errors import BucketNotFoundError, ClosedError, WrongThreadError
from ackpt.events import Committed, Parked, Staged
from ackpt.testing import FaultScript, On, Stall
from tests.engine.runs import Pinned, Run


def test_a_listener_that_waits_for_a_save_is_told_so_and_nothing_hangs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    raised: list[Exception] = []

    class SavesAndWaits(ackpt.CheckpointListener):
        async def on_committed(self, event: Committed) -> None:
            if event.step == 1:
                pending = checkpointer.save(tmp_path / "file", step=2)
                try:
                    pending.result(1)
                except WrongThreadError as error:
                    raised.append(error)

    with ackpt.BackgroundCheckpointer(str(tmp_path / "run"), listeners=[SavesAndWaits()]) as checkpointer:
        pending = checkpointer.save(tmp_path / "file", step=1)
        assert isinstance(pending.result(30), Committed)
        checkpointer.wait(30)
        assert len(raised) == 1
        assert isinstance(pending.result(), Committed)
    assert (tmp_path / "run" / "ckpt-2.manifest.json").exists()


def test_a_listener_that_closes_the_checkpointer_from_a_worker_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    raised: list[Exception] = []

    class Closes(ackpt.CheckpointListener):
        async def on_committed(self, event: Committed) -> None:
            try:
                await asyncio.to_thread(checkpointer.close)
            except WrongThreadError as error:
                raised.append(error)

    with ackpt.BackgroundCheckpointer(str(tmp_path / "run"), listeners=[Closes()]) as checkpointer:
        checkpointer.save(tmp_path / "file", step=1).result(30)
        checkpointer.wait(30)
    assert len(raised) == 1


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Have SIGINT raise KeyboardInterrupt, as it does not in a process that was started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_a_close_that_is_interrupted_still_gives_every_save_its_outcome_and_lets_go(tmp_path: Path) -> None:
    hanging = FaultScript(On(fault=Stall(asyncio.Event()), operation="put", key="*.index", times=None))
    run = Run(hanging)
    checkpointer = ackpt.BackgroundCheckpointer(run.url, staging_dir=tmp_path)
    staged = threading.Event()
    checkpointer.subscribe(lambda event: staged.set() if isinstance(event, Staged) else None)
    checkpointer.start()
    pending = checkpointer.submit(Pinned(1))

    def interrupt() -> None:
        staged.wait(30)
        while not checkpointer._core._closed:
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        checkpointer.close()
    thread.join()
    assert isinstance(pending.result(0), Parked)
    run.script = FaultScript()
    with ackpt.BackgroundCheckpointer(run.url, staging_dir=tmp_path):  # not locked any more
        pass
    assert asyncio.run(run.committed()) == [1]


def test_a_checkpointer_that_could_not_start_is_closed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    checkpointer = ackpt.BackgroundCheckpointer(str(tmp_path / "file"))
    with pytest.raises(BucketNotFoundError):
        checkpointer.start()
    with pytest.raises(ClosedError, match="make a new one"):
        checkpointer.start()
