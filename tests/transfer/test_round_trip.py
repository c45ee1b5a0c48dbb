"""There and back again, on real backends, with a fault at every request in turn."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from ackpt.backends.base import IfAbsent, MultipartBackend
from ackpt.backends.file import FileBackend
from ackpt.backends.memory import MemoryBackend
from ackpt.checkpoint.staged import StagedFile
from ackpt.testing.faults import (
    CorruptedGet,
    CorruptedPut,
    Crash,
    ExpiredUpload,
    Fault,
    LostReply,
    Reset,
    SimulatedCrash,
    TruncatedGet,
    Unavailable,
)
from ackpt.testing.faulty import inject
from ackpt.testing.script import FaultScript, On, RandomFaults
from ackpt.transfer.checksum import crc32c
from ackpt.transfer.context import Transfer
from ackpt.transfer.download import download_object
from ackpt.transfer.retry import Retry
from ackpt.transfer.target import _stem
from ackpt.transfer.upload import upload_object

from .conftest import PART_BYTES, pattern

LARGE = 3 * PART_BYTES + 17
Stage = Callable[[int], StagedFile]


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> MultipartBackend:
    if request.param == "memory":
        return MemoryBackend()
    return FileBackend(tmp_path / "bucket")


async def assert_there(store: MultipartBackend, file: StagedFile, data: bytes) -> None:
    info = await store.head(file.key)
    assert (info.size, info.crc32c) == (len(data), crc32c(data))
    assert b"".join([block async for block in store.get(file.key)]) == data


async def open_uploads(store: MultipartBackend) -> list[str]:
    return [info.upload_id async for info in store.list_uploads()]


@pytest.mark.parametrize("size", [1000, LARGE])
@pytest.mark.parametrize(
    "fault", [Reset(), LostReply(), Unavailable(429, 2.0), CorruptedPut(500), ExpiredUpload()], ids=repr
)
async def test_one_fault_at_any_request_of_an_upload_does_not_show(
    store: MultipartBackend, staged: Stage, transfer: Transfer, fault: Fault, size: int
) -> None:
    file = staged(size)
    data = pattern(size)
    for place in range(2 if size == 1000 else 6):
        file = replace(file, key=f"key-{place}")
        script = FaultScript(On(fault=fault, skip=place))
        info = await upload_object(inject(store, script), file, transfer, condition=IfAbsent())
        assert info == await store.head(file.key)
        await assert_there(store, file, data)
    orphans = isinstance(fault, LostReply) and size == LARGE  # the one whose id nobody was told
    assert len(await open_uploads(store)) == orphans


@pytest.mark.parametrize("late", [False, True])
async def test_a_crash_at_any_request_of_an_upload_is_mended_by_a_resume_that_sends_no_part_twice(
    store: MultipartBackend, staged: Stage, transfer: Transfer, late: bool
) -> None:
    file, data = staged(LARGE), pattern(LARGE)
    for place in range(7):
        file = replace(file, key=f"key-{place}")
        journal: list[str] = []

        async def record(upload_id: str, journal: list[str] = journal) -> None:
            journal.append(upload_id)

        first = FaultScript(On(fault=Crash(late), skip=place))
        with suppress(SimulatedCrash):
            await upload_object(
                inject(store, first),
                file,
                transfer,
                condition=IfAbsent(),
                keep_upload=True,
                on_upload=record,
            )
        second = FaultScript()
        info = await upload_object(
            inject(store, second),
            file,
            transfer,
            condition=IfAbsent(),
            upload_id=journal[-1] if journal else None,
            keep_upload=True,
            on_upload=record,
        )
        assert info == await store.head(file.key)
        await assert_there(store, file, data)
        acknowledged = {r.number for r in first.requests("put_part") if r.outcome == "done"}
        assert not acknowledged & {r.number for r in second.requests("put_part")}
    assert len(await open_uploads(store)) <= 1  # created, and the crash came before it was recorded


@pytest.mark.parametrize("seed", range(5))
async def test_a_download_through_many_faults_is_the_object(
    store: MultipartBackend, staged: Stage, transfer: Transfer, tmp_path: Path, retry: Retry, seed: int
) -> None:
    file, data = staged(LARGE), pattern(LARGE)
    await upload_object(store, file, transfer)
    faults = [Reset(), Unavailable(), TruncatedGet(0), TruncatedGet(70_000), TruncatedGet(200_000)]
    script = RandomFaults(seed, 0.5, faults)
    patient = replace(transfer, retry=Retry(attempts=50, deadline=retry.deadline, sleep=retry._sleep))
    await download_object(
        inject(store, script), file.key, tmp_path / "file", patient, size=LARGE, crc32c=crc32c(data)
    )
    assert (tmp_path / "file").read_bytes() == data


@pytest.mark.parametrize("fault", [CorruptedGet(100_000), TruncatedGet(100_000, silent=True)], ids=repr)
async def test_a_range_that_comes_wrong_once_does_not_show(
    store: MultipartBackend, staged: Stage, transfer: Transfer, tmp_path: Path, fault: Fault
) -> None:
    file, data = staged(LARGE), pattern(LARGE)
    await upload_object(store, file, transfer)
    script = FaultScript(On(operation="get", skip=1, fault=fault))
    await download_object(
        inject(store, script), file.key, tmp_path / "file", transfer, size=LARGE, crc32c=crc32c(data)
    )
    assert (tmp_path / "file").read_bytes() == data
    assert sorted(os.listdir(tmp_path)).count(_stem("file")) == 0
