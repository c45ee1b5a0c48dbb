"""An upload that is cancelled, wherever it waits just then, leaves nothing open behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import pytest

from ackpt.backends.base import IfAbsent
from ackpt.backends.memory import MemoryBackend
from ackpt.checkpoint.staged import StagedFile
from ackpt.testing import FaultScript, LostReply, On, Reset, inject
from ackpt.transfer.context import Transfer
from ackpt.transfer.upload import upload_object
from tests.cancelling import Awaits, Waits

from .conftest import PART_BYTES, pattern

Stage = Callable[[int], StagedFile]
LARGE = 2 * PART_BYTES + 17
FAULTS = {
    "no fault": (),
    "a part is sent again": (On(operation="put_part", number=2, fault=Reset()),),
    "the completion's reply is lost": (On(operation="complete", fault=LostReply()),),
}


@pytest.mark.parametrize("lines", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("journaled", [False, True])
async def test_an_upload_cancelled_at_any_await_leaves_no_open_upload(
    staged: Stage, transfer: Transfer, lines: tuple[On, ...], journaled: bool
) -> None:
    file, data = staged(LARGE), pattern(LARGE)
    at, reached = 0, True
    while reached:
        at += 1
        store = MemoryBackend()
        backend = inject(store, FaultScript(*lines, On(fault=Waits(), times=None)))

        async def record(upload_id: str) -> None:
            await asyncio.sleep(0)

        with Awaits(at) as awaits:
            task = asyncio.ensure_future(
                upload_object(
                    backend,
                    file,
                    transfer,
                    condition=IfAbsent(),
                    on_upload=record if journaled else None,
                )
            )
            awaits.then = task.cancel
            with suppress(asyncio.CancelledError):
                await task
        reached = awaits.reached
        assert store.store.uploads == {}, f"an upload is open after a cancellation at await {at}"
        assert [stored.data for stored in store.store.objects.values()] in ([], [data]), at
        assert task.cancelled() or store.store.objects, at
    assert not task.cancelled()
    assert at > 12


async def test_a_cancelled_beginning_waits_for_the_uploads_id_and_drops_it(
    staged: Stage, transfer: Transfer
) -> None:
    store = MemoryBackend()
    begun = asyncio.Event()

    class Slow(Waits):
        async def after(self, request: object) -> None:
            begun.set()
            for _ in range(50):
                await asyncio.sleep(0)

    script = FaultScript(On(operation="create_upload", fault=Slow()))
    task = asyncio.ensure_future(upload_object(inject(store, script), staged(LARGE), transfer))
    await begun.wait()
    assert len(store.store.uploads) == 1
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert store.store.uploads == {}


async def test_a_cancelled_beginning_that_fails_ends_as_cancelled(staged: Stage, transfer: Transfer) -> None:
    store = MemoryBackend()
    begun = asyncio.Event()

    class Fails(Reset):
        async def before(self, request: object) -> None:
            begun.set()
            await asyncio.sleep(0)
            await super().before(request)

    script = FaultScript(On(operation="create_upload", fault=Fails()))
    task = asyncio.ensure_future(upload_object(inject(store, script), staged(LARGE), transfer))
    await begun.wait()
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert [request.operation for request in script.log] == ["create_upload"]
