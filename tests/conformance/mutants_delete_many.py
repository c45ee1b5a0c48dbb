"""Lies about deletions of many objects."""

from __future__ import annotations

import asyncio
import html
from collections.abc import Mapping, Sequence
from urllib.parse import unquote

from ackpt.backends.base import Body, Condition, ObjectInfo
from ackpt.backends.memory import MemoryBackend
from ackpt.errors import NotFoundError, StorageError, UnsupportedError

from .mutant import caught_by


@caught_by("many_are_deleted_and_nothing_else")
class DeletesOneKeyTooMany(MemoryBackend):
    async def delete_many(self, keys: Sequence[str]) -> Mapping[str, StorageError]:
        beside = [key for key in self.names() if any(key.startswith(f"{each}.") for each in keys)]
        return await super().delete_many([*keys, *beside])

    def names(self) -> list[str]:
        return [name.removeprefix(self.name_of("x")[:-1]) for name in self.store.objects]


@caught_by("many_are_deleted_and_nothing_else")
class DeletesByPrefix(DeletesOneKeyTooMany):
    async def delete_many(self, keys: Sequence[str]) -> Mapping[str, StorageError]:
        return await super().delete_many([key for key in self.names() if key.startswith(tuple(keys))] or keys)


@caught_by("many_are_deleted_and_nothing_else")
class DeletesKeysOfAnotherPrefix(DeletesOneKeyTooMany):
    async def delete_many(self, keys: Sequence[str]) -> Mapping[str, StorageError]:
        ends = {key.rpartition("/")[2] for key in keys}
        return await super().delete_many(
            [*keys, *(key for key in self.names() if key.rpartition("/")[2] in ends)]
        )


@caught_by("many_are_deleted_and_nothing_else")
class DeletesOutsideItsOwnPlace(MemoryBackend):
    async def delete_many(self, keys: Sequence[str]) -> Mapping[str, StorageError]:
        for key in keys:
            self.store.objects.pop(key, None)
        return {}


@caught_by("many_are_deleted_and_nothing_else")
class DeletesLater(MemoryBackend):
    async def delete_many(self, keys: Sequence[str]) -> Mapping[str, StorageError]:
        asyncio.get_running_loop().call_later(0.01, lambda: [self._pop(key) for key in keys])
        return {}

    def _pop(self, key: str) -> None:
        self.store.objects.pop(self.name_of(key), None)


@caught_by("many_are_deleted_and_nothing_else")
class TellsWhatWasDeletedAsErrors(MemoryBackend):
    async def delete_many(self, keys: Sequence[str]) -> Mapping[str, StorageError]:
        await super().delete_many(keys)
        return {key: StorageError("OK", key=key) for key in keys}


@caught_by("absent_ones_among_many_are_no_error")
class AbsentIsAnError(MemoryBackend):
    async def delete_many(self, keys: Sequence[str]) -> Mapping[str, StorageError]:
        absent = [key for key in keys if self.name_of(key) not in self.store.objects]
        await super().delete_many(keys)
        return {key: NotFoundError("404", key=key) for key in absent}


@caught_by("absent_ones_among_many_are_no_error")
class TheFirstErrorEndsItAndIsSwallowed(MemoryBackend):
    async def delete_many(self, keys: Sequence[str]) -> Mapping[str, StorageError]:
        for key in keys:
            if self.name_of(key) not in self.store.objects:
                break
            await self.delete(key)
        return {}


@caught_by("as_many_are_deleted_as_the_limit_says")
class DeletesTheFirstHundred(MemoryBackend):
    async def delete_many(self, keys: Sequence[str]) -> Mapping[str, StorageError]:
        return await super().delete_many(keys[:100])


@caught_by("as_many_are_deleted_as_the_limit_says")
class RefusesAsManyAsItSays(MemoryBackend):
    async def delete_many(self, keys: Sequence[str]) -> Mapping[str, StorageError]:
        if len(keys) >= self.delete_limit:
            raise StorageError("MalformedXML")
        return await super().delete_many(keys)


@caught_by("as_many_are_deleted_as_the_limit_says")
class OneIsNotMany(MemoryBackend):
    async def delete_many(self, keys: Sequence[str]) -> Mapping[str, StorageError]:
        if len(keys) == 1:
            raise UnsupportedError("a batch of one", key=keys[0])
        return await super().delete_many(keys)


@caught_by("many_odd_keys_are_deleted_as_they_are")
class TrimsKeys(MemoryBackend):
    async def delete_many(self, keys: Sequence[str]) -> Mapping[str, StorageError]:
        return await super().delete_many([key.strip() for key in keys])


@caught_by("many_odd_keys_are_deleted_as_they_are")
class UnescapesEntities(MemoryBackend):
    async def delete_many(self, keys: Sequence[str]) -> Mapping[str, StorageError]:
        return await super().delete_many([html.unescape(key) for key in keys])


@caught_by("many_odd_keys_are_deleted_as_they_are")
class UnescapesPercents(MemoryBackend):
    async def delete_many(self, keys: Sequence[str]) -> Mapping[str, StorageError]:
        return await super().delete_many([unquote(key) for key in keys])


@caught_by("many_doubtful_keys_are_never_another_object")
class TidiesKeysUp(MemoryBackend):
    async def delete_many(self, keys: Sequence[str]) -> Mapping[str, StorageError]:
        return await super().delete_many([key.replace("//", "/").removeprefix("/") for key in keys])


@caught_by("many_doubtful_keys_are_never_another_object")
class SwallowsErrors(MemoryBackend):
    async def delete_many(self, keys: Sequence[str]) -> Mapping[str, StorageError]:
        try:
            return await super().delete_many(keys)
        except UnsupportedError:
            return {}


@caught_by("the_empty_key_among_many_is_refused")
class TheEmptyKeyIsLeftOut(MemoryBackend):
    async def delete_many(self, keys: Sequence[str]) -> Mapping[str, StorageError]:
        return await super().delete_many([key for key in keys if key])


@caught_by("the_empty_key_among_many_is_refused")
class RefusesTheEmptyKeyTooLate(MemoryBackend):
    async def delete_many(self, keys: Sequence[str]) -> Mapping[str, StorageError]:
        for key in keys:
            await self.delete(key)
        return {}


@caught_by("deletions_of_many_at_one_time_all_succeed")
class LooksFirst(MemoryBackend):
    async def delete_many(self, keys: Sequence[str]) -> Mapping[str, StorageError]:
        there = [key for key in keys if self.name_of(key) in self.store.objects]
        await asyncio.sleep(0)
        gone = [key for key in there if self.name_of(key) not in self.store.objects]
        await super().delete_many(there)
        return {key: NotFoundError("404", key=key) for key in gone}


@caught_by("what_is_written_after_a_deletion_of_many_stays")
class RemembersTheDeleted(MemoryBackend):
    async def delete_many(self, keys: Sequence[str]) -> Mapping[str, StorageError]:
        self.__dict__.setdefault("gone", set()).update(keys)
        return await super().delete_many(keys)

    async def put(self, key: str, body: Body, *, condition: Condition | None = None) -> ObjectInfo:
        info = await super().put(key, body, condition=condition)
        if key in self.__dict__.get("gone", ()):
            await self.delete(key)
        return info


@caught_by("a_deletion_of_many_cancelled_anywhere_deletes_no_other")
class MovesToATrashFirst(MemoryBackend):
    async def delete_many(self, keys: Sequence[str]) -> Mapping[str, StorageError]:
        names = [self.name_of(key) for key in keys]
        for name in names:
            if name in self.store.objects:
                self.store.objects[f"{name}.trash"] = self.store.objects.pop(name)
        await asyncio.sleep(0)
        for name in names:
            self.store.objects.pop(f"{name}.trash", None)
        return {}


@caught_by("a_deletion_of_many_cancelled_anywhere_deletes_no_other")
class EmptiesThemFirst(MemoryBackend):
    async def delete_many(self, keys: Sequence[str]) -> Mapping[str, StorageError]:
        for name in [self.name_of(key) for key in keys]:
            if name in self.store.objects:
                self.store.write(name, name, b"", None)
        await asyncio.sleep(0)
        return await super().delete_many(keys)
