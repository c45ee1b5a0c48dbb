"""Stores that do not do as they say: parts accepted and forgotten, and wrong checksums with a 200."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import ackpt
from ackpt import Checkpointer
from ackpt.backends.memory import MemoryBackend
from ackpt.checkpoint import fence
from ackpt.errors import CorruptCheckpointError, SaveFailedError
from ackpt.events import Committed, Failed
from ackpt.options import MiB
from ackpt.testing import Fault, FaultScript, On, Request
from ackpt.transfer.body import BytesBody
from tests.engine.runs import Run
from tests.servers.gcs import GCSServer
from tests.troubles.saving import State, check_whole
from tests.troubles.test_network import Simulated, clock

LARGE = 11 * MiB


@dataclass(frozen=True, slots=True)
class ForgetsPart(Fault):
    """Accept a part, with a receipt, and have it no more afterwards."""

    store: MemoryBackend

    async def after(self, request: Request) -> None:
        """Forget it."""
        assert request.upload is not None
        assert request.number is not None
        del self.store.store.uploads[request.upload.id].parts[request.number]


@pytest.fixture(autouse=True)
def _quick() -> None:
    clock.set(Simulated())


async def test_a_part_that_the_store_accepts_and_forgets_is_sent_again_and_nothing_else_is(
    tmp_path: Path,
) -> None:
    run = Run()
    assert isinstance(run.store, MemoryBackend)
    run.script = FaultScript(On(fault=ForgetsPart(run.store), operation="put_part", number=2))
    with pytest.raises(SaveFailedError, match="part 2 .*is not the one in the receipt.*lies staged"):
        async with Checkpointer(run.url, staging_dir=tmp_path) as checkpointer:
            outcome = await (await checkpointer.submit(State(1)))
            assert isinstance(outcome, Failed)
    assert await run.committed() == []
    run.script = FaultScript()
    async with Checkpointer(run.url, staging_dir=tmp_path):
        await check_whole(run.store, newest=1)
    assert [request.number for request in run.script.requests("put_part")] == [2]


@dataclass(frozen=True, slots=True)
class ForgetsObject(Fault):
    """Accept an object, and have it no more when it is looked for next."""

    run: Run

    async def after(self, request: Request) -> None:
        """Forget it."""
        await self.run.store.delete(request.key)


async def test_an_object_that_the_store_accepts_and_forgets_takes_nothing_that_is_staged_with_it(
    tmp_path: Path,
) -> None:
    run = Run()
    run.script = FaultScript(On(fault=ForgetsObject(run), operation="put", key="*.index"))
    with pytest.raises(SaveFailedError, match=r"index changed in the store before step 1 .*lies staged"):
        async with Checkpointer(run.url, staging_dir=tmp_path) as checkpointer:
            assert isinstance(await (await checkpointer.submit(State(1))), Failed)
    assert await run.committed() == []
    async with Checkpointer(run.url, staging_dir=tmp_path):
        await check_whole(run.store, newest=1)


async def test_books_that_somebody_has_damaged_take_nothing_that_is_staged_with_them(tmp_path: Path) -> None:
    run = Run()
    with pytest.raises(SaveFailedError, match=r"does not say who writes this run .*lies staged"):
        async with Checkpointer(run.url, staging_dir=tmp_path) as checkpointer:
            assert isinstance(await (await checkpointer.submit(State(1))), Committed)
            await run.store.put(fence.KEY, BytesBody(b"{"))
            assert isinstance(await (await checkpointer.submit(State(2))), Failed)
    with pytest.raises(CorruptCheckpointError, match="then delete it"):
        await Checkpointer(run.url, staging_dir=tmp_path).start()
    await run.store.delete(fence.KEY)
    async with Checkpointer(run.url, staging_dir=tmp_path):
        await check_whole(run.store, newest=2)


@pytest.fixture
def server() -> Iterator[GCSServer]:
    with GCSServer() as server:
        server.create_bucket("bucket")
        yield server


@pytest.mark.parametrize("operation", ["multipart.put_part", "objects.insert"])
async def test_a_wrong_checksum_in_an_answer_of_200_is_not_believed_and_the_bytes_are_sent_again(
    tmp_path: Path, server: GCSServer, operation: str
) -> None:
    url = f"gs://bucket/run?endpoint={server.url}&anonymous=true&part_size=5MiB"
    async with Checkpointer(url, staging_dir=tmp_path) as checkpointer:
        server.fault(operation, "wrong_checksum", count=2)
        outcome = await (await checkpointer.submit(State(1, LARGE)))
        assert isinstance(outcome, Committed), outcome
    backend = ackpt.open_backend(url)
    await check_whole(backend, newest=1, size=LARGE)
    await backend.aclose()


async def test_wrong_checksums_without_end_fail_the_save_and_commit_nothing(
    tmp_path: Path, server: GCSServer
) -> None:
    url = f"gs://bucket/run?endpoint={server.url}&anonymous=true&part_size=5MiB&attempts=3"
    server.fault("multipart.put_part", "wrong_checksum", count=1000)
    with pytest.raises(SaveFailedError, match="crc32c"):
        async with Checkpointer(url, staging_dir=tmp_path) as checkpointer:
            assert isinstance(await (await checkpointer.submit(State(1, LARGE))), Failed)
    assert not [name for name in server.names("bucket") if name.endswith(".manifest.json")]
    server.reset()
    async with Checkpointer(url, staging_dir=tmp_path):
        pass
    backend = ackpt.open_backend(url)
    await check_whole(backend, newest=1, size=LARGE)
    await backend.aclose()
