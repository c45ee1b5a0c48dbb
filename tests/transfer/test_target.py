"""A file on its way to its name: what a cancelled publish does late, it does to no other file."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from ackpt.transfer.target import Target


async def test_a_cancelled_publish_that_is_late_does_not_name_the_file_of_the_next_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_sync, go = threading.Event(), threading.Event()
    real_fsync = os.fsync

    def slow_fsync(descriptor: int) -> None:
        at_sync.set()
        assert go.wait(30)
        real_fsync(descriptor)

    path = tmp_path / "file"
    first = await Target.create(path, 5)
    await first.write([b"first"], 0)
    monkeypatch.setattr(os, "fsync", slow_fsync)
    publishing = asyncio.create_task(first.publish())
    await asyncio.to_thread(at_sync.wait, 30)
    publishing.cancel()
    with pytest.raises(asyncio.CancelledError) as cancelled:
        await publishing
    discarding = asyncio.create_task(first.discard(cancelled.value))
    await asyncio.wait([discarding], timeout=0.2)
    second = await Target.create(path, 6)
    await second.write([b"sec"], 0)
    go.set()
    await discarding
    for _ in range(100):  # what is late has time to come
        await asyncio.sleep(0.002)
    assert not path.exists() or path.read_bytes() == b"first"
    await second.write([b"ond"], 3)
    await second.publish()
    assert path.read_bytes() == b"second"
    assert os.listdir(tmp_path) == ["file"]


async def test_what_the_kernel_takes_in_small_pieces_is_written_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_pwritev = os.pwritev

    def little(descriptor: int, views: list[memoryview], position: int) -> int:
        return real_pwritev(descriptor, [memoryview(b"".join(views))[:3]], position)

    monkeypatch.setattr(os, "pwritev", little)
    path = tmp_path / "file"
    target = await Target.create(path, 14)
    await target.write([b"four", b"", b"to", b"seventh"], 1)
    await target.publish()
    assert path.read_bytes() == b"\0fourtoseventh"
