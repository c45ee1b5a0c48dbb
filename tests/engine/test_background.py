"""The synchronous face: what a listener on the loop's own thread may not do."""

from __future__ import annotations

import asyncio
from pathlib import Path

import ackpt
from ackpt.errors import WrongThreadError
from ackpt.events import Committed


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
