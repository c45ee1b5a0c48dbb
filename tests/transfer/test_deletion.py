"""Deletion of many objects: in batches, again where it failed in passing, one by one where it must be."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing

import pytest

from ackpt.backends.base import Backend
from ackpt.backends.memory import MemoryBackend
from ackpt.errors import PermissionDeniedError, StorageError, TransientError, UnsupportedError
from ackpt.testing import FaultScript, LostReply, On, Stall, Unavailable, inject
from ackpt.transfer.body import BytesBody
from ackpt.transfer.deletion import delete_all
from ackpt.transfer.reliable import reliable
from ackpt.transfer.retry import Deadline, Retry

from .scripted import PutOnlyBackend

KEYS = [f"key-{n}" for n in range(25)]


class RefusingSome(MemoryBackend):
    """Be a store that refuses some of the keys of a deletion: `refused`, each as often as it says."""

    def __init__(self, refused: dict[str, list[StorageError]], delete_limit: int = 1000) -> None:
        super().__init__()
        self.delete_limit = delete_limit
        self.refused = refused
        self.asked: list[list[str]] = []

    async def delete_many(self, keys: Sequence[str]) -> Mapping[str, StorageError]:
        self.asked.append(list(keys))
        errors = {key: self.refused[key].pop() for key in keys if self.refused.get(key)}
        await super().delete_many([key for key in keys if key not in errors])
        return errors


class WithoutBatches(MemoryBackend):
    """Be a store that turns out not to know requests for many."""

    async def delete_many(self, keys: Sequence[str]) -> Mapping[str, StorageError]:
        raise UnsupportedError("no such request", key=keys[0])


async def fill(backend: Backend) -> None:
    for key in [*KEYS, "another"]:
        await backend.put(key, BytesBody(b"x"))


async def listed(backend: Backend) -> list[str]:
    async with aclosing(backend.list()) as infos:
        return [info.key async for info in infos]


@pytest.mark.parametrize(("limit", "sizes"), [(1000, [25]), (10, [5, 10, 10]), (25, [25]), (24, [1, 24])])
async def test_no_request_names_more_keys_than_the_store_takes(limit: int, sizes: list[int]) -> None:
    backend = RefusingSome({}, limit)
    await fill(backend)
    await delete_all(backend, KEYS)
    assert sorted(len(keys) for keys in backend.asked) == sizes
    assert sorted(key for keys in backend.asked for key in keys) == sorted(KEYS)
    assert await listed(backend) == ["another"]


@pytest.mark.parametrize("backend", [WithoutBatches(), PutOnlyBackend(MemoryBackend())])
async def test_without_such_requests_each_object_is_deleted_by_one(backend: Backend) -> None:
    await fill(backend)
    await delete_all(backend, KEYS)
    assert await listed(backend) == ["another"]


async def test_an_object_that_is_not_deleted_is_an_error(retry: Retry) -> None:
    denied = PermissionDeniedError("delete key-7: locked", key="key-7")
    backend = RefusingSome({"key-7": [denied]})
    await fill(backend)
    with pytest.raises(PermissionDeniedError, match="key-7"):
        await delete_all(reliable(backend, retry), KEYS)
    assert await listed(backend) == ["another", "key-7"]


async def test_only_what_failed_in_passing_is_asked_for_again(retry: Retry) -> None:
    backend = RefusingSome(
        {key: [TransientError("slow down", key=key)] * n for n, key in enumerate(KEYS[:3])}
    )
    await fill(backend)
    await delete_all(reliable(backend, retry), KEYS)
    assert [len(keys) for keys in backend.asked] == [25, 2, 1]
    assert await listed(backend) == ["another"]


async def test_what_fails_for_good_and_what_fails_in_passing_are_told_apart(retry: Retry) -> None:
    denied = PermissionDeniedError("delete key-7: locked", key="key-7")
    backend = RefusingSome({"key-7": [denied], "key-8": [TransientError("slow down", key="key-8")]})
    await fill(backend)
    with pytest.raises(PermissionDeniedError, match="key-7"):
        await delete_all(reliable(backend, retry), KEYS)
    assert [len(keys) for keys in backend.asked] == [25, 1]


@pytest.mark.parametrize("fault", [LostReply(), Unavailable()])
async def test_a_request_that_fails_as_a_whole_is_sent_again(fault: LostReply, retry: Retry) -> None:
    backend = MemoryBackend()
    await fill(backend)
    script = FaultScript(On(operation="delete_many", fault=fault))
    await delete_all(reliable(inject(backend, script), retry), KEYS)
    assert not script.unused
    assert await listed(backend) == ["another"]


async def test_a_request_that_goes_through_many_keys_has_more_time_than_others() -> None:
    class OneByOne(MemoryBackend):
        async def delete_many(self, keys: Sequence[str]) -> Mapping[str, StorageError]:
            await asyncio.sleep(0.1)
            return await super().delete_many(keys)

    backend = OneByOne()
    await fill(backend)
    hasty = Retry(attempts=3, deadline=Deadline(60.0), stall_secs=0.05)
    await delete_all(reliable(backend, hasty), KEYS)
    assert await listed(backend) == ["another"]
    stalled = inject(backend, FaultScript(On(operation="delete_many", fault=Stall(asyncio.Event()))))
    await fill(backend)
    await delete_all(reliable(stalled, hasty), KEYS)
    assert await listed(backend) == ["another"]


async def test_one_object_is_deleted_by_the_plain_request() -> None:
    backend = RefusingSome({})
    await fill(backend)
    await delete_all(backend, KEYS[:1])
    await delete_all(backend, [])
    assert backend.asked == []
    assert len(await listed(backend)) == len(KEYS)
