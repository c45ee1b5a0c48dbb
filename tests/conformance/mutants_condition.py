"""Lies about versions and conditions."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import ClassVar

from ackpt.backends.base import (
    Body,
    Condition,
    IfAbsent,
    IfVersion,
    ObjectInfo,
)
from ackpt.backends.memory import MemoryBackend, StoredObject
from ackpt.errors import (
    AlreadyExistsError,
    ConditionFailedError,
)

from .mutant import caught_by


@caught_by("every_write_makes_a_new_version")
class VersionIsTheChecksum(MemoryBackend):
    def describe(self, key: str, stored: StoredObject) -> ObjectInfo:
        return replace(super().describe(key, stored), version=f"{stored.crc32c:08x}")


@caught_by("every_write_makes_a_new_version")
class VersionIsTheSecond(MemoryBackend):
    def describe(self, key: str, stored: StoredObject) -> ObjectInfo:
        return replace(super().describe(key, stored), version=str(int(stored.modified.timestamp())))


@caught_by("a_read_makes_no_new_version")
class ReadsCountAsVersions(MemoryBackend):
    reads = 0

    async def head(self, key: str) -> ObjectInfo:
        self.reads += 1
        info = await super().head(key)
        return replace(info, version=f"{info.version}.{self.reads}")


@caught_by("if_absent_leaves_what_is_there")
class IfAbsentIsIgnored(MemoryBackend):
    async def put(self, key: str, body: Body, *, condition: Condition | None = None) -> ObjectInfo:
        return await super().put(key, body, condition=None if isinstance(condition, IfAbsent) else condition)


@caught_by("if_absent_leaves_what_is_there")
class IfAbsentSaysConditionFailed(MemoryBackend):
    async def put(self, key: str, body: Body, *, condition: Condition | None = None) -> ObjectInfo:
        try:
            return await super().put(key, body, condition=condition)
        except AlreadyExistsError as error:
            raise ConditionFailedError(str(error), key=key) from error


@caught_by("if_absent_sees_an_empty_object")
class EmptyObjectsCountAsAbsent(MemoryBackend):
    async def put(self, key: str, body: Body, *, condition: Condition | None = None) -> ObjectInfo:
        found = self.store.objects.get(self.name_of(key))
        if isinstance(condition, IfAbsent) and found is not None and not found.data:
            condition = None
        return await super().put(key, body, condition=condition)


@caught_by("if_absent_of_the_same_bytes_fails_too")
class TheSameBytesCountAsOurs(MemoryBackend):
    async def put(self, key: str, body: Body, *, condition: Condition | None = None) -> ObjectInfo:
        found = self.store.objects.get(self.name_of(key))
        if isinstance(condition, IfAbsent) and found is not None and found.crc32c == await body.crc32c():
            return self.describe(key, found)
        return await super().put(key, body, condition=condition)


@caught_by("if_version_leaves_another_version")
class IfVersionIsIgnored(MemoryBackend):
    async def put(self, key: str, body: Body, *, condition: Condition | None = None) -> ObjectInfo:
        return await super().put(key, body, condition=None if isinstance(condition, IfVersion) else condition)


@caught_by("if_version_of_nothing_creates_nothing")
class IfVersionOfNothingCreates(MemoryBackend):
    async def put(self, key: str, body: Body, *, condition: Condition | None = None) -> ObjectInfo:
        absent = self.name_of(key) not in self.store.objects
        return await super().put(key, body, condition=IfAbsent() if absent else condition)


@caught_by("if_version_replaces_that_version")
class IfVersionAlwaysFails(MemoryBackend):
    async def put(self, key: str, body: Body, *, condition: Condition | None = None) -> ObjectInfo:
        if isinstance(condition, IfVersion):
            raise ConditionFailedError("412", key=key)
        return await super().put(key, body, condition=condition)


class _TwoSteps(MemoryBackend):
    kinds: ClassVar[type[IfAbsent] | type[IfVersion]]

    async def put(self, key: str, body: Body, *, condition: Condition | None = None) -> ObjectInfo:
        if isinstance(condition, self.kinds):
            self.store.check(self.name_of(key), key, condition)
            await asyncio.sleep(0)
            condition = None
        return await super().put(key, body, condition=condition)


@caught_by("of_many_creators_one_wins")
class CreatesInTwoSteps(_TwoSteps):
    kinds = IfAbsent


@caught_by("of_many_replacers_one_wins")
class ReplacesInTwoSteps(_TwoSteps):
    kinds = IfVersion
