"""Whole objects below one path, by a carrier: keys instead of names, conditions, and missing buckets told."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Final

from ackpt.backends.base import Body, Condition, IfVersion, ObjectInfo
from ackpt.backends.gs.carried.carrier import Carrier
from ackpt.backends.gs.checksum import check_object
from ackpt.backends.gs.errors import condition_failed
from ackpt.backends.gs.objects import condition_query
from ackpt.backends.http.purpose import Purpose, Subject
from ackpt.errors import (
    BucketNotFoundError,
    ConditionFailedError,
    NotFoundError,
    PermissionDeniedError,
    StorageError,
    TransientError,
)

_log = logging.getLogger(__name__)

_REPLACED_TIMES: Final = 5


class CarriedObjects:
    """Read and write the objects of one bucket whose names begin with `base`; errors tell keys."""

    def __init__(self, carrier: Carrier, bucket: str, base: str) -> None:
        self._carrier = carrier
        self._bucket = bucket
        self._base = base
        self._bucket_seen = False
        self._told = False

    async def put(self, key: str, body: Body, condition: Condition | None = None) -> ObjectInfo:
        """Write an object; one that is not what was sent is deleted again.

        Raises:
            AlreadyExistsError, ConditionFailedError: `condition` does not hold; nothing changed.
            ChecksumMismatchError: the bytes arrived damaged.
        """
        match = _match(condition, key)
        crc = await body.crc32c()
        purpose = self._purpose("put", key, Subject.BUCKET, condition)
        found = await self._carrier.insert(self._base + key, body, crc, match, purpose)
        self._bucket_seen = True
        info = replace(found, key=key)
        await self.check(info, size=body.size, crc32c=crc)
        return info

    async def get(self, key: str, start: int, stop: int | None) -> AsyncGenerator[bytes, None]:
        """Iterate over the bytes `start` to `stop`, all of one generation.

        An object that is replaced before its first bytes have come is read as it is then.

        Raises:
            StorageError: it is replaced later than that.
        """
        purpose = self._purpose("get", key)
        for _ in range(_REPLACED_TIMES):
            info = await self.head(key)
            end = info.size if stop is None else min(stop, info.size)
            if start >= end:
                return
            position = start
            async with aclosing(
                self._carrier.read(self._base + key, info.version, start, end, purpose)
            ) as pieces:
                try:
                    async for piece in pieces:
                        position += len(piece)
                        yield piece
                except NotFoundError as error:
                    if position > start:
                        raise StorageError(f"{key}: it was replaced while it was read", key=key) from error
                    continue
            return
        raise TransientError(f"{key}: it is replaced faster than it can be read", key=key)

    async def head(self, key: str) -> ObjectInfo:
        """Describe the live object."""
        try:
            found = await self._carrier.describe(self._base + key, self._purpose("head", key))
        except NotFoundError:
            await self._check_bucket(key)
            raise
        self._bucket_seen = True
        return replace(found, key=key)

    async def list(self, prefix: str) -> AsyncGenerator[ObjectInfo, None]:
        """Iterate over all objects whose key begins with `prefix`, a page at a time."""
        token, purpose = "", Purpose(action="list", bucket=self._bucket, subject=Subject.BUCKET)
        while True:
            page = await self._carrier.page(self._base + prefix, token, purpose)
            self._bucket_seen = True
            for info in page.infos:
                key = info.key.removeprefix(self._base)
                if key:  # the base itself can be an object: a folder made by other tools
                    yield replace(info, key=key)
            token = page.token
            if not token:
                return

    async def delete(self, key: str, *, version: str | None = None) -> None:
        """Delete the live object, or only if it is `version`; absent, or another, is success."""
        condition = None if version is None else IfVersion(version)
        purpose = self._purpose("delete", key, condition=condition)
        try:
            await self._carrier.delete(self._base + key, version, purpose)
        except NotFoundError:
            await self._check_bucket(key)
        except ConditionFailedError:
            return

    async def compose(
        self, sources: Sequence[ObjectInfo], key: str, condition: Condition | None = None
    ) -> ObjectInfo:
        """Make an object of others; NotFoundError where one of them is not there in its generation."""
        match = _match(condition, key)
        purpose = self._purpose("complete", key, Subject.UPLOAD, condition)
        named = [replace(source, key=self._base + source.key) for source in sources]
        info = replace(await self._carrier.compose(named, self._base + key, match, purpose), key=key)
        await self.check(info, size=sum(source.size for source in sources), crc32c=None)
        return info

    async def copy(self, source: ObjectInfo, key: str, condition: Condition | None) -> ObjectInfo:
        """Copy one generation, over as many requests as it takes; it appears with the last one, whole.

        Raises:
            NotFoundError: the source is not there, or no longer in that generation.
            AlreadyExistsError, ConditionFailedError: `condition` does not hold; nothing changed.
        """
        if not (source.version.isascii() and source.version.isdigit()):
            raise _another(source, "which is no generation")
        match = _match(condition, key)
        named = replace(source, key=self._base + source.key)
        # A refusal may be of the source's generation as well: there is a condition in any case.
        refused = condition or IfVersion(source.version)
        purpose = self._purpose(f"copy to {key} from", source.key, condition=refused)
        token = ""
        while True:
            try:
                done = await self._carrier.rewrite(named, self._base + key, token, match, purpose)
            except NotFoundError as error:
                await self._check_source(source)
                raise TransientError(
                    f"{purpose}: the copy was begun too long ago; begin anew", key=key
                ) from error
            except ConditionFailedError as error:
                await self._check_source(source)
                # The source is as it was asked for, and a generation never comes back: it is the copy's.
                if condition is None:
                    raise StorageError(
                        f"{purpose}: the store refuses a condition that was not made", key=key
                    ) from error
                raise condition_failed(condition, key, found="another one") from error
            if done.info is not None:
                break
            token = done.token
            if not token:
                raise StorageError(
                    f"{purpose}: the store says neither that the copy is done nor how to go on", key=key
                )
        info = replace(done.info, key=key)
        await self.check(info, size=source.size, crc32c=source.crc32c)
        return info

    async def check(self, info: ObjectInfo, *, size: int, crc32c: int | None) -> None:
        """Compare a new object with what was sent; one that differs is deleted, if it is still that one.

        Raises:
            ChecksumMismatchError: it differs.
            StorageError: it has another size.
        """
        discard = partial(self.delete, info.key, version=info.version)
        await check_object(info, size=size, crc32c=crc32c, discard=discard)

    def tell_of_parts_that_stay(self, error: PermissionDeniedError) -> None:
        """Tell, once, that what is put together of parts is there, and that the parts stay as well."""
        if not self._told:
            self._told = True
            _log.warning(
                "gs://%s: the parts of uploads may not be deleted, and take the room of every large object "
                "once more (%s)",
                self._bucket,
                error,
            )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._carrier.aclose()

    async def _check_source(self, source: ObjectInfo) -> None:
        """Find out of what a refusal speaks: one about the source and one about the copy look alike.

        Raises:
            NotFoundError: the source is not there, or no longer in that generation.
        """
        found = await self.head(source.key)
        if found.version != source.version:
            raise _another(source, f"found {found.version}")

    async def _check_bucket(self, key: str) -> None:
        """Find out, once, whether an absent object is one in an absent bucket: the answers look alike.

        Raises:
            BucketNotFoundError: there is no bucket.
        """
        if self._bucket_seen:
            return
        try:
            purpose = self._purpose("look for", key, Subject.BUCKET)
            await self._carrier.page(self._base + key, "", purpose, limit=1)
        except BucketNotFoundError:
            raise
        except StorageError:
            # Not allowed to list, say: then the bucket may be there, and the first answer stands.
            return
        self._bucket_seen = True

    def _purpose(
        self,
        action: str,
        key: str,
        subject: Subject = Subject.OBJECT,
        condition: Condition | None = None,
    ) -> Purpose:
        return Purpose(action=action, bucket=self._bucket, key=key, subject=subject, condition=condition)


def _match(condition: Condition | None, key: str) -> str | None:
    return condition_query(condition, key).get("ifGenerationMatch")


def _another(source: ObjectInfo, found: str) -> NotFoundError:
    return NotFoundError(f"{source.key}: expected generation {source.version}, {found}", key=source.key)
