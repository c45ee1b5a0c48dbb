"""Lies about copies."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from ackpt.backends.base import Condition, IfAbsent, IfVersion, ObjectInfo
from ackpt.backends.memory import MemoryBackend
from ackpt.errors import AlreadyExistsError, ConditionFailedError, NotFoundError

from .mutant import caught_by


class CopyMutant(MemoryBackend):
    """Copy what is there now, whatever version was asked for: the material of lies."""

    async def copy_now(self, key: str, to: str, condition: Condition | None = None) -> ObjectInfo:
        return await super().copy(await self.head(key), to, condition=condition)


@caught_by("a_copy_is_of_exactly_that_version")
class CopiesWhatIsThereNow(CopyMutant):
    async def copy(self, source: ObjectInfo, key: str, *, condition: Condition | None = None) -> ObjectInfo:
        return await self.copy_now(source.key, key, condition)


@caught_by("a_copy_is_of_exactly_that_version")
class AnotherVersionIsAFailedCondition(MemoryBackend):
    async def copy(self, source: ObjectInfo, key: str, *, condition: Condition | None = None) -> ObjectInfo:
        try:
            return await super().copy(source, key, condition=condition)
        except NotFoundError as error:
            raise ConditionFailedError("412", key=source.key) from error


@caught_by("a_copy_while_the_source_is_replaced_is_of_that_version")
class ChecksTheVersionAndCopiesLater(CopyMutant):
    async def copy(self, source: ObjectInfo, key: str, *, condition: Condition | None = None) -> ObjectInfo:
        if (await self.head(source.key)).version != source.version:
            raise NotFoundError("another version", key=source.key)
        await asyncio.sleep(0)
        return await self.copy_now(source.key, key, condition)


@caught_by("a_copy_knows_the_same_bytes_written_again")
class ComparesBytesInPlaceOfVersions(CopyMutant):
    async def copy(self, source: ObjectInfo, key: str, *, condition: Condition | None = None) -> ObjectInfo:
        if (await self.head(source.key)).crc32c != source.crc32c:
            raise NotFoundError("another version", key=source.key)
        return await self.copy_now(source.key, key, condition)


@caught_by("a_copy_has_the_same_bytes_and_checksum")
class CopiesAreMoves(MemoryBackend):
    async def copy(self, source: ObjectInfo, key: str, *, condition: Condition | None = None) -> ObjectInfo:
        info = await super().copy(source, key, condition=condition)
        await self.delete(source.key)
        return info


@caught_by("a_copy_has_the_same_bytes_and_checksum")
class TheCopyIsDescribedAsTheSource(MemoryBackend):
    async def copy(self, source: ObjectInfo, key: str, *, condition: Condition | None = None) -> ObjectInfo:
        await super().copy(source, key, condition=condition)
        return replace(source, key=key)


@caught_by("a_copy_and_its_source_are_apart")
class CopiesAreLinks(MemoryBackend):
    async def copy(self, source: ObjectInfo, key: str, *, condition: Condition | None = None) -> ObjectInfo:
        self.__dict__.setdefault("links", {}).setdefault(key, set()).add(source.key)
        return await super().copy(source, key, condition=condition)

    async def delete(self, key: str) -> None:
        for name, sources in self.__dict__.get("links", {}).items():
            if key in sources:
                await super().delete(name)
        await super().delete(key)


@caught_by("a_large_object_is_copied_whole")
class CopiesTheFirstEightMebibytes(MemoryBackend):
    async def copy(self, source: ObjectInfo, key: str, *, condition: Condition | None = None) -> ObjectInfo:
        await super().copy(source, key, condition=condition)
        data = self.find(key).data[: 8 << 20]
        return self.describe(key, self.store.write(self.name_of(key), key, data, None))


@caught_by("a_copy_of_an_empty_object_is_one")
class CopiesNothingOfNothing(MemoryBackend):
    async def copy(self, source: ObjectInfo, key: str, *, condition: Condition | None = None) -> ObjectInfo:
        return (
            await super().copy(source, key, condition=condition) if source.size else replace(source, key=key)
        )


@caught_by("a_copy_replaces_the_whole_object")
class CopiesNeverReplace(MemoryBackend):
    async def copy(self, source: ObjectInfo, key: str, *, condition: Condition | None = None) -> ObjectInfo:
        return await super().copy(source, key, condition=condition or IfAbsent())


@caught_by("a_copy_of_nothing_is_an_error")
class CopiesOfNothingAreEmpty(MemoryBackend):
    async def copy(self, source: ObjectInfo, key: str, *, condition: Condition | None = None) -> ObjectInfo:
        if self.name_of(source.key) not in self.store.objects:
            return self.describe(key, self.store.write(self.name_of(key), key, b"", condition))
        return await super().copy(source, key, condition=condition)


@caught_by("a_copy_of_nothing_is_an_error")
class AFailedCopyDeletesFirst(MemoryBackend):
    async def copy(self, source: ObjectInfo, key: str, *, condition: Condition | None = None) -> ObjectInfo:
        if condition is None and key != source.key:
            await self.delete(key)
        return await super().copy(source, key, condition=condition)


@caught_by("a_copy_if_absent_leaves_what_is_there")
class CopiesIgnoreIfAbsent(MemoryBackend):
    async def copy(self, source: ObjectInfo, key: str, *, condition: Condition | None = None) -> ObjectInfo:
        return await super().copy(
            source, key, condition=None if isinstance(condition, IfAbsent) else condition
        )


@caught_by("a_copy_if_version_replaces_that_version_alone")
class CopiesIgnoreIfVersion(MemoryBackend):
    async def copy(self, source: ObjectInfo, key: str, *, condition: Condition | None = None) -> ObjectInfo:
        return await super().copy(
            source, key, condition=None if isinstance(condition, IfVersion) else condition
        )


@caught_by("an_object_can_be_copied_onto_itself")
class TheConditionIsAboutTheSource(MemoryBackend):
    async def copy(self, source: ObjectInfo, key: str, *, condition: Condition | None = None) -> ObjectInfo:
        return await super().copy(source, key, condition=None if key == source.key else condition)


@caught_by("an_object_can_be_copied_onto_itself")
class ACopyOntoItselfIsRefused(MemoryBackend):
    async def copy(self, source: ObjectInfo, key: str, *, condition: Condition | None = None) -> ObjectInfo:
        if key == source.key and condition is None:
            raise AlreadyExistsError("illegal: copied onto itself", key=key)
        return await super().copy(source, key, condition=condition)


@caught_by("of_many_copiers_one_wins")
class CopiesInTwoSteps(MemoryBackend):
    async def copy(self, source: ObjectInfo, key: str, *, condition: Condition | None = None) -> ObjectInfo:
        self.store.check(self.name_of(key), key, condition)
        await asyncio.sleep(0)
        return await super().copy(source, key)


@caught_by("a_copy_takes_odd_keys")
class CopiesUnescapeTheirSource(CopyMutant):
    async def copy(self, source: ObjectInfo, key: str, *, condition: Condition | None = None) -> ObjectInfo:
        name = source.key.replace("%2F", "/")
        return await self.copy_now(name, key, condition)


@caught_by("a_copy_cancelled_anywhere_is_all_or_nothing")
class CopiesPieceByPiece(MemoryBackend):
    async def copy(self, source: ObjectInfo, key: str, *, condition: Condition | None = None) -> ObjectInfo:
        data = self.find(source.key).data
        self.store.check(self.name_of(key), key, condition)
        for stop in range(0, len(data), 1 << 19):
            self.store.write(self.name_of(key), key, data[:stop], None)
            await asyncio.sleep(0)
        return await super().copy(source, key)


@caught_by("a_copy_cancelled_anywhere_is_all_or_nothing")
class CopiesLeaveAnUploadOpen(MemoryBackend):
    async def copy(self, source: ObjectInfo, key: str, *, condition: Condition | None = None) -> ObjectInfo:
        upload = await self.create_upload(key)
        await asyncio.sleep(0)
        try:
            return await super().copy(source, key, condition=condition)
        finally:
            await upload.abort()


@caught_by("what_head_and_list_tell_can_be_copied")
class CopiesOnlyWhatThisBackendHasPut(MemoryBackend):
    async def copy(self, source: ObjectInfo, key: str, *, condition: Condition | None = None) -> ObjectInfo:
        if source.key not in self.__dict__.setdefault("seen", set()):
            raise NotFoundError("not known here", key=source.key)
        return await super().copy(source, key, condition=condition)

    async def head(self, key: str) -> ObjectInfo:
        self.__dict__.setdefault("seen", set()).add(key)
        return await super().head(key)
