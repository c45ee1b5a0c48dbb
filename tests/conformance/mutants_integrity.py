"""Lies about what went wrong on the way."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from crc32c import crc32c

from ackpt.backends.base import (
    Body,
    Condition,
    ObjectInfo,
)
from ackpt.backends.memory import MemoryBackend, StoredObject
from ackpt.errors import (
    AckptError,
    StorageError,
    TransientError,
)

from .mutant import HonestBody, caught_by


@caught_by("reported_checksums_are_right")
class TheChecksumIsTheFirstVersions(MemoryBackend):
    def describe(self, key: str, stored: StoredObject) -> ObjectInfo:
        first: dict[str, int] = self.__dict__.setdefault("first", {})
        return replace(super().describe(key, stored), crc32c=first.setdefault(key, stored.crc32c))


@caught_by("reported_checksums_are_right")
class TheChecksumIsOfTheFirstBlock(MemoryBackend):
    def describe(self, key: str, stored: StoredObject) -> ObjectInfo:
        return replace(super().describe(key, stored), crc32c=crc32c(stored.data[:131_072]))


@caught_by("a_wrong_checksum_is_seen")
class TheChecksumIsWhatWasAnnounced(MemoryBackend):
    async def put(self, key: str, body: Body, *, condition: Condition | None = None) -> ObjectInfo:
        info = await super().put(key, HonestBody(await body.read()), condition=condition)
        return replace(info, crc32c=await body.crc32c())


@caught_by("a_body_that_fails_stores_nothing")
class PutMakesTheObjectFirst(MemoryBackend):
    async def put(self, key: str, body: Body, *, condition: Condition | None = None) -> ObjectInfo:
        name = self.name_of(key)
        self.store.check(name, key, condition)
        self.store.objects.setdefault(name, self.store.write(name, key, b"", None))
        return await super().put(key, body)


@caught_by("a_cancelled_put_stores_nothing")
class PutWritesInPlace(MemoryBackend):
    async def put(self, key: str, body: Body, *, condition: Condition | None = None) -> ObjectInfo:
        name, data = self.name_of(key), b""
        self.store.check(name, key, condition)
        async for block in body:
            data += block
            self.store.write(name, key, data, None)
        return self.describe(key, self.store.write(name, key, data, None))


@caught_by("a_body_that_fails_leaves_the_old_object")
class AFailedPutDeletes(MemoryBackend):
    async def put(self, key: str, body: Body, *, condition: Condition | None = None) -> ObjectInfo:
        try:
            return await super().put(key, body, condition=condition)
        except AckptError:
            if condition is None:
                await self.delete(key)
            raise


@caught_by("a_body_that_fails_stores_nothing")
class ErrorsOfBodiesAreTransient(MemoryBackend):
    async def put(self, key: str, body: Body, *, condition: Condition | None = None) -> ObjectInfo:
        try:
            return await super().put(key, body, condition=condition)
        except StorageError:
            raise
        except AckptError as error:
            raise TransientError("the connection broke", key=key) from error


@caught_by("a_cancelled_put_stores_nothing")
class CancellationIsAnError(MemoryBackend):
    async def put(self, key: str, body: Body, *, condition: Condition | None = None) -> ObjectInfo:
        try:
            return await super().put(key, body, condition=condition)
        except asyncio.CancelledError:
            raise TransientError("the request ended", key=key) from None


@caught_by("a_put_cancelled_anywhere_is_all_or_nothing")
class ACancelledPutFlushesWhatItHas(MemoryBackend):
    async def put(self, key: str, body: Body, *, condition: Condition | None = None) -> ObjectInfo:
        data = b""
        try:
            async for block in body:
                data += block
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.store.write(self.name_of(key), key, data, condition)
            raise
        return await super().put(key, HonestBody(data), condition=condition)


@caught_by("a_cancelled_put_stores_nothing")
class PutIsAnUploadThatIsLeftOpen(MemoryBackend):
    async def put(self, key: str, body: Body, *, condition: Condition | None = None) -> ObjectInfo:
        upload = await self.create_upload(key)
        return await upload.complete([await upload.put_part(1, body)], condition=condition)
