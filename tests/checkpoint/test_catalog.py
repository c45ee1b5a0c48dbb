"""The catalog: what a listing shows as committed, and nothing that only looks like it."""

from __future__ import annotations

import pytest

from ackpt.backends.memory import MemoryBackend
from ackpt.checkpoint.catalog import Entry, list_entries, load_manifest
from ackpt.errors import CorruptCheckpointError, NotFoundError
from tests.checkpoint.manifests import manifest
from tests.checkpoint.stores import put, put_checkpoint


async def test_entries_come_in_order_of_their_steps_and_not_of_their_names() -> None:
    backend = MemoryBackend()
    for step in (10, 9, 100, 0):
        await put_checkpoint(backend, manifest(step))
    entries = await list_entries(backend)
    assert [each.step for each in entries] == [0, 9, 10, 100]
    assert entries[0].key == "model.ckpt-0.manifest.json"


async def test_only_those_of_the_name_are_listed() -> None:
    backend = MemoryBackend()
    for name in ("ckpt", "ckpt-2", "ckpt-x", "ck", "ckpt2"):
        await put_checkpoint(backend, manifest(2, name=name))
    assert [each.prefix for each in await list_entries(backend, name="ckpt")] == ["ckpt-2"]
    assert [each.prefix for each in await list_entries(backend, name="ckpt-2")] == ["ckpt-2-2"]
    assert len(await list_entries(backend)) == 5


@pytest.mark.parametrize(
    "key",
    [
        "manifest.json",
        ".manifest.json",
        "ckpt.manifest.json",
        "ckpt-.manifest.json",
        "ckpt-05.manifest.json",
        "ckpt--5x.manifest.json",
        "-5.manifest.json",
        "ckpt-5.manifest.json.deleted.json",
        "ckpt-5.sending.json",
        "ckpt-5.deleted.json",
        "ckpt-5.index",
        "below/ckpt-5.manifest.json",
        "ckpt-5.MANIFEST.JSON",
    ],
)
async def test_an_object_that_only_looks_like_a_manifest_is_no_checkpoint(key: str) -> None:
    backend = MemoryBackend()
    await put(backend, key)
    assert await list_entries(backend) == []
    assert await list_entries(backend, name="ckpt") == []


async def test_a_manifest_is_loaded_and_a_damaged_or_absent_one_is_not() -> None:
    backend = MemoryBackend()
    await put_checkpoint(backend, manifest(5))
    assert await load_manifest(backend, Entry(step=5, prefix="model.ckpt-5")) == manifest(5)
    with pytest.raises(NotFoundError):
        await load_manifest(backend, Entry(step=6, prefix="model.ckpt-6"))
    await put(backend, "model.ckpt-7.manifest.json", manifest(5).to_json())
    with pytest.raises(CorruptCheckpointError, match=r"model.ckpt-7.*it says it is 'model.ckpt-5"):
        await load_manifest(backend, Entry(step=7, prefix="model.ckpt-7"))
