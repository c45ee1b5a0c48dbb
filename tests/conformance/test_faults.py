"""The fault-injecting backend: without faults it is no other, and each fault does what it says."""

from __future__ import annotations

import asyncio

import pytest

from ackpt.backends.base import (
    Backend,
    CopyingBackend,
    IfAbsent,
    MultipartBackend,
    SequentialUpload,
    SingleWriter,
)
from ackpt.backends.memory import MemoryBackend, MemoryStore, MemoryUpload
from ackpt.errors import AuthenticationError, NotFoundError, TransientError
from ackpt.testing import (
    BackendConformance,
    CorruptedGet,
    CorruptedPut,
    Crash,
    ExpiredToken,
    ExpiredUpload,
    Fails,
    FaultScript,
    FaultyBackend,
    FaultyMultipartBackend,
    LostReply,
    On,
    RandomFaults,
    Reset,
    SimulatedCrash,
    Slow,
    Stall,
    TruncatedGet,
    TruncatedPut,
    Unavailable,
    inject,
)
from ackpt.testing.faults import Fault
from ackpt.testing.law import MakeBackend, read
from ackpt.transfer.body import BytesBody
from ackpt.transfer.checksum import crc32c

DATA = b"the bytes of one object"


class TestFaultyWithoutFaults(BackendConformance):
    @pytest.fixture
    def make_backend(self) -> MakeBackend:
        store = MemoryStore()
        return lambda: inject(MemoryBackend(store, "run"), FaultScript())


def faulty(*lines: On) -> FaultyMultipartBackend:
    backend = inject(MemoryBackend(), FaultScript(*lines))
    assert isinstance(backend, FaultyMultipartBackend)
    return backend


async def put(backend: Backend, key: str = "object") -> None:
    await backend.put(key, BytesBody(DATA))


async def is_there(backend: FaultyBackend, key: str = "object") -> bool:
    return key in [info.key async for info in backend.inner.list()]


@pytest.mark.parametrize(
    ("fault", "error", "stored"),
    [
        (Unavailable(), TransientError, False),
        (Reset(), TransientError, False),
        (Reset(after_bytes=0), TransientError, False),
        (Reset(after_bytes=7), TransientError, False),
        (Reset(after_bytes=len(DATA)), TransientError, False),
        (LostReply(), TransientError, True),
        (ExpiredToken(), AuthenticationError, False),
        (Fails(lambda request: NotFoundError(request.key)), NotFoundError, False),
        (Fails(lambda request: NotFoundError(request.key), late=True), NotFoundError, True),
        (Crash(), SimulatedCrash, False),
        (Crash(late=True), SimulatedCrash, True),
    ],
    ids=repr,
)
async def test_a_fault_comes_before_or_after_the_effect(
    fault: Fault, error: type[BaseException], stored: bool
) -> None:
    backend = faulty(On(operation="put", fault=fault))
    with pytest.raises(error):
        await put(backend)
    assert await is_there(backend) is stored


async def test_a_fault_comes_once_and_the_retry_succeeds() -> None:
    backend = faulty(On(operation="put", fault=Unavailable(status=429, retry_after_secs=7.0)))
    with pytest.raises(TransientError, match="429") as caught:
        await put(backend)
    assert caught.value.retry_after_secs == 7.0
    await put(backend)
    assert [request.outcome for request in backend.script.log] == ["TransientError", "done"]
    assert [request.fault for request in backend.script.log] == ["Unavailable", None]


async def test_lines_pick_requests_by_operation_key_number_and_place_in_the_row() -> None:
    backend = faulty(
        On(operation="put", key="*.index", fault=Reset(), skip=1, times=2),
        On(operation="put_part", number=2, fault=Reset()),
    )
    results = []
    for key in ["a.index", "a.data", "b.index", "c.index", "d.index"]:
        try:
            await put(backend, key)
            results.append("done")
        except TransientError:
            results.append("reset")
    assert results == ["done", "done", "reset", "reset", "done"]
    upload = await backend.create_upload("object")
    await upload.put_part(1, BytesBody(DATA))
    with pytest.raises(TransientError):
        await upload.put_part(2, BytesBody(DATA))
    await upload.put_part(2, BytesBody(DATA))


async def test_unused_lines_are_told() -> None:
    script = FaultScript(On(operation="put", fault=Reset()), On(operation="delete", fault=Reset()))
    backend = inject(MemoryBackend(), script)
    with pytest.raises(TransientError):
        await put(backend)
    assert [line.operation for line in script.unused] == ["delete"]


async def test_a_lost_completion_has_completed() -> None:
    backend = faulty(On(operation="complete", fault=LostReply()))
    upload = await backend.create_upload("object")
    receipts = [await upload.put_part(1, BytesBody(DATA))]
    with pytest.raises(TransientError):
        await upload.complete(receipts, condition=IfAbsent())
    assert await is_there(backend)
    with pytest.raises(NotFoundError):
        await upload.complete(receipts, condition=IfAbsent())


async def test_an_expired_upload_is_not_found() -> None:
    backend = faulty(On(operation="put_part", number=2, fault=ExpiredUpload()))
    upload = await backend.create_upload("object")
    await upload.put_part(1, BytesBody(DATA))
    with pytest.raises(NotFoundError):
        await upload.put_part(2, BytesBody(DATA))
    with pytest.raises(NotFoundError):
        await upload.parts()


async def test_a_corrupted_put_keeps_and_reports_other_bytes() -> None:
    backend = faulty(On(operation="put*", fault=CorruptedPut(at=4), times=None))
    info = await backend.put("object", BytesBody(DATA))
    damaged = DATA[:4] + bytes([DATA[4] ^ 1]) + DATA[5:]
    assert (info.crc32c, info.size) == (crc32c(damaged), len(DATA))
    assert await read(backend, "object") == damaged
    upload = await backend.create_upload("other")
    assert (await upload.put_part(1, BytesBody(DATA))).crc32c == crc32c(damaged)


async def test_a_truncated_put_keeps_and_reports_fewer_bytes() -> None:
    backend = faulty(On(operation="put*", fault=TruncatedPut(7), times=None))
    info = await backend.put("object", BytesBody(DATA))
    assert (info.crc32c, info.size) == (crc32c(DATA[:7]), 7)
    assert await read(backend, "object") == DATA[:7]
    upload = await backend.create_upload("other")
    assert (await upload.put_part(1, BytesBody(DATA))).size == 7
    assert (await backend.put("empty", BytesBody(b""))).size == 0


@pytest.mark.parametrize("after_bytes", [0, 7, 200_000, 262_144, 300_000])
async def test_a_body_that_is_interrupted_gives_all_its_bytes_in_the_end(after_bytes: int) -> None:
    data = DATA * 20_000
    until = asyncio.Event()
    backend = faulty(On(operation="put", fault=Stall(until, after_bytes=after_bytes)))
    task = asyncio.create_task(backend.put("object", BytesBody(data)))
    await asyncio.wait({task}, timeout=0)
    assert not await is_there(backend)
    until.set()
    await task
    assert await read(backend, "object") == data


async def test_a_corrupted_get_gives_other_bytes_once() -> None:
    backend = faulty(On(operation="get", fault=CorruptedGet(at=3)))
    await put(backend)
    assert await read(backend, "object") == DATA[:3] + bytes([DATA[3] ^ 1]) + DATA[4:]
    assert await read(backend, "object") == DATA


async def test_a_truncated_get_breaks_off_or_ends_silently() -> None:
    backend = faulty(
        On(operation="get", fault=TruncatedGet(5)),
        On(operation="get", fault=TruncatedGet(5, silent=True)),
    )
    await put(backend)
    got: list[bytes] = []

    async def collect() -> None:
        async for block in backend.get("object"):
            got.append(block)

    with pytest.raises(TransientError):
        await collect()
    assert got == [DATA[:5]]
    assert await read(backend, "object") == DATA[:5]
    assert [request.size for request in backend.script.requests("get")] == [5, 5]


@pytest.mark.parametrize("late", [False, True])
async def test_a_stalled_request_waits_for_its_event_and_can_be_cancelled(late: bool) -> None:
    until = asyncio.Event()
    backend = faulty(On(operation="put", fault=Stall(until, late=late), times=2))
    tasks = [asyncio.create_task(put(backend, key)) for key in ("first", "second")]
    await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.wait(tasks, timeout=0)
    until.set()
    await tasks[1]
    assert tasks[0].cancelled()
    assert [request.outcome for request in backend.script.log] == ["CancelledError", "done"]
    assert await is_there(backend, "first") is late
    assert await is_there(backend, "second")


async def test_a_slow_request_sleeps_by_the_clock_given() -> None:
    slept = []

    async def sleep(secs: float) -> None:
        slept.append(secs)

    backend = faulty(On(operation="head", fault=Slow(30.0, sleep)))
    await put(backend)
    await backend.head("object")
    assert slept == [30.0]


async def test_after_a_crash_nothing_reaches_the_store() -> None:
    backend = faulty(On(operation="delete", fault=Crash()))
    await put(backend)
    upload = await backend.create_upload("other")
    with pytest.raises(SimulatedCrash):
        await backend.delete("object")
    for late in [
        put(backend, "late"),
        backend.head("object"),
        upload.put_part(1, BytesBody(DATA)),
        read(backend, "object"),
        backend.create_upload("late"),
    ]:
        with pytest.raises(SimulatedCrash):
            await late
    assert await is_there(backend)
    assert not await is_there(backend, "late")


async def test_the_log_counts_the_bytes_of_every_attempt() -> None:
    backend = faulty(On(operation="put", fault=Reset()))
    with pytest.raises(TransientError):
        await put(backend)
    await put(backend)
    assert backend.script.bytes_sent == 2 * len(DATA)


async def test_random_faults_are_the_same_for_the_same_seed() -> None:
    async def outcomes(seed: int) -> list[str]:
        backend = inject(MemoryBackend(), RandomFaults(seed, 0.3, [Unavailable(), LostReply()]))
        for number in range(100):
            try:
                await put(backend, f"object-{number}")
            except TransientError:
                continue
        return [request.fault or "" for request in backend.script.log]

    first = await outcomes(1)
    assert first == await outcomes(1) != await outcomes(2)
    assert 15 <= sum(map(bool, first)) <= 45
    assert set(first) == {"", "Unavailable", "LostReply"}


class Single(MemoryBackend, SingleWriter):
    pass


class InOrder(MemoryUpload, SequentialUpload):
    pass


class InOrderOnly(MemoryBackend):
    async def create_upload(self, key: str) -> InOrder:
        return InOrder(self, key, (await super().create_upload(key)).id)


async def test_what_the_inner_backend_can_do_stays_its_type() -> None:
    single = inject(Single(), FaultScript())
    assert isinstance(single, SingleWriter)
    assert isinstance(single, MultipartBackend)
    assert not isinstance(inject(MemoryBackend(), FaultScript()), SingleWriter)
    in_order = inject(InOrderOnly(), FaultScript())
    assert isinstance(in_order, MultipartBackend)
    assert isinstance(await in_order.create_upload("object"), SequentialUpload)


@pytest.mark.parametrize(("fault", "copied"), [(Reset(), False), (LostReply(), True)])
async def test_copies_take_faults_too(fault: Fault, copied: bool) -> None:
    backend = faulty(On(operation="copy", key="copy", fault=fault))
    assert isinstance(backend, CopyingBackend)
    await put(backend)
    source = await backend.head("object")
    with pytest.raises(TransientError):
        await backend.copy(source, "copy")
    assert await is_there(backend, "copy") is copied
    await backend.copy(source, "copy")
    assert [(r.key, r.fault, r.outcome) for r in backend.script.requests("copy")] == [
        ("copy", type(fault).__name__, "TransientError"),
        ("copy", None, "done"),
    ]
