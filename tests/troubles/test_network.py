"""Networks that fail: names that are not found, connections that are reset, requests that fail for long."""

from __future__ import annotations

import asyncio
import itertools
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp.connector
import pytest

import ackpt
from ackpt import Checkpointer, KeepLast, Queue, Tolerate
from ackpt.errors import SaveFailedError
from ackpt.events import Committed, Failed
from ackpt.options import MiB
from ackpt.testing import LostReply, RandomFaults, Reset, Unavailable
from ackpt.transfer.clock import Clock, clock
from tests.engine.runs import Run
from tests.servers.gcs import GCSServer
from tests.servers.proxy import proxy
from tests.transfer.hand_clock import HandClock
from tests.troubles.saving import State, check_whole

OUTAGE_SECS = 600.0


class Simulated(Clock):
    """Be a time that only waiting, and training, moves; a wait takes `real_secs`, for real sockets."""

    def __init__(self, real_secs: float = 0.0) -> None:
        self.hand = HandClock()
        self._real_secs = real_secs

    def time(self) -> float:
        return self.hand()

    async def sleep(self, secs: float) -> None:
        await self.hand.sleep(secs)
        await asyncio.sleep(self._real_secs)


@pytest.mark.parametrize("seed", range(3))
async def test_ten_minutes_in_which_a_third_of_all_requests_fail_lose_no_save(
    tmp_path: Path, seed: int
) -> None:
    simulated = Simulated()
    clock.set(simulated)
    faults = [Unavailable(503), Unavailable(429, retry_after_secs=2.0), Reset(), LostReply()]
    run = Run(RandomFaults(seed, 0.3, faults))
    url = f"{run.url.partition('?')[0]}?part_size=64KiB&attempts=12&retry_timeout=300s"
    saved, began = 0, simulated.time()
    async with Checkpointer(
        url, staging_dir=tmp_path, retention=KeepLast(3), overlap=Queue(1), failure=Tolerate(0)
    ) as checkpointer:
        while simulated.time() - began < OUTAGE_SECS:
            saved += 1
            outcome = await (await checkpointer.submit(State(saved)))
            assert isinstance(outcome, Committed), outcome
            simulated.hand.now += 5.0
        await checkpointer.wait()
    assert saved > 20
    await check_whole(run.store, newest=saved)
    assert len(await run.committed()) == 3


@pytest.mark.parametrize(("every", "after_bytes"), [(10, 0), (3, 200_000)])
async def test_a_proxy_that_resets_every_tenth_connection_does_not_show(
    tmp_path: Path, every: int, after_bytes: int
) -> None:
    """Every tenth of all, at its first byte; and every third of those with a part, in the middle of it."""
    size = 11 * MiB
    clock.set(Simulated(real_secs=0.02))
    with GCSServer(keep_alive=False) as server:
        bucket = server.create_bucket("bucket")
        port = urlsplit(server.url).port
        assert port is not None
        async with proxy(port, every=every, after_bytes=after_bytes) as passage:
            url = f"gs://{bucket}/run?endpoint={passage.url}&anonymous=true&part_size=5MiB"
            async with Checkpointer(url, staging_dir=tmp_path, retention=KeepLast(2)) as checkpointer:
                for step in range(1, 5):
                    outcome = await (await checkpointer.submit(State(step, size)))
                    assert isinstance(outcome, Committed), outcome
            assert passage.resets > 3
        backend = ackpt.open_backend(f"gs://{bucket}/run?endpoint={server.url}&anonymous=true")
        await check_whole(backend, newest=4, size=size)
        await backend.aclose()
        assert server.open_uploads(bucket) == []


async def test_a_name_that_is_not_found_for_a_while_costs_nothing_but_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server closes each connection after an answer, and no name is remembered from one to the next."""
    look_up = socket.getaddrinfo
    failures = 0

    def find(host: Any, *args: Any, **options: Any) -> Any:
        nonlocal failures
        if host != "store.test":
            return look_up(host, *args, **options)
        if failures:
            failures -= 1
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return look_up("127.0.0.1", *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", find)
    ages = itertools.count(0.0, 3600.0)
    monkeypatch.setattr(aiohttp.connector, "monotonic", lambda: next(ages))
    simulated = Simulated()
    clock.set(simulated)
    with GCSServer(keep_alive=False) as server:
        bucket = server.create_bucket("bucket")
        port = urlsplit(server.url).port
        url = f"gs://{bucket}/run?endpoint=http://store.test:{port}&anonymous=true&attempts=4"
        with pytest.raises(SaveFailedError, match=r"saving step 2 .*store\.test.*it lies staged"):
            async with Checkpointer(url, staging_dir=tmp_path) as checkpointer:
                failures = 3
                assert isinstance(await (await checkpointer.submit(State(1))), Committed)
                failures = 1000
                assert isinstance(await (await checkpointer.submit(State(2))), Failed)
        failures = 0
        async with Checkpointer(url, staging_dir=tmp_path):
            pass
        backend = ackpt.open_backend(url)
        await check_whole(backend, newest=2)
        await backend.aclose()
