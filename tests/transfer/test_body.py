"""Bodies: the same bytes every time, in flat memory, and nothing left open."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from aiohttp import ClientSession, web
from hypothesis import given, settings
from hypothesis import strategies as st

from ackpt.errors import LocalFileError
from ackpt.options import KiB, MiB
from ackpt.transfer import body as body_module
from ackpt.transfer.blocks import BLOCK_BYTES
from ackpt.transfer.body import RING_BYTES, BytesBody, FileBody
from ackpt.transfer.budget import Budget
from ackpt.transfer.checksum import crc32c
from ackpt.transfer.local import FileStamp, OpenFile
from ackpt.transfer.rate import RateLimit

from .conftest import eventually, pattern
from .hand_clock import HandClock

SIZE = 5 * BLOCK_BYTES + 77


@pytest.fixture
def data() -> bytes:
    return pattern(SIZE)


@pytest.fixture
def path(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "shard"
    path.write_bytes(data)
    return path


@pytest.fixture(params=["page cache", "worker"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Read on the loop, and as where the kernel cannot tell what is cached."""
    if request.param == "worker":
        monkeypatch.setattr(body_module, "_NOWAIT", None)
    return str(request.param)


def descriptors_of(path: Path) -> int:
    """Count the descriptors of this process that are open on `path`."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the one of listdir
            count += os.readlink(f"/proc/self/fd/{name}").startswith(str(path))
    return count


def tamper(path: Path, data: bytes, modified_ns: int) -> None:
    """Write over the beginning of a file, and say when that was."""
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(modified_ns, modified_ns))


async def drain(blocks: AsyncIterator[memoryview]) -> None:
    async for _ in blocks:
        pass


async def content(body: BytesBody | FileBody) -> bytes:
    return b"".join([bytes(block) async for block in body])


@settings(max_examples=30, deadline=None)
@given(edges=st.tuples(*[st.integers(0, SIZE) | st.sampled_from([BLOCK_BYTES, 2 * BLOCK_BYTES, SIZE])] * 2))
async def test_a_file_body_gives_its_range_and_no_more(
    tmp_path_factory: pytest.TempPathFactory, edges: tuple[int, int]
) -> None:
    path = tmp_path_factory.getbasetemp() / "range"
    path.write_bytes(pattern(SIZE))
    start, stop = sorted(edges)
    with FileBody(path, start, stop, budget=Budget(connections=1, memory_bytes=MiB)) as body:
        assert body.size == stop - start
        assert await content(body) == pattern(SIZE)[start:stop] == await body.read()


async def test_blocks_are_read_only_and_no_larger_than_the_contract(path: Path, budget: Budget) -> None:
    async for block in FileBody(path, 0, SIZE, budget=budget):
        assert len(block) <= 128 * KiB
        assert block.readonly


@pytest.mark.usefixtures("way")
async def test_a_body_gives_the_same_bytes_again_after_half_an_iteration(
    path: Path, data: bytes, budget: Budget
) -> None:
    body = FileBody(path, 0, SIZE, budget=budget)
    async for _ in body:
        break
    assert await content(body) == data
    assert await content(body) == data


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("whole", [content, FileBody.read])
async def test_the_checksum_is_free_after_all_bytes_have_been_given(
    path: Path, data: bytes, budget: Budget, whole: Callable[[FileBody], AsyncIterator[bytes]]
) -> None:
    body = FileBody(path, 0, SIZE, budget=budget)
    await whole(body)  # type: ignore[misc]
    os.unlink(path)
    assert await body.crc32c() == crc32c(data)


async def test_the_checksum_costs_a_pass_before(path: Path, data: bytes, budget: Budget) -> None:
    assert await FileBody(path, 9, SIZE - 9, budget=budget).crc32c() == crc32c(data[9:-9])


@pytest.mark.usefixtures("way")
async def test_blocks_that_somebody_still_holds_keep_their_bytes(
    path: Path, data: bytes, budget: Budget
) -> None:
    held = [block[1:] async for block in FileBody(path, 0, SIZE, budget=budget)]
    again = [block async for block in FileBody(path, 0, SIZE, budget=budget)]
    assert [bytes(piece) for piece in held] == [bytes(block[1:]) for block in again]
    assert b"".join(again) == data


async def test_buffers_are_used_again_when_nobody_holds_them(path: Path, budget: Budget) -> None:
    addresses = set()
    for _ in range(3):
        async for block in FileBody(path, 0, SIZE, budget=budget):
            addresses.add(id(block.obj))
    assert len(addresses) == 2  # the one just handed out, and the next


async def test_a_slow_connection_gets_the_bytes_that_were_meant_for_it(
    path: Path, data: bytes, budget: Budget
) -> None:
    """A real transport that lags behind: what it has not sent yet must not be written over."""

    async def take(request: web.Request) -> web.Response:
        value = 0
        async for piece in request.content.iter_chunked(16 * KiB):
            value = crc32c(piece, value)
            await asyncio.sleep(0)
        return web.Response(text=str(value))

    app = web.Application()
    app.router.add_put("/", take)
    async with _serving(app) as url, ClientSession() as session:
        for _ in range(3):
            body = FileBody(path, 0, SIZE, budget=budget)
            async with session.put(url, data=body, headers={"Content-Length": str(SIZE)}) as response:
                assert int(await response.text()) == crc32c(data) == await body.crc32c()


@asynccontextmanager
async def _serving(app: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


@pytest.mark.usefixtures("way")
async def test_an_iteration_that_is_left_behind_closes_its_file_and_gives_its_memory_back(
    path: Path, budget: Budget
) -> None:
    async for _ in FileBody(path, 0, SIZE, budget=budget):
        assert budget.memory_in_use == RING_BYTES
        break
    gc.collect()
    await asyncio.sleep(0.01)  # the loop closes the generator in a task of its own
    assert descriptors_of(path) == 0
    assert budget.memory_in_use == 0


async def test_cancelling_while_a_worker_reads_closes_the_file_only_after_it(
    path: Path, budget: Budget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body_module, "_NOWAIT", None)
    entered, go_on = threading.Event(), threading.Event()
    seen: list[int] = []
    read_into = body_module._read_into

    def slow(descriptor: int, *rest: object) -> None:
        entered.set()
        go_on.wait(10)
        seen.append(descriptors_of(path))
        read_into(descriptor, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(body_module, "_read_into", slow)
    task = asyncio.create_task(content(FileBody(path, 0, SIZE, budget=budget)))
    await asyncio.to_thread(entered.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert budget.memory_in_use == 0
    taken = budget.blocks.take()
    go_on.set()
    await eventually(lambda: not descriptors_of(path))
    assert seen == [1]
    assert taken == bytes(BLOCK_BYTES)  # the worker wrote to the block it had, not to one lent again


async def test_reading_leases_its_memory_until_the_body_is_closed(path: Path, data: bytes) -> None:
    budget = Budget(connections=1, memory_bytes=SIZE)
    with FileBody(path, 0, SIZE, budget=budget) as first:
        assert await first.read() == data
        assert await first.read() == data  # a retry: the same lease
        assert budget.memory_in_use == SIZE
        second = FileBody(path, 0, SIZE, budget=budget)
        waiting = asyncio.create_task(second.read())
        await asyncio.sleep(0.01)
        assert not waiting.done()
    assert await waiting == data
    second.close()
    assert budget.memory_in_use == 0


async def test_what_is_held_stays_as_it_is_until_the_body_is_closed(
    path: Path, data: bytes, way: str
) -> None:
    budget = Budget(connections=1, memory_bytes=SIZE)
    with FileBody(path, 0, SIZE, budget=budget) as body:
        pieces = await body.hold()
        assert budget.memory_in_use == SIZE
        other = [budget.blocks.take() for _ in range(8)]
        for block in other:
            block[:] = bytes(len(block))
        assert b"".join(pieces) == data
        assert await body.crc32c() == crc32c(data)
        pieces = await body.hold()  # a retry: the same lease
        assert budget.memory_in_use == SIZE
    # Given back, but not lent again as long as anybody has a view of it.
    for block in [budget.blocks.take() for _ in range(8)]:
        block[:] = bytes(len(block))
    assert b"".join(pieces) == data
    assert budget.memory_in_use == 0


async def test_an_attempt_left_behind_does_not_block_the_next(path: Path, data: bytes) -> None:
    budget = Budget(connections=1, memory_bytes=RING_BYTES)
    with FileBody(path, 0, SIZE, budget=budget) as body:
        abandoned = body.__aiter__()
        await anext(abandoned)
        assert await asyncio.wait_for(body.read(), 10) == data
        await abandoned.aclose()
        assert budget.memory_in_use == SIZE  # the late end of the first attempt takes nothing away
    assert budget.memory_in_use == 0


async def test_a_missing_file_is_a_local_error(tmp_path: Path, budget: Budget) -> None:
    body = FileBody(tmp_path / "absent", 0, 4, budget=budget)
    for attempt in (body.read(), content(body), body.crc32c()):
        with pytest.raises(LocalFileError, match="no such file"):
            await attempt
    assert budget.memory_in_use == 0


@pytest.mark.usefixtures("way")
async def test_a_file_that_shrinks_while_it_is_read_is_a_local_error(path: Path, budget: Budget) -> None:
    blocks = aiter(FileBody(path, 0, SIZE, budget=budget))
    await anext(blocks)
    os.truncate(path, BLOCK_BYTES)
    with pytest.raises(LocalFileError, match="must not be touched"):
        await drain(blocks)
    assert descriptors_of(path) == 0


async def test_a_file_that_shrank_before_a_read_is_a_local_error(path: Path, budget: Budget) -> None:
    os.truncate(path, 10)
    with pytest.raises(LocalFileError, match=f"expected at least {SIZE} bytes, found 10"):
        await FileBody(path, 0, SIZE, budget=budget).read()


async def test_a_file_that_is_written_to_while_it_is_sent_is_a_local_error(
    path: Path, budget: Budget
) -> None:
    blocks = aiter(FileBody(path, 0, SIZE, budget=budget))
    await anext(blocks)
    tamper(path, b"other", 1)
    with pytest.raises(LocalFileError, match="changed while it was being sent"):
        await drain(blocks)


async def test_a_file_in_another_state_than_stamped_is_a_local_error(path: Path, budget: Budget) -> None:
    stamp = FileStamp.of(path)
    tamper(path, b"other", 1)
    with pytest.raises(LocalFileError, match="changed"):
        await FileBody(path, 0, SIZE, budget=budget, stamp=stamp).read()
    assert descriptors_of(path) == 0


async def test_other_bytes_at_the_second_reading_are_a_local_error(path: Path, budget: Budget) -> None:
    body = FileBody(path, 0, SIZE, budget=budget)
    await body.read()
    tamper(path, b"rot", FileStamp.of(path).modified_ns)
    with pytest.raises(LocalFileError, match="gives back other bytes"):
        await content(body)


async def test_a_body_travels_no_faster_than_the_rate(path: Path, clock: HandClock) -> None:
    rate = RateLimit(BLOCK_BYTES, clock=clock, sleep=clock.sleep)
    begun = clock.now
    await content(FileBody(path, 0, SIZE, budget=Budget(connections=1, memory_bytes=MiB, rate=rate)))
    assert 4 <= clock.now - begun <= 5


async def test_a_bytes_body_is_its_bytes_and_costs_no_memory(data: bytes) -> None:
    body = BytesBody(data)
    assert body.size == SIZE
    assert await content(body) == await body.read() == data
    assert await body.crc32c() == crc32c(data)
    assert await content(BytesBody(b"")) == b""


async def test_a_file_at_work_closes_when_the_last_thread_has_ended(path: Path) -> None:
    release = threading.Event()
    file = OpenFile(open(path, "rb", buffering=0))  # noqa: ASYNC230, SIM115
    working = asyncio.create_task(file.run(lambda _: release.wait(10)))
    await asyncio.sleep(0.01)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    file.close()
    file.close()
    assert descriptors_of(path) == 1
    release.set()
    await eventually(lambda: not descriptors_of(path))
