"""Deletion: no moment at which a reader sees a committed checkpoint with holes, and no half left for good."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from ackpt.backends.base import Backend
from ackpt.backends.memory import MemoryBackend
from ackpt.checkpoint.catalog import list_entries, load_manifest
from ackpt.checkpoint.delete import delete_checkpoint, finish_deletions
from ackpt.checkpoint.manifest import Manifest, ManifestObject
from ackpt.testing import Fault, FaultScript, On, Request, inject
from tests.checkpoint.manifests import manifest
from tests.checkpoint.stores import keys, put, put_checkpoint


class Killed(BaseException):
    """Stand for the death of the process."""


def many(step: int = 5) -> Manifest:
    """Make a manifest of more objects than are deleted at once."""
    prefix = f"model.ckpt-{step}"
    names = [f"data-{n:05}-of-00020" for n in range(20)] + ["index", "meta"]
    return replace(
        manifest(step),
        objects=tuple(ManifestObject(key=f"{prefix}.{n}", size=3, crc32c=1, version="1") for n in names),
    )


async def holes(backend: Backend) -> list[str]:
    """Return what committed checkpoints name and the store does not have."""
    there = await keys(backend)
    return [
        each.key
        for entry in await list_entries(backend)
        for each in (await load_manifest(backend, entry)).objects
        if each.key not in there
    ]


async def test_only_what_the_manifest_names_is_deleted() -> None:
    backend = MemoryBackend()
    await put_checkpoint(backend, many(5))
    await put_checkpoint(backend, many(50))
    foreign = {
        "model.ckpt-5.foreign",
        "model.ckpt-5/foreign",
        "checkpoint",
        "graph.pbtxt",
        "model.ckpt-4.index",
    }
    for key in foreign:
        await put(backend, key)
    await delete_checkpoint(backend, many(5))
    assert await keys(backend) == foreign | {each.key for each in many(50).objects} | {many(50).key}


@pytest.mark.parametrize("at_once", [1, 4, 1000])
async def test_a_kill_at_any_request_leaves_no_holes_and_the_next_start_finishes(at_once: int) -> None:
    class Kill(Fault):
        async def before(self, request: Request) -> None:
            raise Killed

    class KillLate(Fault):
        async def after(self, request: Request) -> None:
            raise Killed

    requests = 0
    while True:
        for fault in (Kill(), KillLate()):
            backend = MemoryBackend()
            backend.delete_limit = at_once
            await put_checkpoint(backend, many())
            script = FaultScript(On(fault=fault, skip=requests))
            try:
                await delete_checkpoint(inject(backend, script), many())
            except* Killed:
                pass
            assert await holes(backend) == []
            begun = "model.ckpt-5.deleted.json" in await keys(backend)
            assert await finish_deletions(backend, name="model.ckpt") == (["model.ckpt-5"] if begun else [])
            left = await keys(backend)
            assert left in (set(), {each.key for each in many().objects} | {many().key})
            assert await finish_deletions(backend, name="model.ckpt") == []
        if script.unused:
            break
        requests += 1
    index_and_accounts = 4
    assert requests == index_and_accounts + math.ceil((len(many().objects) - 1) / at_once)


async def test_a_step_that_was_saved_again_since_is_kept() -> None:
    backend = MemoryBackend()
    await put(backend, "model.ckpt-5.deleted.json", manifest().to_json())
    again = replace(manifest(), writer="again")
    await put_checkpoint(backend, again)
    before = await keys(backend)
    assert await finish_deletions(backend, name="model.ckpt") == []
    assert await keys(backend) == before - {"model.ckpt-5.deleted.json"}


async def test_deletions_of_another_name_are_not_touched() -> None:
    backend = MemoryBackend()
    await put(backend, "other-5.deleted.json", manifest(name="other").to_json())
    await put(backend, "model.ckpt-x-5.deleted.json", manifest(name="model.ckpt-x").to_json())
    before = await keys(backend)
    assert await finish_deletions(backend, name="model.ckpt") == []
    assert await keys(backend) == before


@pytest.mark.parametrize(
    "tombstone",
    [
        b"garbage",
        manifest(6).to_json(),
        manifest(5).to_json().replace(b"model.ckpt-5.index", b"model.ckpt-5/../x"),
        manifest(5).to_json().replace(b"model.ckpt-5.index", b"precious"),
    ],
)
async def test_a_tombstone_that_cannot_be_trusted_deletes_nothing_and_stops_no_other(
    tombstone: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    backend = MemoryBackend()
    await put_checkpoint(backend, manifest(5))
    await put(backend, "precious")
    await put(backend, "model.ckpt-5.deleted.json", tombstone)
    before = await keys(backend)
    await put_checkpoint(backend, manifest(7))
    await put(backend, "model.ckpt-7.deleted.json", manifest(7).to_json())
    assert await finish_deletions(backend, name="model.ckpt") == ["model.ckpt-7"]
    assert await keys(backend) == before
    assert "model.ckpt-5.deleted.json" in caplog.text
