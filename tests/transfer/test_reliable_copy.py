"""Copies through a reliable backend: retried, and a lost reply is settled as that of a put is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import pytest

from ackpt.backends.base import (
    Backend,
    BulkDeletingBackend,
    CopyingBackend,
    IfAbsent,
    IfVersion,
    MultipartBackend,
    ObjectInfo,
    SingleWriter,
)
from ackpt.backends.memory import MemoryBackend, StoredObject
from ackpt.errors import AlreadyExistsError, NotFoundError, TransientError
from ackpt.testing import FaultScript, LostReply, On, Reset, Stall, inject
from ackpt.transfer.body import BytesBody
from ackpt.transfer.reliable import reliable
from ackpt.transfer.retry import Deadline, Retry

from .conftest import pattern

DATA = pattern(100_000)
LOST = On(operation="copy", fault=LostReply())


class WithoutChecksums(MemoryBackend):
    """Be a store that keeps none, as many are."""

    def describe(self, key: str, stored: StoredObject) -> ObjectInfo:
        return replace(super().describe(key, stored), crc32c=None)


def copying(backend: Backend, retry: Retry, *lines: On) -> CopyingBackend:
    wrapped = reliable(inject(backend, FaultScript(*lines)), retry)
    assert isinstance(wrapped, CopyingBackend)
    return wrapped


async def put(backend: Backend, key: str, data: bytes = DATA) -> ObjectInfo:
    return await backend.put(key, BytesBody(data))


ABILITIES = (MultipartBackend, CopyingBackend, BulkDeletingBackend, SingleWriter)


@pytest.mark.parametrize(
    "abilities",
    [some for count in range(len(ABILITIES) + 1) for some in combinations(ABILITIES, count)],
    ids=lambda kinds: "+".join(kind.__name__ for kind in kinds) or "plain",
)
def test_what_a_backend_is_able_to_do_stays_its_type(retry: Retry, abilities: Sequence[type]) -> None:
    names = set().union(
        Backend.__abstractmethods__, *(getattr(a, "__abstractmethods__", ()) for a in abilities)
    )
    bases = (*abilities, *(() if any(issubclass(a, Backend) for a in abilities) else (Backend,)))
    made = type("Made", bases, dict.fromkeys(names, MemoryBackend.put) | {"limits": 1, "delete_limit": 1})()
    for wrapped in [reliable(made, retry), inject(made, FaultScript())]:
        assert [kind for kind in ABILITIES if isinstance(wrapped, kind)] == list(abilities)
        again = reliable(wrapped, retry)
        assert [kind for kind in ABILITIES if isinstance(again, kind)] == list(abilities)


async def test_a_copy_that_failed_for_a_passing_reason_is_made_again(retry: Retry) -> None:
    store = MemoryBackend()
    source = await put(store, "object")
    await copying(store, retry, On(operation="copy", fault=Reset(), times=2)).copy(source, "copy")
    assert (await store.head("copy")).crc32c == source.crc32c


async def test_a_copy_that_fails_again_and_again_is_given_up(retry: Retry) -> None:
    store = MemoryBackend()
    source = await put(store, "object")
    with pytest.raises(TransientError) as caught:
        await copying(store, retry, On(operation="copy", fault=Reset(), times=None)).copy(source, "copy")
    assert "gave up on copy of object to copy after 4 of 4 attempts" in caught.value.__notes__[0]


@pytest.mark.parametrize("kind", [MemoryBackend, WithoutChecksums])
async def test_a_conditional_copy_whose_reply_got_lost_counts_as_made(
    retry: Retry, kind: type[MemoryBackend]
) -> None:
    store = kind()
    source = await put(store, "object")
    info = await copying(store, retry, LOST).copy(source, "new", condition=IfAbsent())
    assert info == await store.head("new")
    over = await put(store, "old", b"old")
    info = await copying(store, retry, LOST).copy(source, "old", condition=IfVersion(over.version))
    assert info == await store.head("old")


async def test_a_copy_onto_itself_whose_reply_got_lost_counts_as_made(retry: Retry) -> None:
    store = MemoryBackend()
    source = await put(store, "object")
    info = await copying(store, retry, LOST).copy(source, "object")
    assert info == await store.head("object")
    assert info.version != source.version


@pytest.mark.parametrize("kind", [MemoryBackend, WithoutChecksums])
async def test_a_lost_reply_does_not_make_another_writers_object_ours(
    retry: Retry, kind: type[MemoryBackend]
) -> None:
    store = kind()
    source = await put(store, "object")
    await put(store, "there", pattern(len(DATA), seed=7))
    reset = On(operation="copy", fault=Reset())
    with pytest.raises(AlreadyExistsError):
        await copying(store, retry, reset).copy(source, "there", condition=IfAbsent())


@pytest.mark.parametrize("kind", [MemoryBackend, WithoutChecksums])
async def test_a_source_that_is_gone_after_a_lost_request_is_told_to_be(
    retry: Retry, kind: type[MemoryBackend]
) -> None:
    store = kind()
    source = await put(store, "object")
    await store.delete("object")
    with pytest.raises(NotFoundError):
        await copying(store, retry, On(operation="copy", fault=Reset())).copy(source, "copy")


async def test_a_source_that_was_replaced_is_not_taken_for_the_one_copied(retry: Retry) -> None:
    store = WithoutChecksums()
    source = await put(store, "object")
    await put(store, "object", pattern(len(DATA), seed=7))
    await put(store, "there", pattern(len(DATA), seed=7))
    with pytest.raises(NotFoundError):
        await copying(store, retry, On(operation="copy", fault=Reset())).copy(source, "there")


async def test_a_copy_without_a_sign_of_life_is_given_up(retry: Retry) -> None:
    store = MemoryBackend()
    source = await put(store, "object")
    impatient = Retry(attempts=2, deadline=Deadline(60.0), stall_secs=0.001)
    stalled = On(operation="copy", fault=Stall(asyncio.Event()))
    info = await copying(store, impatient, stalled).copy(source, "copy")
    assert info == await store.head("copy")
