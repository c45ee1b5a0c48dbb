"""A reliable backend: every request is retried, lost replies are settled, broken streams go on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace

import pytest

from ackpt.backends.base import (
    Condition,
    IfAbsent,
    IfVersion,
    MultipartBackend,
    PartLimits,
    PartReceipt,
    SequentialUpload,
    SingleWriter,
)
from ackpt.errors import (
    AlreadyExistsError,
    ChecksumMismatchError,
    ConditionFailedError,
    NotFoundError,
    TransientError,
    UnsupportedError,
)
from ackpt.options import KiB, MiB
from ackpt.transfer.body import BytesBody
from ackpt.transfer.checksum import crc32c
from ackpt.transfer.reliable import reliable
from ackpt.transfer.retry import Retry
from ackpt.url import StorageURL

from .conftest import pattern
from .hand_clock import HandClock
from .scripted import PutOnlyBackend, ScriptedBackend, ScriptedSingleWriter, Turn, lost, refused

DATA = pattern(700 * KiB)


def multipart(backend: ScriptedBackend, retry: Retry) -> MultipartBackend:
    wrapped = reliable(backend, retry)
    assert isinstance(wrapped, MultipartBackend)
    return wrapped


async def fetch(backend: MultipartBackend, key: str, start: int = 0, stop: int | None = None) -> bytes:
    async with aclosing(backend.get(key, start, stop)) as blocks:
        return b"".join([block async for block in blocks])


async def test_what_a_backend_is_able_to_do_stays_its_type(retry: Retry) -> None:
    plain = reliable(PutOnlyBackend(ScriptedBackend()), retry)
    assert not isinstance(plain, MultipartBackend | SingleWriter)
    limits = PartLimits(min_part_bytes=1, max_part_bytes=MiB, max_parts=7)
    whole = reliable(ScriptedSingleWriter(limits=limits), retry)
    assert isinstance(whole, MultipartBackend)
    assert isinstance(whole, SingleWriter)
    assert whole.limits is limits
    assert not isinstance(reliable(ScriptedBackend(), retry), SingleWriter)


@pytest.mark.parametrize("in_order", [False, True])
async def test_an_upload_in_order_stays_one(retry: Retry, in_order: bool) -> None:
    backend = ScriptedBackend()
    backend.in_order = in_order
    upload = await multipart(backend, retry).create_upload("x")
    again = await multipart(backend, retry).open_upload("x", upload.id)
    assert isinstance(upload, SequentialUpload) is isinstance(again, SequentialUpload) is in_order


async def test_wrapping_twice_does_not_multiply_the_attempts(retry: Retry) -> None:
    backend = ScriptedBackend(refused("head", times=100))
    with pytest.raises(TransientError):
        await reliable(reliable(backend, retry), retry).head("x")
    assert backend.requests == ["head"] * retry.attempts


def test_a_wrapper_is_not_opened_by_url(retry: Retry) -> None:
    with pytest.raises(UnsupportedError):
        type(reliable(ScriptedBackend(), retry)).from_url(StorageURL.parse("memory://x"))


Request = Callable[[MultipartBackend], Awaitable[object]]


async def _put(backend: MultipartBackend) -> object:
    return await backend.put("x", BytesBody(DATA))


async def _put_new(backend: MultipartBackend) -> object:
    return await backend.put("new", BytesBody(DATA), condition=IfAbsent())


async def _head(backend: MultipartBackend) -> object:
    return await backend.head("there")


async def _delete(backend: MultipartBackend) -> object:
    await backend.delete("there")
    return None


async def _get(backend: MultipartBackend) -> object:
    return await fetch(backend, "there")


async def _list(backend: MultipartBackend) -> object:
    return [info async for info in backend.list()]


async def _create(backend: MultipartBackend) -> object:
    return (await backend.create_upload("x")).key


@pytest.mark.parametrize(
    ("name", "request_"),
    [
        ("put", _put),
        ("put", _put_new),
        ("head", _head),
        ("delete", _delete),
        ("get", _get),
        ("list", _list),
        ("create_upload", _create),
    ],
)
@pytest.mark.parametrize("fault", [lost, refused])
async def test_every_request_survives_failures_and_lost_replies(
    retry: Retry, name: str, request_: Request, fault: Callable[..., Turn]
) -> None:
    backend = ScriptedBackend()
    await backend.put("there", BytesBody(DATA))
    backend.script.turns = [fault(name), fault(name)]
    await request_(multipart(backend, retry))
    assert backend.script.turns == []
    assert backend.requests.count(name) >= 3


@pytest.mark.parametrize("reports", [True, False])
async def test_a_create_whose_reply_was_lost_is_known_by_its_content(retry: Retry, reports: bool) -> None:
    backend = ScriptedBackend(lost("put"))
    backend.reports_crc32c = reports
    info = await reliable(backend, retry).put("x", BytesBody(DATA), condition=IfAbsent())
    assert info == await backend.head("x")
    assert ("get" in backend.requests) is not reports  # read back where the store keeps no checksum


async def test_a_replace_whose_reply_was_lost_is_known_by_its_content(retry: Retry) -> None:
    backend = ScriptedBackend()
    old = await backend.put("x", BytesBody(b"old"))
    backend.script.turns = [lost("put")]
    info = await reliable(backend, retry).put("x", BytesBody(DATA), condition=IfVersion(old.version))
    assert (info.size, info.crc32c) == (len(DATA), crc32c(DATA))


@pytest.mark.parametrize(
    ("other", "reports"), [(b"other", True), (bytes(len(DATA)), True), (bytes(len(DATA)), False)]
)
@pytest.mark.parametrize("condition", [IfAbsent(), IfVersion("none")])
async def test_an_object_of_somebody_else_is_never_taken_for_ours(
    retry: Retry, other: bytes, reports: bool, condition: Condition
) -> None:
    backend = ScriptedBackend()
    backend.reports_crc32c = reports
    await backend.put("x", BytesBody(other))
    backend.script.turns = [refused("put")]
    with pytest.raises(ConditionFailedError):
        await reliable(backend, retry).put("x", BytesBody(DATA), condition=condition)
    assert backend.store.objects["x"].data == other


async def test_a_condition_that_fails_at_once_is_not_questioned(retry: Retry) -> None:
    backend = ScriptedBackend()
    await backend.put("x", BytesBody(DATA))  # the very same bytes
    with pytest.raises(AlreadyExistsError):
        await reliable(backend, retry).put("x", BytesBody(DATA), condition=IfAbsent())


async def test_settling_is_itself_retried(retry: Retry) -> None:
    backend = ScriptedBackend(lost("put"), refused("head"), refused("get"))
    backend.reports_crc32c = False
    info = await reliable(backend, retry).put("x", BytesBody(DATA), condition=IfAbsent())
    assert info.size == len(DATA)


@pytest.mark.parametrize("block_bytes", [1 * KiB, 100 * KiB])
@pytest.mark.parametrize(("start", "stop"), [(0, None), (5, 500 * KiB), (0, len(DATA))])
async def test_a_stream_that_breaks_goes_on_where_it_broke(
    retry: Retry, block_bytes: int, start: int, stop: int | None
) -> None:
    breaks = [Turn(request="get", skip=n, before=TransientError("broken")) for n in (2, 0, 1, 0, 0)]
    backend = ScriptedBackend(block_bytes=block_bytes)
    await backend.put("x", BytesBody(DATA))
    backend.script.turns = breaks
    assert await fetch(multipart(backend, retry), "x", start, stop) == DATA[start:stop]
    assert backend.requests.count("get") == 6


async def test_a_stream_that_breaks_without_progress_is_given_up(retry: Retry) -> None:
    backend = ScriptedBackend()
    await backend.put("x", BytesBody(DATA))
    backend.script.turns = [Turn(request="get", skip=0, before=TransientError("broken")) for _ in range(9)]
    with pytest.raises(TransientError, match="broken") as raised:
        await fetch(multipart(backend, retry), "x")
    assert backend.requests.count("get") == retry.attempts
    assert "gave up on get of x after 4 of 4 attempts" in raised.value.__notes__[0]


async def test_a_stream_that_breaks_after_its_last_byte_still_ends(retry: Retry) -> None:
    backend = ScriptedBackend(Turn(request="get", skip=99, before=TransientError("broken")))
    await backend.put("x", BytesBody(b"short"))
    assert await fetch(multipart(backend, retry), "x") == b"short"


async def test_bytes_that_come_in_renew_the_deadline(retry: Retry, clock: HandClock) -> None:
    backend = ScriptedBackend()
    await backend.put("x", BytesBody(DATA))
    left = []
    async for _ in reliable(backend, retry).get("x"):
        left.append(retry.deadline.left_secs(0))
        clock.now += 200
    assert set(left) == {300.0}


async def test_a_stream_that_is_left_behind_or_cancelled_is_closed(retry: Retry) -> None:
    backend = ScriptedBackend()
    await backend.put("x", BytesBody(DATA))
    async with aclosing(reliable(backend, retry).get("x")) as blocks:
        await anext(blocks)
    assert backend.closed_streams == 1
    stuck = asyncio.Event()
    backend.script.turns = [Turn(request="get", skip=1, wait=stuck.wait)]
    task = asyncio.create_task(fetch(multipart(backend, retry), "x"))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert backend.closed_streams == 2


async def test_an_absent_object_is_not_asked_for_again(retry: Retry) -> None:
    backend = ScriptedBackend()
    with pytest.raises(NotFoundError):
        await fetch(multipart(backend, retry), "x")
    assert backend.requests == ["get"]


@pytest.mark.parametrize("breaks", [[0], [3], [10, 4, 7, 0]])
async def test_a_listing_that_breaks_has_no_duplicates_and_no_holes(retry: Retry, breaks: list[int]) -> None:
    backend = ScriptedBackend()
    keys = [f"x{n:02}" for n in range(10)]
    for key in keys:
        await backend.put(key, BytesBody(b""))
    backend.script.turns = [Turn(request="list", skip=n, before=TransientError("broken")) for n in breaks]
    assert [info.key async for info in reliable(backend, retry).list("x")] == keys
    assert backend.script.turns == []


async def test_uploads_are_listed_through_breaks(retry: Retry) -> None:
    backend = multipart(ScriptedBackend(), retry)
    ids = [(await backend.create_upload("x")).id for _ in range(3)]
    assert [info.upload_id async for info in backend.list_uploads("x")] == ids


async def test_a_part_with_a_wrong_receipt_is_sent_again(retry: Retry) -> None:
    wrong = [
        lambda receipt: replace(receipt, crc32c=receipt.crc32c ^ 1),
        lambda receipt: replace(receipt, size=receipt.size - 1),
    ]
    backend = ScriptedBackend(*[Turn(request="put_part", alter=alter) for alter in wrong])
    upload = await multipart(backend, retry).create_upload("x")
    receipt = await upload.put_part(1, BytesBody(DATA))
    assert receipt.crc32c == crc32c(DATA)
    assert backend.requests.count("put_part") == 3


async def test_a_part_that_never_arrives_whole_is_an_error_that_names_both_sums(retry: Retry) -> None:
    def alter(receipt: PartReceipt) -> PartReceipt:
        return replace(receipt, crc32c=1)

    backend = ScriptedBackend(Turn(request="put_part", times=99, alter=alter))
    upload = await multipart(backend, retry).create_upload("x")
    with pytest.raises(ChecksumMismatchError, match=rf"part 1 of x.*{crc32c(DATA):08x}.*00000001"):
        await upload.put_part(1, BytesBody(DATA))


@pytest.mark.parametrize("condition", [None, IfAbsent()])
async def test_a_completion_whose_reply_was_lost_is_known_by_its_content(
    retry: Retry, condition: Condition | None
) -> None:
    backend = ScriptedBackend(lost("complete"))
    upload = await multipart(backend, retry).create_upload("x")
    receipts = [await upload.put_part(n, BytesBody(DATA)) for n in (1, 2)]
    info = await upload.complete(receipts, condition=condition)
    assert info == await backend.head("x")
    assert info.crc32c == crc32c(DATA + DATA)


async def test_a_resumed_completion_is_known_by_the_sums_of_the_store_s_receipts(retry: Retry) -> None:
    backend = ScriptedBackend(lost("complete"))
    wrapped = multipart(backend, retry)
    upload = await wrapped.create_upload("x")
    await upload.put_part(1, BytesBody(DATA))
    again = await wrapped.open_upload("x", upload.id)
    assert (await again.complete(await again.parts())).crc32c == crc32c(DATA)


async def test_an_upload_that_is_gone_is_not_taken_for_completed(retry: Retry) -> None:
    backend = ScriptedBackend(refused("complete"))
    await backend.put("x", BytesBody(bytes(len(DATA))))
    upload = await multipart(backend, retry).create_upload("x")
    receipts = [await upload.put_part(1, BytesBody(DATA))]
    backend.store.uploads.clear()
    with pytest.raises(NotFoundError):
        await upload.complete(receipts)


async def test_abort_is_retried_and_idempotent(retry: Retry) -> None:
    backend = ScriptedBackend(lost("abort"), refused("abort"))
    upload = await multipart(backend, retry).create_upload("x")
    await upload.abort()
    await upload.abort()
    assert backend.store.uploads == {}
