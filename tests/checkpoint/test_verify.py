"""Verification: what the store no longer holds as promised is named, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from ackpt.backends.base import ObjectInfo
from ackpt.backends.memory import MemoryBackend
from ackpt.checkpoint.verify import Verdict, verify_run
from ackpt.testing import CorruptedGet, FaultScript, On, TruncatedGet, inject
from tests.checkpoint.stores import put
from tests.checkpoint.test_restore import commit

INDEX = "model.ckpt-2.index"


async def verdicts(backend: MemoryBackend, *, deep: bool = False) -> list[Verdict]:
    return [verdict async for verdict in verify_run(backend, deep=deep)]


@pytest.mark.parametrize("deep", [False, True])
async def test_what_is_whole_has_no_problems_newest_first(deep: bool) -> None:
    store = MemoryBackend()
    for step in (1, 2):
        await commit(store, step)
    found = await verdicts(store, deep=deep)
    assert [(each.step, each.problems) for each in found] == [(2, ()), (1, ())]
    assert [each.checked_bytes == each.size for each in found] == [deep, deep]


async def test_a_missing_object_is_named() -> None:
    store = MemoryBackend()
    await commit(store, 2)
    await store.delete(INDEX)
    assert [each.problems for each in await verdicts(store)] == [(f"{INDEX} is missing",)]


async def test_an_object_of_another_size_is_named() -> None:
    store = MemoryBackend()
    await commit(store, 2)
    await put(store, INDEX, b"")
    assert [each.problems for each in await verdicts(store)] == [(f"{INDEX} has 0 bytes, expected 10",)]


async def test_an_object_of_another_checksum_is_named() -> None:
    store = MemoryBackend()
    await commit(store, 2)
    await put(store, INDEX, b"INDEX of 2")
    (verdict,) = await verdicts(store)
    assert len(verdict.problems) == 1
    assert verdict.problems[0].startswith(f"{INDEX} has crc32c ")


@pytest.mark.parametrize("fault", [CorruptedGet(3), TruncatedGet(4, silent=True)])
async def test_bytes_that_metadata_vouches_for_wrongly_are_found_by_reading(
    fault: CorruptedGet | TruncatedGet,
) -> None:
    store = MemoryBackend()
    await commit(store, 2)
    faulty = inject(store, FaultScript(On(fault=fault, operation="get", key=INDEX, times=None)))
    assert [each.problems async for each in verify_run(faulty)] == [()]
    (problems,) = [each.problems async for each in verify_run(faulty, deep=True)]
    assert len(problems) == 1
    assert problems[0].startswith(f"{INDEX} reads as ")


async def test_an_object_that_cannot_be_read_is_a_problem_and_the_others_are_looked_at() -> None:
    """Real event: a disk behind a store that lists an object, and breaks off at its first byte, always."""
    store = MemoryBackend()
    for step in (1, 2):
        await commit(store, step)
    faulty = inject(store, FaultScript(On(fault=TruncatedGet(4), operation="get", key=INDEX, times=None)))
    newer, older = [each.problems async for each in verify_run(faulty, deep=True)]
    assert len(newer) == 1
    assert newer[0].startswith(f"{INDEX} cannot be read: ")
    assert older == ()


async def test_a_manifest_that_cannot_be_trusted_is_a_problem() -> None:
    store = MemoryBackend()
    await commit(store, 2)
    await put(store, "model.ckpt-2.manifest.json", b"{}")
    (verdict,) = await verdicts(store)
    assert "is not a manifest that can be trusted" in verdict.problems[0]


class Growing(MemoryBackend):
    """Get a new checkpoint right after the first listing."""

    listed = False

    async def list(self, prefix: str = "") -> AsyncGenerator[ObjectInfo, None]:
        async for info in super().list(prefix):
            yield info
        if not self.listed:
            self.listed = True
            await commit(self, 9)


async def test_a_checkpoint_that_is_committed_meanwhile_is_not_called_damaged() -> None:
    store = Growing()
    await commit(store, 2)
    assert [(each.step, each.problems) for each in await verdicts(store)] == [(2, ())]
