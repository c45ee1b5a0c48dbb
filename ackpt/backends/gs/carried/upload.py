"""Large objects in parallel parts, each an object of its own, put together by the store.

The client libraries have no multipart uploads that take a stream and a precondition. They have
compositions: atomic, under a precondition, of exactly the generations named, without a byte sent
again (https://cloud.google.com/storage/docs/composite-objects).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Final, TypeVar

from ackpt.backends.base import Body, Condition, IfAbsent, ObjectInfo, PartLimits, PartReceipt, Upload
from ackpt.backends.gs.aside import aside
from ackpt.backends.gs.carried import names
from ackpt.backends.gs.carried.carrier import COMPOSE_LIMIT
from ackpt.backends.gs.carried.empty import EmptyBody
from ackpt.backends.gs.carried.objects import CarriedObjects
from ackpt.errors import NotFoundError, PermissionDeniedError, StorageError, UnsupportedError
from ackpt.options import GiB

T = TypeVar("T")
R = TypeVar("R")

_AT_A_TIME: Final = 8

_log = logging.getLogger(__name__)

COMPOSED_LIMITS: Final = PartLimits(min_part_bytes=1, max_part_bytes=5 * GiB, max_parts=names.MAX_PARTS)
"""A composite object may have any number of components, each of any size up to 5 TiB:
https://cloud.google.com/storage/docs/composite-objects#considerations. These bounds are ours.
"""


class ComposedUpload(Upload):
    """Be one upload; its parts go in any order, many at a time, and the store tells their checksums."""

    def __init__(self, key: str, mark: str, objects: CarriedObjects) -> None:
        self.key = key
        self.id = names.upload_id(mark)
        self._mark = mark
        self._aside = aside(key, mark)
        self._objects = objects

    async def begin(self) -> None:
        """Say in the bucket that the upload is open."""
        await self._objects.put(self._aside, EmptyBody(), IfAbsent())

    async def put_part(self, number: int, body: Body) -> PartReceipt:
        """Send one part as an object of its own; the store compares its checksum.

        Whether the upload is still open is asked after that: a part that comes later than the end
        of its upload removes itself.
        """
        if not 1 <= number <= names.MAX_PARTS:
            raise UnsupportedError(
                f"{self.key}: parts are numbered from 1 to {names.MAX_PARTS}, got {number}", key=self.key
            )
        name = names.part(self.key, self._mark, number)
        info = await self._objects.put(name, body)
        try:
            await self.check_open()
        except NotFoundError:
            await self._objects.delete(name, version=info.version)
            raise
        return PartReceipt(number=number, size=info.size, token=info.version, crc32c=info.crc32c)

    async def parts(self) -> Sequence[PartReceipt]:
        """Return the parts the store has."""
        await self.check_open()
        receipts = []
        async with aclosing(self._objects.list(f"{self._aside}.part-")) as infos:
            async for info in infos:
                number = names.part_number(info.key, self._aside)
                if number is not None:
                    receipts.append(
                        PartReceipt(number=number, size=info.size, token=info.version, crc32c=info.crc32c)
                    )
        return sorted(receipts, key=lambda receipt: receipt.number)

    async def complete(
        self, receipts: Sequence[PartReceipt], *, condition: Condition | None = None
    ) -> ObjectInfo:
        """Put the parts together under the key, in one request that holds the condition.

        Atomic. The parts are deleted after it; what cannot be deleted is left to a sweep.
        """
        await self.check_open()
        try:
            info = await self._objects.compose(await self._join(receipts), self.key, condition)
        except NotFoundError as missing:
            await self.check_open()
            raise StorageError(
                f"{self.key}: a part that the completion names is not there; send it again", key=self.key
            ) from missing
        try:
            await self.abort()
        except PermissionDeniedError as error:
            self._objects.tell_of_parts_that_stay(error)
        except StorageError as error:
            _log.debug("%s: the parts of a completed upload were not deleted: %s", self.key, error)
        return info

    async def abort(self) -> None:
        """Drop the upload, first its sign of being open, then its parts."""
        await self._objects.delete(self._aside)
        async with aclosing(self._objects.list(self._aside)) as infos:
            left = [info.key async for info in infos]
        await _together(self._objects.delete, left)

    async def check_open(self) -> None:
        """Raise NotFoundError where the upload was completed or aborted."""
        try:
            await self._objects.head(self._aside)
        except NotFoundError as error:
            raise NotFoundError(
                f"{self.key}: the upload was completed, aborted or has expired", key=self.key
            ) from error

    async def has_left_something(self) -> bool:
        """Tell whether there is anything that an abort would remove."""
        async with aclosing(self._objects.list(self._aside)) as infos:
            async for _ in infos:
                return True
        return False

    async def _join(self, receipts: Sequence[PartReceipt]) -> Sequence[ObjectInfo]:
        """Put parts together until there are few enough for one request more."""
        sources: Sequence[ObjectInfo] = [
            ObjectInfo(
                key=names.part(self.key, self._mark, receipt.number),
                size=receipt.size,
                version=receipt.token,
            )
            for receipt in sorted(receipts, key=lambda receipt: receipt.number)
        ]
        level = 0
        while len(sources) > COMPOSE_LIMIT:
            level += 1
            named = [
                (names.join(self.key, self._mark, level, number), group)
                for number, group in enumerate(names.groups(sources, COMPOSE_LIMIT), start=1)
            ]
            sources = await _together(lambda each: self._objects.compose(each[1], each[0]), named)
        return sources


async def _together(call: Callable[[T], Awaitable[R]], items: Sequence[T]) -> list[R]:
    """Call for each item, a few at a time; all have ended when this raises the first error."""
    found: list[R] = []
    for group in names.groups(items, _AT_A_TIME):
        results = await asyncio.gather(*(call(item) for item in group), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
            found.append(result)
    return found
