"""Retention against servers: a checkpoint of many shards goes in few requests, and in the right order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

import ackpt
from ackpt import Checkpointer, KeepLast
from ackpt.events import Committed
from tests.backends import az_support, s3_support
from tests.engine.runs import Pinned
from tests.servers.azure import AzureServer
from tests.servers.gcs import GCSServer
from tests.servers.s3 import S3Server

SHARDS = 120
RETRIES = "attempts=2&retry_timeout=5s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Be a server with a run in it: `log` are its requests, `names` what is there.

    `many` is the request that deletes many, `one` that deletes one; `batches` is how many of the first
    the shards take. `break_many` makes the next ones fail.
    """

    url: str
    log: Callable[[], Sequence[Any]]
    names: Callable[[], list[str]]
    break_many: Callable[[int], None]
    many: str
    one: str
    batches: int


@pytest.fixture(params=["s3", "gs", "az"])
def store(request: pytest.FixtureRequest) -> Store:
    match request.param:
        case "s3":
            s3: S3Server = request.getfixturevalue("s3_server")
            bucket = request.getfixturevalue("s3_bucket")
            return Store(
                url=s3_support.url_of(s3.url, bucket) + RETRIES,
                log=s3.log,
                names=lambda: s3.names(bucket),
                break_many=lambda count: s3.fault("DeleteObjects", "reset_before", count=count),
                many="DeleteObjects",
                one="DeleteObject",
                batches=1,
            )
        case "gs":
            gs: GCSServer = request.getfixturevalue("gs_server")
            bucket = request.getfixturevalue("gs_bucket")
            return Store(
                url=f"gs://{bucket}/run?anonymous=true&endpoint={gs.url}&{RETRIES}",
                log=gs.log,
                names=lambda: gs.names(bucket),
                break_many=lambda count: gs.fault("batch", "reset_before", count=count),
                many="batch",
                one="objects.delete",
                batches=2,
            )
    az: AzureServer = request.getfixturevalue("az_server")
    container = request.getfixturevalue("az_container")
    return Store(
        url=az_support.url_of(az.url, container) + RETRIES,
        log=az.log,
        names=lambda: az.names(container),
        break_many=lambda count: az.fault("BlobBatch", "reset_before", count=count),
        many="BlobBatch",
        one="DeleteBlob",
        batches=1,
    )


def sharded(step: int, shards: int = SHARDS) -> Pinned:
    data = {f"data-{n:05}-of-{shards:05}": b"%d of %d" % (n, step) for n in range(shards)}
    return Pinned(step, {**data, "index": b"index", "meta": b"graph"})


async def test_many_shards_are_deleted_in_few_requests_and_in_order(store: Store) -> None:
    async with Checkpointer(store.url, retention=KeepLast(1)) as checkpointer:
        for pinned in (sharded(1), sharded(2, 1)):
            assert isinstance(await (await checkpointer.submit(pinned)), Committed)
            await checkpointer.wait()
    entries = [each for each in store.log() if each.operation in (store.many, store.one)]
    deleted = [
        each.operation if each.operation == store.many else each.name.removeprefix("run/")
        for each in entries
        if each.operation == store.many or each.name.startswith("run/ckpt-1.")
    ]
    assert deleted == [
        "ckpt-1.sending.json",
        "ckpt-1.manifest.json",
        "ckpt-1.index",
        *[store.many] * store.batches,
        "ckpt-1.deleted.json",
    ]
    assert not [name for name in store.names() if name.startswith("run/ckpt-1.")]
    assert "run/ckpt-2.manifest.json" in store.names()


async def test_one_that_is_cut_short_shows_no_holes_and_is_finished_by_the_next_start(store: Store) -> None:
    async with Checkpointer(store.url, retention=KeepLast(1)) as checkpointer:
        assert isinstance(await (await checkpointer.submit(sharded(1))), Committed)
        store.break_many(2 * store.batches)
        assert isinstance(await (await checkpointer.submit(sharded(2, 1))), Committed)
        await checkpointer.wait()
    names = store.names()
    assert "run/ckpt-1.manifest.json" not in names
    assert "run/ckpt-1.index" not in names
    assert "run/ckpt-1.deleted.json" in names
    assert len([name for name in names if name.startswith("run/ckpt-1.data-")]) == SHARDS
    async with Checkpointer(store.url, retention=KeepLast(1)):
        assert not [name for name in store.names() if name.startswith("run/ckpt-1.")]
        assert "run/ckpt-2.manifest.json" in store.names()


async def test_what_other_tools_put_beside_the_shards_stays(store: Store) -> None:
    foreign = ["ckpt-1.data-00000-of-00120.bak", "ckpt-1", "ckpt-1.notes", "ckpt-10.data-00000-of-00001"]
    backend = ackpt.open_backend(store.url)
    try:
        for key in foreign:
            await backend.put(key, s3_support.body_of(b"theirs"))
    finally:
        await backend.aclose()
    async with Checkpointer(store.url, retention=KeepLast(1)) as checkpointer:
        for pinned in (sharded(1, 5), sharded(2, 1)):
            assert isinstance(await (await checkpointer.submit(pinned)), Committed)
            await checkpointer.wait()
    names = store.names()
    assert [name for name in names if name.startswith("run/ckpt-1") and "-1." in name] == [
        "run/ckpt-1.data-00000-of-00120.bak",
        "run/ckpt-1.notes",
    ]
    assert {f"run/{key}" for key in foreign} <= set(names)
