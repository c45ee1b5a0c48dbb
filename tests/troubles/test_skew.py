"""Clocks that differ: the store's is hours ahead of this machine's, or behind, and it alone counts."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import ackpt
from ackpt import Checkpointer, KeepLast
from ackpt.backends.base import Backend, Body, Condition, ObjectInfo
from ackpt.backends.memory import MemoryBackend, MemoryStore
from ackpt.checkpoint.hold import FOLDER, READER_EXPIRES, held, reading
from ackpt.checkpoint.intent import declare
from ackpt.checkpoint.lease import EXPIRES, is_leased, renew_lease
from ackpt.checkpoint.store_clock import FOLDER as CLOCK_FOLDER
from ackpt.checkpoint.store_clock import read_store_clock
from ackpt.checkpoint.sweep import find_orphans, remove_orphans
from ackpt.cli.main import main
from ackpt.errors import FencedError, PermissionDeniedError, SaveFailedError
from ackpt.events import Committed, Failed, Staged
from ackpt.testing import FaultScript, On, Stall
from ackpt.transfer.body import BytesBody
from bench.link import run_url, server
from tests.checkpoint.test_sweep import half_sent
from tests.engine.runs import Recorder, Run, until
from tests.troubles.saving import State, check_whole

HOUR = timedelta(hours=1)
SKEWS = [-26 * HOUR, -HOUR, HOUR, 26 * HOUR]


class StoreTime:
    """Be the clock of a store, `ahead` of this machine's."""

    def __init__(self, store: MemoryStore, ahead: timedelta) -> None:
        self.ahead = ahead
        store.now = lambda: datetime.now(UTC) + self.ahead


@pytest.fixture(params=SKEWS, ids=lambda skew: f"{skew / HOUR:+.0f}h")
def skew(request: pytest.FixtureRequest) -> timedelta:
    skew: timedelta = request.param
    return skew


async def test_what_a_living_saver_is_sending_is_no_orphan(skew: timedelta, tmp_path: Path) -> None:
    go_on = asyncio.Event()
    run = Run(FaultScript(On(fault=Stall(go_on), operation="put", key="*.index")))
    StoreTime(run.store.store, skew)
    async with Checkpointer(run.url, staging_dir=tmp_path) as checkpointer:
        future = await checkpointer.submit(State(1))
        await until(lambda: run.script.requests("put", "*.index"))
        assert await is_leased(run.store)
        assert await find_orphans(run.store, older_than=timedelta(0)) == []
        go_on.set()
        assert isinstance(await future, Committed)


async def test_what_was_touched_lately_is_no_orphan_and_the_dead_is_found(skew: timedelta) -> None:
    store = MemoryBackend()
    time = StoreTime(store.store, skew)
    await half_sent(store, 1)
    await renew_lease(store, writer="dead")
    time.ahead += HOUR
    await half_sent(store, 2)
    found = await find_orphans(store, older_than=HOUR / 2)
    assert {each.key.split(".data")[0] for each in found} == {
        "model.ckpt-1.sending.json",
        "model.ckpt-1",
        ".ackpt/lease.json",
    }
    await remove_orphans(store, found)
    assert await find_orphans(store, older_than=HOUR / 2) == []


async def test_a_reader_is_waited_for_and_a_dead_one_is_not(skew: timedelta, tmp_path: Path) -> None:
    run = Run()
    time = StoreTime(run.store.store, skew)
    async with Checkpointer(run.url, staging_dir=tmp_path, retention=KeepLast(1)) as checkpointer:

        async def save(step: int) -> None:
            assert isinstance(await (await checkpointer.submit(State(step))), Committed)
            await checkpointer.wait()

        await save(1)
        async with reading(run.store, "ckpt-1"):
            await save(2)
            assert await run.committed() == [1, 2]
            assert await find_orphans(run.store, older_than=timedelta(0)) == []
        await run.store.put(f"{FOLDER}ckpt-2/reader-dead.json", BytesBody(b"{}"))
        for step in (3, 4):  # what was held goes with the save after the next: the state file names it
            await save(step)
        assert await run.committed() == [2, 4]
        time.ahead += READER_EXPIRES + timedelta(minutes=1)
        for step in (5, 6):
            await save(step)
        assert await run.committed() == [6]
    await check_whole(run.store, newest=6)


async def test_a_start_finishes_what_was_left_and_the_newer_writer_fences_the_older(
    skew: timedelta, tmp_path: Path
) -> None:
    run = Run(FaultScript(On(fault=Stall(asyncio.Event()), operation="put", key="*.index")))
    StoreTime(run.store.store, skew)
    events = Recorder()
    parked = Checkpointer(run.url, staging_dir=tmp_path / "a")
    parked.subscribe(events)
    await parked.start()
    await parked.submit(State(1))
    await until(lambda: events.of(Staged))
    assert not await parked.aclose(0.0)
    run.script = FaultScript()
    with pytest.raises(SaveFailedError, match="no longer holds the run"):
        async with Checkpointer(run.url, staging_dir=tmp_path / "a") as older:
            assert await run.committed() == [1]
            async with Checkpointer(run.url, staging_dir=tmp_path / "b") as newer:
                outcome = await (await older.submit(State(2)))
                assert isinstance(outcome, Failed)
                assert isinstance(outcome.error, FencedError)
                assert isinstance(await (await newer.submit(State(3))), Committed)
    await check_whole(run.store, newest=3)


def test_the_command_leaves_the_living_and_finds_the_dead_on_a_server(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with server(None) as endpoint:
        for number, skew in enumerate((SKEWS[0], SKEWS[-1])):
            sweep(endpoint, run_url(endpoint, f"run-{number}"), skew, capsys)


def sweep(endpoint: str, url: str, skew: timedelta, capsys: pytest.CaptureFixture[str]) -> None:
    async def begin() -> None:
        backend = ackpt.open_backend(url)
        try:
            await declare(backend, prefix="ckpt-1", writer="w")
            await backend.put("ckpt-1.index", BytesBody(b"half"))
            await renew_lease(backend, writer="w")
        finally:
            await backend.aclose()

    def collect(age: str) -> str:
        assert main(["gc", url, "--older-than", age, "--delete"]) == 0
        return capsys.readouterr().out

    set_clock(endpoint, skew)
    asyncio.run(begin())
    assert "0 orphans" in collect("0s")
    set_clock(endpoint, skew + EXPIRES + timedelta(minutes=1))
    assert "0 orphans" in collect("1h")
    assert "3 orphans" in collect("10m")
    assert "0 orphans" in collect("0s")


def set_clock(endpoint: str, ahead: timedelta) -> None:
    data = json.dumps(ahead.total_seconds()).encode()
    request = urllib.request.Request(f"{endpoint}/_admin/clock", data=data, method="PUT")
    urllib.request.urlopen(request, timeout=30).close()


class Timeless(MemoryBackend):
    """Be a store that tells no times."""

    def describe(self, key: str, stored: object) -> ObjectInfo:
        info = super().describe(key, stored)  # type: ignore[arg-type]
        return ObjectInfo(key=info.key, size=info.size, version=info.version, crc32c=info.crc32c)


class HeadOnly(MemoryBackend):
    """Be a store that tells the time of an object to a HEAD, and not in the answer to a put."""

    async def put(self, key: str, body: Body, *, condition: Condition | None = None) -> ObjectInfo:
        info = await super().put(key, body, condition=condition)
        return ObjectInfo(key=info.key, size=info.size, version=info.version, crc32c=info.crc32c)


class ReadOnly(MemoryBackend):
    """Refuse every write."""

    async def put(self, key: str, body: Body, *, condition: Condition | None = None) -> ObjectInfo:
        raise PermissionDeniedError(f"{key}: read only", key=key)


@pytest.mark.parametrize("kind", [Timeless, ReadOnly])
async def test_where_the_time_is_not_told_nothing_is_old(kind: type[MemoryBackend]) -> None:
    writer = MemoryBackend()
    StoreTime(writer.store, -1000 * HOUR)
    await half_sent(writer, 1)
    await renew_lease(writer, writer="w")
    await writer.put(f"{FOLDER}ckpt-1/reader-1.json", BytesBody(b"{}"))
    StoreTime(writer.store, timedelta())
    store = kind(writer.store)
    assert await read_store_clock(store) is None
    assert await find_orphans(store, older_than=timedelta(0)) == []
    assert await is_leased(store)
    assert await held(store) == {"ckpt-1"}


@pytest.mark.parametrize("kind", [MemoryBackend, HeadOnly])
async def test_the_clock_is_the_stores_and_reading_it_leaves_nothing(
    kind: type[MemoryBackend], skew: timedelta
) -> None:
    store = kind()
    StoreTime(store.store, skew)
    now = await read_store_clock(store)
    assert now is not None
    assert abs(datetime.now(UTC) + skew - now) < timedelta(seconds=10)
    assert store.store.objects == {}


async def test_what_a_killed_reader_of_the_clock_leaves_is_swept() -> None:
    store = MemoryBackend()
    time = StoreTime(store.store, timedelta())
    await store.put(f"{CLOCK_FOLDER}1", BytesBody(b"{}"))
    assert await find_orphans(store, older_than=HOUR) == []
    time.ahead += 2 * HOUR
    assert [each.key for each in await find_orphans(store, older_than=HOUR)] == [f"{CLOCK_FOLDER}1"]


async def test_a_run_without_readers_or_lease_is_not_asked_for_its_time() -> None:
    asked: list[str] = []

    class Counting(MemoryBackend):
        async def put(self, key: str, body: Body, *, condition: Condition | None = None) -> ObjectInfo:
            asked.append(key)
            return await super().put(key, body, condition=condition)

    store: Backend = Counting()
    assert await held(store) == frozenset()
    assert not await is_leased(store)
    assert asked == []
