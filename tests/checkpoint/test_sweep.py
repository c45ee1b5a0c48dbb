"""The sweep: what dead writers left is found, all of it; what anybody else put there never is."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ackpt.backends.base import ObjectInfo, UploadInfo
from ackpt.backends.memory import MemoryBackend
from ackpt.checkpoint.hold import READER_EXPIRES, reading
from ackpt.checkpoint.intent import declare
from ackpt.checkpoint.lease import EXPIRES, end_lease, is_leased, renew_lease
from ackpt.checkpoint.sweep import Orphan, find_orphans, orphans, remove_orphans
from ackpt.transfer.body import BytesBody
from tests.checkpoint.stores import keys, put
from tests.checkpoint.test_restore import commit

DAY = timedelta(days=1)
LATER = datetime.now(UTC) + timedelta(days=3)


async def find(store: MemoryBackend, *, now: datetime = LATER) -> list[Orphan]:
    return await find_orphans(store, older_than=DAY, now=now)


async def half_sent(store: MemoryBackend, step: int, *, writer: str = "w") -> None:
    """Leave what a writer leaves that dies before it commits."""
    prefix = f"model.ckpt-{step}"
    await declare(store, prefix=prefix, writer=writer)
    await put(store, f"{prefix}.data-00000-of-00002")
    upload = await store.create_upload(f"{prefix}.data-00001-of-00002")
    await upload.put_part(1, BytesBody(b"abc"))


async def test_what_was_never_committed_is_found_and_removed_uploads_too() -> None:
    store = MemoryBackend()
    await commit(store, 1)
    kept = await keys(store)
    await half_sent(store, 2)
    found = await find(store)
    assert {(each.kind, each.key) for each in found} == {
        ("object", "model.ckpt-2.sending.json"),
        ("object", "model.ckpt-2.data-00000-of-00002"),
        ("upload", "model.ckpt-2.data-00001-of-00002"),
    }
    await remove_orphans(store, found)
    assert await keys(store) == kept
    assert [info async for info in store.list_uploads()] == []
    assert await find(store) == []


async def test_finding_removes_nothing() -> None:
    store = MemoryBackend()
    await half_sent(store, 2)
    before = await keys(store)
    await find(store)
    assert await keys(store) == before


async def test_what_is_accounted_for_is_removed_last_so_that_a_sweep_cut_short_goes_on() -> None:
    store = MemoryBackend()
    await half_sent(store, 2)
    found = await find(store)
    await remove_orphans(store, found[:1] if not found[0].key.endswith(".json") else found[1:2])
    again = await find(store)
    assert "model.ckpt-2.sending.json" in {each.key for each in again}
    assert len(again) == len(found) - 1


async def test_objects_without_an_intent_or_a_tombstone_are_somebody_elses() -> None:
    store = MemoryBackend()
    await put(store, "model.ckpt-2.data-00000-of-00002")
    await put(store, "notes.txt")
    upload = await store.create_upload("model.ckpt-3.data-00000-of-00001")
    assert await find(store) == []
    await upload.abort()


async def test_a_longer_step_that_begins_alike_is_left_alone() -> None:
    store = MemoryBackend()
    await half_sent(store, 2)
    await put(store, "model.ckpt-22.index")
    assert "model.ckpt-22.index" not in {each.key for each in await find(store)}


async def test_of_a_committed_checkpoint_only_the_left_over_intent_is_found() -> None:
    store = MemoryBackend()
    await commit(store, 2)
    await declare(store, prefix="model.ckpt-2", writer="w")
    assert [each.key for each in await find(store)] == ["model.ckpt-2.sending.json"]


async def test_a_deletion_cut_short_is_found() -> None:
    store = MemoryBackend()
    manifest = await commit(store, 2)
    await put(store, "model.ckpt-2.deleted.json", manifest.to_json())
    await store.delete(manifest.key)
    assert {each.key for each in await find(store)} == await keys(store)


async def test_of_a_deletion_cut_short_what_its_tombstone_does_not_let_go_of_is_left_alone() -> None:
    store = MemoryBackend()
    manifest = await commit(store, 2)
    adopted, *mine = manifest.objects
    manifest = replace(manifest, objects=(replace(adopted, adopted=True), *mine))
    await put(store, "model.ckpt-2.deleted.json", manifest.to_json())
    await put(store, "model.ckpt-2.notes", b"somebody's")
    await store.delete(manifest.key)
    await remove_orphans(store, await find(store))
    assert await keys(store) == {adopted.key, "model.ckpt-2.notes"}


async def test_a_tombstone_that_cannot_be_trusted_is_left_alone_with_all_that_lies_there() -> None:
    store = MemoryBackend()
    manifest = await commit(store, 2)
    await put(store, "model.ckpt-2.deleted.json", b"{")
    await store.delete(manifest.key)
    assert await find(store) == []


@pytest.mark.parametrize("touched", [None, "intent", "object", "upload"])
def test_what_was_touched_lately_in_any_part_is_left_alone(touched: str | None) -> None:
    now = datetime.now(UTC)
    times = {part: now if part == touched else now - 2 * DAY for part in ("intent", "object", "upload")}
    objects = [
        ObjectInfo(key="ckpt-2.sending.json", size=1, version="1", modified=times["intent"]),
        ObjectInfo(key="ckpt-2.index", size=1, version="1", modified=times["object"]),
    ]
    uploads = [UploadInfo(key="ckpt-2.data", upload_id="1", created=times["upload"])]
    found = orphans(objects, uploads, leased=False, before=now - DAY, readers_before=now - DAY)
    assert len(found) == (3 if touched is None else 0)


async def test_what_a_living_saver_may_be_sending_is_left_alone() -> None:
    store = MemoryBackend()
    await half_sent(store, 1, writer="dead")
    await commit(store, 2)
    await half_sent(store, 3)
    await renew_lease(store, writer="w")
    lively = datetime.now(UTC) + timedelta(minutes=1)
    found = await find_orphans(store, older_than=timedelta(0), now=lively)
    assert {each.key.split(".")[1] for each in found} == {"ckpt-1"}
    await end_lease(store, writer="w")
    found = await find_orphans(store, older_than=timedelta(0), now=lively)
    assert {each.key.split(".")[1] for each in found} == {"ckpt-1", "ckpt-3"}


async def test_the_lease_of_a_saver_that_is_gone_is_removed() -> None:
    store = MemoryBackend()
    await renew_lease(store, writer="w")
    assert await find_orphans(store, older_than=timedelta(0), now=datetime.now(UTC) + EXPIRES / 2) == []
    assert await find_orphans(store, older_than=3 * DAY, now=LATER) == []
    await remove_orphans(store, await find(store))
    assert await keys(store) == set()


async def test_a_lease_ends_by_its_age() -> None:
    store = MemoryBackend()
    assert not await is_leased(store)
    await renew_lease(store, writer="w")
    assert await is_leased(store)
    assert not await is_leased(store, now=datetime.now(UTC) + EXPIRES + timedelta(seconds=1))


async def test_the_hold_of_a_living_reader_stays_however_young_orphans_may_be() -> None:
    store = MemoryBackend()
    await commit(store, 1)
    soon = datetime.now(UTC) + timedelta(minutes=1)
    async with reading(store, "model.ckpt-1"):
        assert await find_orphans(store, older_than=timedelta(0), now=soon) == []
        gone = await find_orphans(store, older_than=timedelta(0), now=soon + READER_EXPIRES)
        assert [each.reason for each in gone] == ["its reader is gone"]


async def test_what_the_living_saver_says_it_is_sending_is_left_alone_at_any_step() -> None:
    """A training that went back sends steps below the newest that is committed."""
    store = MemoryBackend()
    await commit(store, 9)
    await half_sent(store, 2)
    await declare(store, prefix="model.ckpt-3", writer="dead")
    await renew_lease(store, writer="w")
    soon = datetime.now(UTC) + timedelta(minutes=1)
    found = await find_orphans(store, older_than=timedelta(0), now=soon)
    assert [each.key for each in found] == ["model.ckpt-3.sending.json"]


@pytest.mark.parametrize("how", ["sent again", "committed", "removed"])
async def test_what_somebody_has_taken_up_since_it_was_found_is_not_removed(how: str) -> None:
    store = MemoryBackend()
    await half_sent(store, 2)
    await half_sent(store, 3)
    await put(store, ".ackpt/holds/model.ckpt-1/reader-1.json")
    await renew_lease(store, writer="gone")
    found = await find(store)
    await declare(store, prefix="model.ckpt-2", writer="new")
    if how != "sent again":
        await store.delete("model.ckpt-2.sending.json")
    if how == "committed":
        await commit(store, 2)
    await renew_lease(store, writer="new")
    await put(store, ".ackpt/holds/model.ckpt-1/reader-1.json")
    before = await keys(store)
    await remove_orphans(store, found)
    assert await keys(store) == {key for key in before if not key.startswith("model.ckpt-3.")}
    assert [info.key async for info in store.list_uploads()] == ["model.ckpt-2.data-00001-of-00002"]


async def test_only_its_own_lease_is_ended() -> None:
    store = MemoryBackend()
    await renew_lease(store, writer="w")
    await end_lease(store, writer="another")
    assert await is_leased(store)
    await end_lease(store, writer="w")
    await end_lease(store, writer="w")
    assert not await is_leased(store)
