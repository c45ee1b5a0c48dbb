"""Lies about whole objects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace

from crc32c import crc32c

from ackpt.backends.base import (
    Body,
    Condition,
    ObjectInfo,
)
from ackpt.backends.memory import MemoryBackend, StoredObject
from ackpt.errors import (
    NotFoundError,
    StorageError,
)

from .mutant import HonestBody, caught_by


@caught_by("put_replaces_the_whole_object")
class PutLeavesATail(MemoryBackend):
    async def put(self, key: str, body: Body, *, condition: Condition | None = None) -> ObjectInfo:
        old = self.store.objects.get(self.name_of(key))
        info = await super().put(key, body, condition=condition)
        new = self.find(key)
        if old is not None:
            data = new.data + old.data[len(new.data) :]
            self.store.objects[self.name_of(key)] = replace(new, data=data, crc32c=crc32c(data))
        return info


@caught_by("an_object_of_many_blocks_comes_back_whole")
class PutDropsTheOddEnd(MemoryBackend):
    async def put(self, key: str, body: Body, *, condition: Condition | None = None) -> ObjectInfo:
        await super().put(key, body, condition=condition)
        stored = self.find(key)
        if len(stored.data) > 1 << 20:
            self.store.objects[self.name_of(key)] = replace(
                stored, data=stored.data[: -(len(stored.data) % 4096)]
            )
        return await self.head(key)


@caught_by("get_takes_half_open_ranges")
class GetIncludesTheStop(MemoryBackend):
    def get(self, key: str, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        return super().get(key, start, None if stop is None else stop + 1)


@caught_by("get_takes_half_open_ranges")
class GetTakesAnEmptyRangeForAll(MemoryBackend):
    def get(self, key: str, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        return super().get(key, start, stop or None)


@caught_by("get_takes_half_open_ranges")
class GetRefusesARangePastTheEnd(MemoryBackend):
    async def get(self, key: str, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        if start >= len(self.find(key).data) > 0:
            raise StorageError("range not satisfiable", key=key)
        async for block in super().get(key, start, stop):
            yield block


@caught_by("get_takes_ranges_across_blocks")
class GetRoundsTheStartToABlock(MemoryBackend):
    def get(self, key: str, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        return super().get(key, start - start % 131_072 if start > 131_072 else start, stop)


@caught_by("get_of_nothing_is_not_found")
class GetOfNothingIsEmpty(MemoryBackend):
    async def get(self, key: str, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        if self.name_of(key) in self.store.objects:
            async for block in super().get(key, start, stop):
                yield block


@caught_by("a_reader_never_sees_a_mixture")
class GetReadsWhatIsThereNow(MemoryBackend):
    async def get(self, key: str, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        end = len(self.find(key).data) if stop is None else stop
        for position in range(start, end, 4096):
            yield self.find(key).data[position : min(position + 4096, end)]


@caught_by("a_replaced_object_is_never_gone")
class PutDeletesFirst(MemoryBackend):
    async def put(self, key: str, body: Body, *, condition: Condition | None = None) -> ObjectInfo:
        if condition is None:
            await self.delete(key)
            await asyncio.sleep(0)
        return await super().put(key, body, condition=condition)


@caught_by("a_replaced_object_is_never_gone")
class PutShowsHalfOfIt(MemoryBackend):
    async def put(self, key: str, body: Body, *, condition: Condition | None = None) -> ObjectInfo:
        if condition is None:
            data = await body.read()
            await super().put(key, HonestBody(data[: len(data) // 2]))
            await asyncio.sleep(0)
        return await super().put(key, body, condition=condition)


@caught_by("head_of_nothing_is_not_found")
class NotFoundDoesNotSayWhat(MemoryBackend):
    def find(self, key: str) -> StoredObject:
        try:
            return super().find(key)
        except NotFoundError:
            raise NotFoundError("404") from None


@caught_by("put_returns_what_head_and_list_then_say")
class ListTellsOtherVersions(MemoryBackend):
    async def list(self, prefix: str = "") -> AsyncGenerator[ObjectInfo, None]:
        async for info in super().list(prefix):
            yield replace(info, version=f'"{info.version}"')


@caught_by("head_is_never_stale")
class HeadIsRemembered(MemoryBackend):
    remembered: ObjectInfo | None = None

    async def head(self, key: str) -> ObjectInfo:
        if self.remembered is None or self.remembered.key != key:
            self.remembered = await super().head(key)
        return self.remembered


@caught_by("put_returns_what_head_and_list_then_say")
class ListIsLate(MemoryBackend):
    async def list(self, prefix: str = "") -> AsyncGenerator[ObjectInfo, None]:
        infos = [info async for info in super().list(prefix)]
        newest = max(map(int, (info.version for info in infos)), default=0)
        for info in infos:
            if int(info.version) < newest:
                yield info


@caught_by("list_gives_every_page")
class ListGivesOnePage(MemoryBackend):
    async def list(self, prefix: str = "") -> AsyncGenerator[ObjectInfo, None]:
        for info in [info async for info in super().list(prefix)][:1000]:
            yield info


@caught_by("list_gives_every_page")
class ListRepeatsTheFirstOfAPage(MemoryBackend):
    async def list(self, prefix: str = "") -> AsyncGenerator[ObjectInfo, None]:
        for number, info in enumerate([info async for info in super().list(prefix)]):
            yield info
            if number % 1000 == 999:
                yield info


@caught_by("list_finds_keys_by_prefix")
class ListTakesThePrefixForAFolder(MemoryBackend):
    async def list(self, prefix: str = "") -> AsyncGenerator[ObjectInfo, None]:
        async for info in super().list(prefix and prefix.rstrip("/") + "/"):
            yield info


@caught_by("list_finds_keys_by_prefix")
class ListIsShallow(MemoryBackend):
    async def list(self, prefix: str = "") -> AsyncGenerator[ObjectInfo, None]:
        async for info in super().list(prefix):
            if "/" not in info.key.removeprefix(prefix).removeprefix("/"):
                yield info


@caught_by("delete_of_nothing_is_success")
class DeleteOfNothingFails(MemoryBackend):
    async def delete(self, key: str) -> None:
        self.find(key)
        await super().delete(key)


@caught_by("delete_leaves_the_neighbours")
class DeleteIsByPrefix(MemoryBackend):
    async def delete(self, key: str) -> None:
        for info in [info async for info in self.list(key)]:
            await super().delete(info.key)


@caught_by("delete_removes_the_object")
class DeleteEmptiesTheObject(MemoryBackend):
    async def delete(self, key: str) -> None:
        if self.name_of(key) in self.store.objects:
            self.store.write(self.name_of(key), key, b"", None)


@caught_by("another_backend_sees_it_at_once")
class WritesAreBuffered(MemoryBackend):
    async def put(self, key: str, body: Body, *, condition: Condition | None = None) -> ObjectInfo:
        info = await super().put(key, body, condition=condition)
        self.held = {**getattr(self, "held", {}), key: self.store.objects.pop(self.name_of(key))}
        return info

    def find(self, key: str) -> StoredObject:
        held: dict[str, StoredObject] = getattr(self, "held", {})
        return held[key] if key in held else super().find(key)


@caught_by("closing_twice_is_closing_once")
class ClosesOnce(MemoryBackend):
    closed = False

    async def aclose(self) -> None:
        if self.closed:
            raise StorageError("closed already")
        self.closed = True


@caught_by("times_have_a_zone")
class TimesHaveNoZone(MemoryBackend):
    def describe(self, key: str, stored: StoredObject) -> ObjectInfo:
        return replace(super().describe(key, stored), modified=stored.modified.replace(tzinfo=None))


@caught_by("a_body_can_be_sent_again")
class BodiesAreReadOnce(MemoryBackend):
    async def put(self, key: str, body: Body, *, condition: Condition | None = None) -> ObjectInfo:
        seen = getattr(self, "seen", None)
        self.seen = body
        return await super().put(key, HonestBody(b"") if body is seen else body, condition=condition)
