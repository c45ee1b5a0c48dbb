"""Lies about uploads and their parts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

from ackpt.backends.base import (
    Body,
    Condition,
    ObjectInfo,
    PartReceipt,
    Upload,
    UploadInfo,
)
from ackpt.backends.memory import MemoryBackend, MemoryUpload
from ackpt.errors import (
    StorageError,
)

from .mutant import HonestBody, UploadMutant, caught_by


@caught_by("limits_make_sense")
class LimitsAllowNoPart(MemoryBackend):
    @property
    def limits(self):  # type: ignore[no-untyped-def, override]
        return self._limits

    @limits.setter
    def limits(self, limits):  # type: ignore[no-untyped-def]
        self._limits = replace(limits, max_part_bytes=0)


@caught_by("an_upload_is_invisible_until_complete")
class UploadsShowAtOnce(MemoryBackend):
    async def create_upload(self, key: str) -> Upload:
        if self.name_of(key) not in self.store.objects:
            self.store.write(self.name_of(key), key, b"", None)
        return await super().create_upload(key)


@caught_by("uploads_to_one_key_are_apart")
class OneUploadForEachKey(MemoryBackend):
    async def create_upload(self, key: str) -> Upload:
        async for info in self.list_uploads(key):
            return await self.open_upload(key, info.upload_id)
        return await super().create_upload(key)


@caught_by("an_upload_goes_on_in_another_backend")
class AnOpenedUploadTakesOtherParts(MemoryBackend):
    async def open_upload(self, key: str, upload_id: str) -> Upload:
        await super().open_upload(key, upload_id)
        return await self.create_upload(key)


@caught_by("a_completed_upload_is_gone")
class AnyUploadCanBeOpened(MemoryBackend):
    async def open_upload(self, key: str, upload_id: str) -> Upload:
        return MemoryUpload(self, key, upload_id)


@caught_by("list_uploads_finds_the_unfinished")
class NoUploadIsListed(MemoryBackend):
    async def list_uploads(self, prefix: str = "") -> AsyncGenerator[UploadInfo, None]:
        return
        yield


@caught_by("list_uploads_finds_the_unfinished")
class AllUploadsAreListed(MemoryBackend):
    def list_uploads(self, prefix: str = "") -> AsyncGenerator[UploadInfo, None]:
        return super().list_uploads()


@caught_by("parts_may_go_in_any_order")
class PartsStayInOrderOfArrival(UploadMutant):
    class kind(MemoryUpload):
        async def complete(
            self, receipts: Sequence[PartReceipt], *, condition: Condition | None = None
        ) -> ObjectInfo:
            stored = self.find()
            arrived = sorted(stored.parts.values(), key=lambda part: int(part.receipt.token))
            data = b"".join(part.data for part in arrived)
            del self._backend.store.uploads[self.id]
            return self._backend.describe(
                self.key, self._backend.store.write(stored.name, self.key, data, condition)
            )


@caught_by("receipts_may_be_in_any_order")
class TheListOfReceiptsIsTheOrder(UploadMutant):
    class kind(MemoryUpload):
        async def complete(
            self, receipts: Sequence[PartReceipt], *, condition: Condition | None = None
        ) -> ObjectInfo:
            stored = self.find()
            data = b"".join(stored.parts[receipt.number].data for receipt in receipts)
            del self._backend.store.uploads[self.id]
            return self._backend.describe(
                self.key, self._backend.store.write(stored.name, self.key, data, condition)
            )


@caught_by("only_the_parts_named_are_used")
class AllPartsAreUsed(UploadMutant):
    class kind(MemoryUpload):
        async def complete(
            self, receipts: Sequence[PartReceipt], *, condition: Condition | None = None
        ) -> ObjectInfo:
            return await super().complete(await self.parts(), condition=condition)


@caught_by("a_receipt_of_no_part_makes_no_object")
class UnknownReceiptsAreLeftOut(UploadMutant):
    class kind(MemoryUpload):
        async def complete(
            self, receipts: Sequence[PartReceipt], *, condition: Condition | None = None
        ) -> ObjectInfo:
            known = [receipt for receipt in receipts if receipt.number in self.find().parts]
            return await super().complete(known, condition=condition)


@caught_by("the_last_part_sent_under_a_number_counts")
class TheFirstPartSentCounts(UploadMutant):
    class kind(MemoryUpload):
        async def put_part(self, number: int, body: Body) -> PartReceipt:
            old = self.find().parts.get(number)
            return await super().put_part(number, body) if old is None else old.receipt


@caught_by("a_part_whose_body_fails_can_be_put_again")
class AFailedPartCounts(UploadMutant):
    class kind(MemoryUpload):
        async def put_part(self, number: int, body: Body) -> PartReceipt:
            if number not in self.find().parts:
                await super().put_part(number, HonestBody(bytes(body.size)))
            return await super().put_part(number, body)


@caught_by("numbers_may_have_gaps")
class NumbersHaveNoGaps(UploadMutant):
    class kind(MemoryUpload):
        async def put_part(self, number: int, body: Body) -> PartReceipt:
            if number > len(self.find().parts) + 4:
                raise StorageError("a gap", key=self.key)
            return await super().put_part(number, body)


@caught_by("numbers_out_of_the_limits_are_refused")
class NumbersWrapAround(UploadMutant):
    class kind(MemoryUpload):
        async def put_part(self, number: int, body: Body) -> PartReceipt:
            return await super().put_part(1 + (number - 1) % self._backend.limits.max_parts, body)


@caught_by("upload_checksums_are_right")
class TheObjectHasTheLastPartsChecksum(UploadMutant):
    class kind(MemoryUpload):
        async def complete(
            self, receipts: Sequence[PartReceipt], *, condition: Condition | None = None
        ) -> ObjectInfo:
            return replace(await super().complete(receipts, condition=condition), crc32c=receipts[-1].crc32c)


@caught_by("a_wrong_part_checksum_is_seen")
class ThePartChecksumIsWhatWasAnnounced(UploadMutant):
    class kind(MemoryUpload):
        async def put_part(self, number: int, body: Body) -> PartReceipt:
            receipt = await super().put_part(number, HonestBody(await body.read()))
            return replace(receipt, crc32c=await body.crc32c())


@caught_by("complete_if_absent")
class CompleteIgnoresConditions(UploadMutant):
    class kind(MemoryUpload):
        async def complete(
            self, receipts: Sequence[PartReceipt], *, condition: Condition | None = None
        ) -> ObjectInfo:
            return await super().complete(receipts)


@caught_by("of_many_completions_one_wins")
class CompletesInTwoSteps(UploadMutant):
    class kind(MemoryUpload):
        async def complete(
            self, receipts: Sequence[PartReceipt], *, condition: Condition | None = None
        ) -> ObjectInfo:
            self._backend.store.check(self.find().name, self.key, condition)
            await asyncio.sleep(0)
            return await super().complete(receipts)


@caught_by("a_completed_upload_is_gone")
class CompletedUploadsStay(UploadMutant):
    class kind(MemoryUpload):
        async def complete(
            self, receipts: Sequence[PartReceipt], *, condition: Condition | None = None
        ) -> ObjectInfo:
            stored = self.find()
            info = await super().complete(receipts, condition=condition)
            self._backend.store.uploads[self.id] = stored
            return info


@caught_by("a_cancelled_completion_is_all_or_nothing")
class CompletionDropsTheUploadFirst(UploadMutant):
    class kind(MemoryUpload):
        async def complete(
            self, receipts: Sequence[PartReceipt], *, condition: Condition | None = None
        ) -> ObjectInfo:
            stored = self._backend.store.uploads.pop(self.id, None)
            await asyncio.sleep(0)
            if stored is not None:
                self._backend.store.uploads[self.id] = stored
            return await super().complete(receipts, condition=condition)


@caught_by("an_aborted_upload_is_gone")
class AbortDoesNothing(UploadMutant):
    class kind(MemoryUpload):
        async def abort(self) -> None:
            return None


@caught_by("an_aborted_upload_is_gone")
class AbortWorksOnce(UploadMutant):
    class kind(MemoryUpload):
        async def abort(self) -> None:
            self.find()
            await super().abort()


@caught_by("abort_leaves_the_old_object")
class AbortDeletesTheObject(UploadMutant):
    class kind(MemoryUpload):
        async def abort(self) -> None:
            await super().abort()
            await self._backend.delete(self.key)
