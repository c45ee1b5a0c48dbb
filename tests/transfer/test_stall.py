"""The watchdog: what stands still is given up and tried again, what moves is let alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from ackpt.backends.base import MultipartBackend
from ackpt.backends.memory import MemoryBackend
from ackpt.checkpoint.staged import StagedFile
from ackpt.errors import InvalidOptionError, TransientError
from ackpt.options import KiB, TransferOptions
from ackpt.testing import FaultScript, On, Stall, inject
from ackpt.transfer.body import BytesBody
from ackpt.transfer.budget import Budget
from ackpt.transfer.context import Transfer
from ackpt.transfer.reliable import reliable
from ackpt.transfer.retry import Deadline, Retry
from ackpt.transfer.stall import Watch, WatchedBody
from ackpt.transfer.upload import upload_object

from .conftest import pattern
from .hand_clock import HandClock, longest

STALL_SECS = 0.05
DATA = pattern(200 * KiB)


@pytest.fixture
def impatient(clock: HandClock) -> Retry:
    return Retry(
        attempts=3,
        deadline=Deadline(300.0, clock=clock),
        stall_secs=STALL_SECS,
        sleep=clock.sleep,
        uniform=longest,
    )


async def _put(store: MultipartBackend) -> None:
    await store.put("y", BytesBody(DATA))


async def _get(store: MultipartBackend) -> None:
    assert b"".join([block async for block in store.get("x")]) == DATA


async def _head(store: MultipartBackend) -> None:
    assert (await store.head("x")).size == len(DATA)


async def _list(store: MultipartBackend) -> None:
    assert [info.key async for info in store.list()] == ["x"]


async def _delete(store: MultipartBackend) -> None:
    await store.delete("x")


async def _upload(store: MultipartBackend) -> None:
    upload = await store.create_upload("z")
    again = await store.open_upload("z", upload.id)
    receipt = await again.put_part(1, BytesBody(DATA))
    assert [part.number for part in await again.parts()] == [1]
    assert {info.key async for info in store.list_uploads()} == {"z"}
    await again.complete([receipt])
    await again.abort()


REQUESTS: dict[str, Callable[[MultipartBackend], Awaitable[None]]] = {
    "put": _put,
    "get": _get,
    "head": _head,
    "list": _list,
    "delete": _delete,
    "create_upload": _upload,
    "open_upload": _upload,
    "put_part": _upload,
    "parts": _upload,
    "list_uploads": _upload,
    "complete": _upload,
    "abort": _upload,
}


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("operation", REQUESTS)
async def test_a_request_that_stands_still_is_given_up_and_sent_again(
    operation: str, late: bool, impatient: Retry
) -> None:
    inner = MemoryBackend()
    await inner.put("x", BytesBody(DATA))
    never = asyncio.Event()
    script = FaultScript(On(fault=Stall(never, late=late), operation=operation))
    store = reliable(inject(inner, script), impatient)
    assert isinstance(store, MultipartBackend)
    async with asyncio.timeout(20):
        await REQUESTS[operation](store)
    stalled = [request for request in script.requests(operation) if request.fault == "Stall"]
    assert len(stalled) == 1
    assert stalled[0].outcome in ("CancelledError", "TransientError")


async def test_the_error_names_the_request_and_how_often_it_was_tried(impatient: Retry) -> None:
    script = FaultScript(On(fault=Stall(asyncio.Event()), operation="put_part", times=None))
    store = reliable(inject(MemoryBackend(), script), impatient)
    assert isinstance(store, MultipartBackend)
    upload = await store.create_upload("model.index")
    with pytest.raises(TransientError, match=r"part 7 of model.index: nothing moved for 0.05 s") as caught:
        await upload.put_part(7, BytesBody(DATA))
    assert caught.value.__notes__ == ["gave up on part 7 of model.index after 3 of 3 attempts in 1.5 s"]


async def test_what_moves_slowly_is_let_alone() -> None:
    async with Watch(STALL_SECS, what="it") as watch:
        async for _ in WatchedBody(BytesBody(pattern(1300 * KiB)), watch):
            await asyncio.sleep(STALL_SECS / 3)


async def test_a_wait_of_our_own_is_not_the_store_s(
    staged: Callable[[int], StagedFile], clock: HandClock
) -> None:
    budget = Budget(connections=1, memory_bytes=512 * KiB)
    retry = Retry(attempts=1, deadline=Deadline(1, clock=clock), stall_secs=STALL_SECS)
    transfer = Transfer(options=TransferOptions(), budget=budget, retry=retry)
    async with budget.memory(512 * KiB):
        sending = asyncio.create_task(upload_object(MemoryBackend(), staged(100 * KiB), transfer))
        await asyncio.sleep(STALL_SECS * 4)
        assert not sending.done()
    assert (await sending).size == 100 * KiB


async def test_a_cancellation_from_outside_stays_one() -> None:
    async def hang() -> None:
        async with Watch(30, what="it"):
            await asyncio.Event().wait()

    task = asyncio.create_task(hang())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_from_inside_stays_itself() -> None:
    with pytest.raises(TimeoutError, match="its own"):
        async with Watch(30, what="it"):
            raise TimeoutError("its own")


def test_no_time_at_all_is_refused() -> None:
    with pytest.raises(InvalidOptionError, match="stall_timeout"):
        Retry(attempts=1, deadline=Deadline(1), stall_secs=0)
    with pytest.raises(InvalidOptionError, match="stall_timeout"):
        TransferOptions(stall_secs=0)
