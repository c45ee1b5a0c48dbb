"""Uploads: the object is the file, nothing is sent twice for nothing, and nothing is left behind."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace

import pytest

from ackpt.backends.base import Condition, IfAbsent, IfVersion, ObjectInfo, PartLimits, PartReceipt
from ackpt.checkpoint.staged import StagedFile
from ackpt.errors import (
    AlreadyExistsError,
    ChecksumMismatchError,
    ConditionFailedError,
    LocalFileError,
    NotFoundError,
    PermissionDeniedError,
    StorageFullError,
    TransientError,
    UnsupportedError,
)
from ackpt.options import MiB
from ackpt.transfer.body import BytesBody
from ackpt.transfer.budget import Budget
from ackpt.transfer.checksum import crc32c
from ackpt.transfer.context import Transfer
from ackpt.transfer.rate import RateLimit
from ackpt.transfer.upload import upload_object

from .conftest import PART_BYTES, pattern
from .hand_clock import HandClock
from .scripted import PutOnlyBackend, ScriptedBackend, Turn, lost, refused

SMALL = 1000
LARGE = 4 * PART_BYTES + 17  # five parts
Stage = Callable[[int], StagedFile]


def stored(backend: ScriptedBackend, file: StagedFile) -> bytes:
    return backend.store.objects[file.key].data


def content(file: StagedFile) -> bytes:
    return file.path.read_bytes()


class Watch:
    """Count the requests in flight."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.most = 0

    async def __call__(self) -> None:
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        for _ in range(10):
            await asyncio.sleep(0)
        self.in_flight -= 1


@pytest.mark.parametrize("size", [0, 1, SMALL, PART_BYTES])
async def test_a_small_file_is_one_put(staged: Stage, transfer: Transfer, size: int) -> None:
    backend, file = ScriptedBackend(), staged(size)
    info = await upload_object(backend, file, transfer)
    assert backend.requests == ["put"]
    assert info == await backend.head(file.key)
    assert stored(backend, file) == content(file)


@pytest.mark.parametrize("size", [PART_BYTES + 1, LARGE])
async def test_a_large_file_is_sent_in_parts_and_is_the_same_there(
    staged: Stage, transfer: Transfer, size: int
) -> None:
    backend, file = ScriptedBackend(), staged(size)
    info = await upload_object(backend, file, transfer)
    assert info == await backend.head(file.key)
    assert info.crc32c == crc32c(content(file))
    assert stored(backend, file) == content(file)
    assert backend.requests.count("put_part") == -(-size // PART_BYTES)
    assert backend.store.uploads == {}


async def test_a_large_file_goes_to_a_store_without_parts_in_one_put(
    staged: Stage, transfer: Transfer
) -> None:
    backend, file = ScriptedBackend(), staged(LARGE)
    await upload_object(PutOnlyBackend(backend), file, transfer)
    assert backend.requests == ["put"]
    assert stored(backend, file) == content(file)


async def test_parts_are_sent_at_once_within_the_connections_of_the_budget(
    staged: Stage, transfer: Transfer
) -> None:
    watch = Watch()
    backend = ScriptedBackend(Turn(request="put_part", times=99, wait=watch))
    files = [staged(LARGE), replace(staged(LARGE), key="another")]
    await asyncio.gather(*[upload_object(backend, file, transfer) for file in files])
    assert watch.most == transfer.budget.connections == 3
    assert transfer.budget.connections_in_use == transfer.budget.memory_in_use == 0


async def test_small_files_are_sent_within_the_connections_of_the_budget(
    staged: Stage, transfer: Transfer
) -> None:
    watch, file = Watch(), staged(SMALL)
    backend = ScriptedBackend(Turn(request="put", times=99, wait=watch))
    await asyncio.gather(*[upload_object(backend, replace(file, key=f"x{n}"), transfer) for n in range(9)])
    assert watch.most == transfer.budget.connections == 3


async def test_a_store_that_takes_bytes_in_order_gets_the_parts_one_by_one(
    staged: Stage, transfer: Transfer
) -> None:
    watch, file = Watch(), staged(LARGE)
    backend = ScriptedBackend(refused("put_part", skip=1), Turn(request="put_part", times=99, wait=watch))
    backend.in_order = True
    await upload_object(backend, file, transfer)
    assert watch.most == 1
    assert stored(backend, file) == content(file)


async def test_parts_keep_the_limits_of_the_store(staged: Stage, transfer: Transfer) -> None:
    limits = PartLimits(min_part_bytes=1, max_part_bytes=10**9, max_parts=2)
    backend, file = ScriptedBackend(limits=limits), staged(LARGE)
    await upload_object(backend, file, transfer)
    assert backend.requests.count("put_part") == 2


async def test_a_file_larger_than_the_store_takes_is_refused_before_anything_is_sent(
    staged: Stage, transfer: Transfer
) -> None:
    backend = ScriptedBackend(limits=PartLimits(min_part_bytes=1, max_part_bytes=1000, max_parts=2))
    with pytest.raises(UnsupportedError, match="does not fit"):
        await upload_object(backend, staged(2001), transfer)
    assert backend.requests == []


@pytest.mark.parametrize("request_", ["create_upload", "put_part", "complete"])
@pytest.mark.parametrize("fault", [lost, refused])
async def test_an_upload_survives_any_one_failure_and_any_lost_reply(
    staged: Stage, transfer: Transfer, request_: str, fault: Callable[..., Turn]
) -> None:
    for skip in range(5 if request_ == "put_part" else 1):
        backend, file = ScriptedBackend(fault(request_, skip=skip)), staged(LARGE)
        info = await upload_object(backend, file, transfer, condition=IfAbsent())
        assert info == await backend.head(file.key)
        assert stored(backend, file) == content(file)
        assert backend.script.turns == []


async def test_the_upload_is_journalled_before_any_part_is_sent(staged: Stage, transfer: Transfer) -> None:
    backend = ScriptedBackend()
    seen: list[tuple[str, list[str]]] = []

    async def journal(upload_id: str) -> None:
        await asyncio.sleep(0)
        seen.append((upload_id, list(backend.requests)))

    await upload_object(backend, staged(LARGE), transfer, on_upload=journal)
    assert [requests for _, requests in seen] == [["create_upload"]]
    assert seen[0][0]


async def test_an_upload_that_cannot_be_journalled_is_aborted_even_if_it_should_be_kept(
    staged: Stage, transfer: Transfer
) -> None:
    async def journal(upload_id: str) -> None:
        raise OSError("no room for the journal")

    backend = ScriptedBackend()
    with pytest.raises(OSError, match="no room"):
        await upload_object(backend, staged(LARGE), transfer, keep_upload=True, on_upload=journal)
    assert backend.requests == ["create_upload", "abort"]
    assert backend.store.uploads == {}


async def test_an_upload_that_fills_the_store_is_not_kept_in_the_way_of_others(
    staged: Stage, transfer: Transfer
) -> None:
    backend = ScriptedBackend(Turn(request="put_part", skip=2, times=99, before=StorageFullError("full")))

    async def journal(upload_id: str) -> None:
        pass

    with pytest.raises(StorageFullError):
        await upload_object(backend, staged(LARGE), transfer, keep_upload=True, on_upload=journal)
    assert backend.store.uploads == {}


async def interrupted(
    backend: ScriptedBackend, file: StagedFile, transfer: Transfer, after_parts: int
) -> str:
    """Let an upload fail after some parts, and keep it; return its id."""
    ids: list[str] = []

    async def journal(upload_id: str) -> None:
        ids.append(upload_id)

    backend.script.turns = [
        Turn(request="put_part", skip=after_parts, times=99, before=PermissionDeniedError("no"))
    ]
    with pytest.raises(PermissionDeniedError):
        await upload_object(backend, file, transfer, keep_upload=True, on_upload=journal)
    assert "abort" not in backend.requests
    backend.script.turns.clear()
    backend.requests.clear()
    return ids[0]


async def test_a_resumed_upload_sends_only_what_is_missing(staged: Stage, transfer: Transfer) -> None:
    backend, file = ScriptedBackend(), staged(LARGE)
    upload_id = await interrupted(backend, file, transfer, after_parts=3)
    have = len(backend.store.uploads[upload_id].parts)
    progress: list[int] = []
    info = await upload_object(backend, file, transfer, upload_id=upload_id, on_progress=progress.append)
    assert have >= 1
    assert backend.requests.count("put_part") == 5 - have
    assert "create_upload" not in backend.requests
    assert stored(backend, file) == content(file)
    assert info.crc32c == crc32c(content(file))
    assert sum(progress) == LARGE


async def test_a_resumed_part_with_other_bytes_or_another_size_is_sent_again(
    staged: Stage, transfer: Transfer
) -> None:
    backend, file = ScriptedBackend(), staged(LARGE)
    upload = await backend.create_upload(file.key)
    await upload.put_part(1, BytesBody(content(file)[:PART_BYTES]))
    await upload.put_part(2, BytesBody(bytes(PART_BYTES)))
    await upload.put_part(3, BytesBody(content(file)[2 * PART_BYTES : 3 * PART_BYTES - 1]))
    await upload.put_part(9, BytesBody(b"of an older plan"))
    backend.requests.clear()
    await upload_object(backend, file, transfer, upload_id=upload.id)
    assert backend.requests.count("put_part") == 4
    assert stored(backend, file) == content(file)


def forget_checksums(receipts: list[PartReceipt]) -> list[PartReceipt]:
    return [replace(receipt, crc32c=None) for receipt in receipts]


async def test_a_resumed_part_without_a_checksum_is_not_sent_again(staged: Stage, transfer: Transfer) -> None:
    backend, file = ScriptedBackend(), staged(LARGE)
    upload_id = await interrupted(backend, file, transfer, after_parts=3)
    have = len(backend.store.uploads[upload_id].parts)
    backend.script.turns = [Turn(request="parts", alter=forget_checksums)]
    info = await upload_object(backend, file, transfer, upload_id=upload_id)
    assert backend.requests.count("put_part") == 5 - have
    assert stored(backend, file) == content(file)
    assert info.crc32c == crc32c(content(file))


async def test_what_is_read_back_for_want_of_a_checksum_keeps_to_the_rate(
    staged: Stage, transfer: Transfer, clock: HandClock
) -> None:
    backend, file = ScriptedBackend(), staged(LARGE)
    upload_id = await interrupted(backend, file, transfer, after_parts=3)
    backend.script.turns = [Turn(request="parts", alter=forget_checksums)]
    backend.reports_crc32c = False
    rate = RateLimit(LARGE / 10, clock=clock, sleep=clock.sleep)
    limited = replace(transfer, budget=Budget(connections=3, memory_bytes=8 * MiB, rate=rate))
    begun = clock.now
    await upload_object(backend, file, limited, upload_id=upload_id)
    assert "get" in backend.requests
    await rate.take(1)
    assert clock.now - begun >= 9.5  # without what is read again it is 4


@pytest.mark.parametrize("reports_crc32c", [True, False])
async def test_a_resumed_part_that_is_damaged_shows_in_the_whole_and_all_is_sent_again(
    staged: Stage, transfer: Transfer, reports_crc32c: bool
) -> None:
    backend, file = ScriptedBackend(), staged(LARGE)
    backend.reports_crc32c = reports_crc32c
    upload = await backend.create_upload(file.key)
    await upload.put_part(1, BytesBody(bytes(PART_BYTES)))
    backend.requests.clear()
    backend.script.turns = [Turn(request="parts", alter=forget_checksums)]
    info = await upload_object(backend, file, transfer, condition=IfAbsent(), upload_id=upload.id)
    assert backend.requests.count("put_part") == 4 + 5
    assert stored(backend, file) == content(file)
    assert info.crc32c == crc32c(content(file))


async def test_a_resumed_upload_that_has_expired_starts_again(staged: Stage, transfer: Transfer) -> None:
    backend, file = ScriptedBackend(), staged(LARGE)
    ids: list[str] = []

    async def journal(upload_id: str) -> None:
        ids.append(upload_id)

    await upload_object(backend, file, transfer, upload_id="long gone", on_upload=journal)
    assert len(ids) == 1
    assert stored(backend, file) == content(file)


async def test_a_resumed_upload_that_was_completed_is_not_sent_again(
    staged: Stage, transfer: Transfer
) -> None:
    backend, file = ScriptedBackend(), staged(LARGE)
    before = await upload_object(backend, file, transfer)
    backend.requests.clear()
    progress: list[int] = []
    info = await upload_object(
        backend, file, transfer, condition=IfAbsent(), upload_id="completed", on_progress=progress.append
    )
    assert info == before
    assert sum(progress) == LARGE
    assert "put_part" not in backend.requests


@pytest.mark.parametrize("request_", ["put_part", "complete"])
async def test_an_upload_that_expires_in_the_middle_starts_again_once(
    staged: Stage, transfer: Transfer, request_: str
) -> None:
    expired = Turn(request=request_, skip=0 if request_ == "complete" else 3, before=NotFoundError("expired"))
    backend, file = ScriptedBackend(replace(expired)), staged(LARGE)
    progress: list[int] = []
    await upload_object(backend, file, transfer, on_progress=progress.append)
    assert backend.requests.count("create_upload") == 2
    assert stored(backend, file) == content(file)
    assert sum(progress) == LARGE
    assert min(progress) < 0

    backend.script.turns = [replace(expired), replace(expired)]
    with pytest.raises(NotFoundError):
        await upload_object(backend, file, transfer)
    assert backend.store.uploads == {}


@pytest.mark.parametrize("keep", [False, True])
async def test_cancelling_aborts_the_upload_unless_it_is_kept(
    staged: Stage, transfer: Transfer, keep: bool
) -> None:
    stuck = asyncio.Event()
    backend = ScriptedBackend(Turn(request="put_part", skip=2, times=99, wait=stuck.wait))
    journalled = asyncio.Event()

    async def journal(upload_id: str) -> None:
        journalled.set()

    task = asyncio.create_task(
        upload_object(backend, staged(LARGE), transfer, keep_upload=keep, on_upload=journal)
    )
    await journalled.wait()
    while backend.requests.count("put_part") < 4:  # noqa: ASYNC110
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(backend.store.uploads) == keep
    assert transfer.budget.connections_in_use == transfer.budget.memory_in_use == 0
    assert len(asyncio.all_tasks()) == 1


async def test_a_second_cancellation_does_not_cut_the_abort_short(staged: Stage, transfer: Transfer) -> None:
    stuck, aborting, go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def hesitate() -> None:
        aborting.set()
        await go_on.wait()

    backend = ScriptedBackend(
        Turn(request="put_part", times=99, wait=stuck.wait), Turn(request="abort", wait=hesitate)
    )
    task = asyncio.create_task(upload_object(backend, staged(LARGE), transfer))
    while "put_part" not in backend.requests:  # noqa: ASYNC110
        await asyncio.sleep(0)
    task.cancel()
    await aborting.wait()
    task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert backend.store.uploads == {}


async def test_an_error_comes_out_plain_and_the_upload_is_aborted(staged: Stage, transfer: Transfer) -> None:
    backend = ScriptedBackend(Turn(request="put_part", skip=1, times=99, before=PermissionDeniedError("no")))
    with pytest.raises(PermissionDeniedError, match="no"):
        await upload_object(backend, staged(LARGE), transfer)
    assert backend.store.uploads == {}
    assert transfer.budget.connections_in_use == transfer.budget.memory_in_use == 0


async def test_an_abort_that_fails_is_a_note_of_the_error(staged: Stage, transfer: Transfer) -> None:
    backend = ScriptedBackend(
        Turn(request="put_part", times=99, before=PermissionDeniedError("no")),
        Turn(request="abort", before=PermissionDeniedError("nor that")),
    )
    with pytest.raises(PermissionDeniedError, match="no") as raised:
        await upload_object(backend, staged(LARGE), transfer)
    assert raised.value.__notes__[0].startswith("at part ")
    assert "was not aborted" in raised.value.__notes__[-1]


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_an_object_with_other_bytes_is_never_overwritten_by_a_create(
    staged: Stage, transfer: Transfer, size: int
) -> None:
    backend, file = ScriptedBackend(), staged(size)
    await backend.put(file.key, BytesBody(b"other"))

    async def journal(upload_id: str) -> None:
        pass

    with pytest.raises(AlreadyExistsError):
        await upload_object(
            backend, file, transfer, condition=IfAbsent(), keep_upload=True, on_upload=journal
        )
    assert stored(backend, file) == b"other"
    assert backend.store.uploads == {}  # no resume could mend it


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_a_create_of_what_is_there_already_is_success(
    staged: Stage, transfer: Transfer, size: int
) -> None:
    backend, file = ScriptedBackend(), staged(size)
    before = await upload_object(backend, file, transfer)
    progress: list[int] = []
    again = await upload_object(backend, file, transfer, condition=IfAbsent(), on_progress=progress.append)
    assert again == before
    assert sum(progress) == size
    assert backend.store.uploads == {}


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_a_replace_of_another_version_changes_nothing(
    staged: Stage, transfer: Transfer, size: int
) -> None:
    backend, file = ScriptedBackend(), staged(size)
    await backend.put(file.key, BytesBody(b"other"))
    with pytest.raises(ConditionFailedError):
        await upload_object(backend, file, transfer, condition=IfVersion("stale"))
    assert stored(backend, file) == b"other"


def damaged(info: ObjectInfo) -> ObjectInfo:
    assert info.crc32c is not None
    return replace(info, crc32c=info.crc32c ^ 1)


@pytest.mark.parametrize("condition", [None, IfAbsent()])
@pytest.mark.parametrize(("size", "request_"), [(SMALL, "put"), (LARGE, "complete")])
async def test_an_object_that_arrived_with_other_bytes_is_sent_again_over_itself(
    staged: Stage, transfer: Transfer, condition: Condition | None, size: int, request_: str
) -> None:
    backend, file = ScriptedBackend(Turn(request=request_, times=2, alter=damaged)), staged(size)
    progress: list[int] = []
    info = await upload_object(backend, file, transfer, condition=condition, on_progress=progress.append)
    assert info == await backend.head(file.key)
    assert backend.requests.count(request_) == 3
    assert sum(progress) == size


@pytest.mark.parametrize(("size", "request_"), [(SMALL, "put"), (LARGE, "complete")])
@pytest.mark.parametrize("alter", [damaged, lambda info: replace(info, size=info.size - 1)])
async def test_an_object_that_never_arrives_whole_is_an_error_that_names_both_sums(
    staged: Stage,
    transfer: Transfer,
    size: int,
    request_: str,
    alter: Callable[[ObjectInfo], ObjectInfo],
) -> None:
    backend, file = ScriptedBackend(Turn(request=request_, times=99, alter=alter)), staged(size)
    sent = crc32c(content(file))
    with pytest.raises(ChecksumMismatchError, match=f"{file.key}: sent {size} bytes with crc32c {sent:08x}"):
        await upload_object(backend, file, transfer)
    assert backend.requests.count(request_) == 3


async def test_parts_that_never_arrive_whole_are_not_sent_from_scratch(
    staged: Stage, transfer: Transfer
) -> None:
    def alter(receipt: PartReceipt) -> PartReceipt:
        return replace(receipt, crc32c=0)

    backend = ScriptedBackend(Turn(request="put_part", times=999, alter=alter))
    with pytest.raises(ChecksumMismatchError, match="part"):
        await upload_object(backend, staged(LARGE), transfer)
    assert backend.requests.count("create_upload") == 1
    assert backend.store.uploads == {}


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_a_store_without_checksums_is_compared_by_size_and_the_sum_is_ours(
    staged: Stage, transfer: Transfer, size: int
) -> None:
    backend, file = ScriptedBackend(), staged(size)
    backend.reports_crc32c = False
    info = await upload_object(backend, file, transfer)
    assert info.crc32c == crc32c(content(file))


async def test_progress_counts_what_the_store_has_acknowledged(staged: Stage, transfer: Transfer) -> None:
    progress: list[int] = []
    await upload_object(
        ScriptedBackend(lost("put_part")), staged(LARGE), transfer, on_progress=progress.append
    )
    assert sorted(progress) == [17, *[PART_BYTES] * 4]


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_a_file_that_is_not_what_was_staged_is_refused_before_anything_is_sent(
    staged: Stage, transfer: Transfer, size: int
) -> None:
    backend, file = ScriptedBackend(), staged(size)
    with pytest.raises(LocalFileError, match=f"expected {size + 1} bytes as they were staged, found {size}"):
        await upload_object(backend, replace(file, size=size + 1), transfer)
    os.unlink(file.path)
    with pytest.raises(LocalFileError, match="no such file"):
        await upload_object(backend, file, transfer)
    assert backend.requests == []


async def test_a_file_that_changes_between_two_parts_makes_no_object(
    staged: Stage, transfer: Transfer
) -> None:
    file = staged(LARGE)

    async def change() -> None:
        await asyncio.to_thread(file.path.write_bytes, pattern(LARGE, seed=2))
        os.utime(file.path, ns=(1, 1))

    backend = ScriptedBackend(Turn(request="put_part", skip=3, wait=change))
    with pytest.raises(LocalFileError, match="must not be touched"):
        await upload_object(backend, file, transfer)
    assert file.key not in backend.store.objects
    assert backend.store.uploads == {}


async def test_what_the_store_says_at_last_comes_out_with_a_note(staged: Stage, transfer: Transfer) -> None:
    backend = ScriptedBackend(refused("put_part", times=999))
    with pytest.raises(TransientError, match="busy") as raised:
        await upload_object(backend, staged(LARGE), transfer)
    assert "of model.ckpt-5.data-00000-of-00001 after 4 of 4 attempts" in raised.value.__notes__[0]


async def test_a_budget_of_less_than_one_part_slows_down_and_does_not_lock_up(
    staged: Stage, transfer: Transfer
) -> None:
    small = replace(transfer, budget=Budget(connections=8, memory_bytes=1))
    backend, file = ScriptedBackend(), staged(LARGE)
    async with asyncio.timeout(30):
        await upload_object(backend, file, small)
    assert stored(backend, file) == content(file)
