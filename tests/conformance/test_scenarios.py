"""The scenarios themselves: they catch backends with which a save does not come through, and are laws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import pytest

from ackpt.backends.base import Body, Condition, ObjectInfo, PartReceipt, Upload
from ackpt.backends.memory import MemoryBackend, MemoryStore, MemoryUpload, StoredObject
from ackpt.errors import AckptError, NotFoundError, StorageError, TransientError
from ackpt.testing import Scenarios
from ackpt.testing.law import MakeBackend

from .mutant import UploadMutant

CAUGHT_BY: dict[type[MemoryBackend], str] = {}


class Suite(Scenarios):
    __test__ = False
    law_timeout_secs = 10.0


def caught_by(scenario: str):  # type: ignore[no-untyped-def]
    def enter(mutant: type[MemoryBackend]) -> type[MemoryBackend]:
        CAUGHT_BY[mutant] = f"test_{scenario}"
        return mutant

    return enter


@caught_by("a_save_without_faults_sends_every_byte_once")
class DeletesNothing(MemoryBackend):
    async def delete(self, key: str) -> None:
        return None


@caught_by("a_save_without_faults_sends_every_byte_once")
class HeadIsLate(MemoryBackend):
    async def put(self, key: str, body: Body, *, condition: Condition | None = None) -> ObjectInfo:
        info = await super().put(key, body, condition=condition)
        return replace(info, version=f"not {info.version}")


@caught_by("an_upload_that_nobody_was_told_of_is_swept")
class AbortDoesNothing(UploadMutant):
    class kind(MemoryUpload):
        async def abort(self) -> None:
            return None


@caught_by("a_connection_that_breaks_in_a_part_costs_that_part")
class BrokenConnectionsAreFinal(UploadMutant):
    class kind(MemoryUpload):
        async def put_part(self, number: int, body: Body) -> PartReceipt:
            try:
                return await super().put_part(number, body)
            except TransientError as error:
                raise StorageError("it broke", key=self.key) from error


@caught_by("a_lost_reply_of_the_completion_costs_nothing")
class AGoneUploadIsAnUnknownError(UploadMutant):
    class kind(MemoryUpload):
        async def complete(
            self, receipts: Sequence[PartReceipt], *, condition: Condition | None = None
        ) -> ObjectInfo:
            try:
                return await super().complete(receipts, condition=condition)
            except NotFoundError as error:
                raise StorageError("no such upload", key=self.key) from error


@caught_by("a_corrupted_part_is_noticed")
class NobodySumsUp(UploadMutant):
    def describe(self, key: str, stored: StoredObject) -> ObjectInfo:
        return replace(super().describe(key, stored), crc32c=None)

    class kind(MemoryUpload):
        async def put_part(self, number: int, body: Body) -> PartReceipt:
            return replace(await super().put_part(number, body), crc32c=None)


@caught_by("a_truncated_part_is_noticed")
class PartsHaveTheSizeOfTheFirst(UploadMutant):
    class kind(MemoryUpload):
        async def put_part(self, number: int, body: Body) -> PartReceipt:
            size = body.size
            receipt = await super().put_part(number, body)
            first = self.find().parts.get(1)
            return replace(receipt, size=first.receipt.size if number == 2 and first else size, crc32c=None)

        async def parts(self) -> Sequence[PartReceipt]:
            return [replace(part, crc32c=None) for part in await super().parts()]


@caught_by("an_upload_that_expires_is_begun_anew")
class AnExpiredUploadIsWaitedFor(UploadMutant):
    class kind(MemoryUpload):
        async def put_part(self, number: int, body: Body) -> PartReceipt:
            try:
                return await super().put_part(number, body)
            except NotFoundError as error:
                raise TransientError("not now", key=self.key) from error


@caught_by("an_expired_token_fails_the_save_by_name")
class UploadsCannotBeOpened(MemoryBackend):
    async def open_upload(self, key: str, upload_id: str) -> Upload:
        raise StorageError("cannot be opened", key=key)


@caught_by("a_lost_reply_to_any_request_does_not_show")
class WritesAreAppended(MemoryBackend):
    async def put(self, key: str, body: Body, *, condition: Condition | None = None) -> ObjectInfo:
        old = self.store.objects.get(self.name_of(key))
        info = await super().put(key, body, condition=condition)
        if old is None:
            return info
        data = old.data + self.find(key).data
        return self.describe(key, self.store.write(self.name_of(key), key, data, None))


@caught_by("a_failed_save_is_finished_by_the_next_start")
class OpenedUploadsTakeNoMoreParts(MemoryBackend):
    class kind(MemoryUpload):
        async def put_part(self, number: int, body: Body) -> PartReceipt:
            raise NotFoundError("begin anew", key=self.key)

    async def open_upload(self, key: str, upload_id: str) -> Upload:
        return self.kind(self, key, (await super().open_upload(key, upload_id)).id)


def opener(kind: type[MemoryBackend]) -> MakeBackend:
    store = MemoryStore()
    return lambda: kind(store, "run")


@pytest.mark.parametrize("mutant", CAUGHT_BY, ids=lambda mutant: mutant.__name__)
async def test_each_lie_is_caught_by_its_scenario(mutant: type[MemoryBackend]) -> None:
    await Suite.check(CAUGHT_BY[mutant], opener(MemoryBackend))
    with pytest.raises((AssertionError, AckptError)):
        await Suite.check(CAUGHT_BY[mutant], opener(mutant))


def test_overriding_a_scenario_is_an_error() -> None:
    name = "test_a_slow_store_is_waited_for"
    with pytest.raises(TypeError, match=f"Mine overrides the law {name}"):
        type("Mine", (Scenarios,), {name: lambda self: None})


async def test_an_excused_scenario_is_an_expected_failure_with_its_reason() -> None:
    class Mine(Scenarios):
        __test__ = False
        cannot: ClassVar = {"test_a_slow_store_is_waited_for": "the store has no patience"}

    with pytest.raises(pytest.xfail.Exception, match="cannot, because the store has no patience"):
        await Mine.check("test_a_slow_store_is_waited_for", opener(MemoryBackend))


def test_every_scenario_has_a_sentence() -> None:
    assert Suite.laws()
    for name, sentence in Suite.laws().items():
        assert sentence.endswith("."), name
        assert "\n" not in sentence, name
