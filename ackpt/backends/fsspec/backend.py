"""The backend on an fsspec filesystem: blocking calls on worker threads, whole files moved into place."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Final, Self

from ackpt.backends.base import Backend, Body, Condition, ObjectInfo, SingleWriter
from ackpt.backends.fsspec.caller import Caller, one_at_a_time
from ackpt.backends.fsspec.errors import translated
from ackpt.backends.fsspec.options import Opener, filesystem_opener, read_fsspec_options
from ackpt.backends.fsspec.place import Aside, Place
from ackpt.errors import BucketNotFoundError, ChecksumMismatchError, StorageError, TransientError
from ackpt.options import MiB
from ackpt.url import StorageURL

_log = logging.getLogger(__name__)

_PIECE_BYTES: Final = 1 * MiB
"""What is handed to a worker at a time: a hop to a thread for every block would cost too much."""

_ANSWER_SECS: Final = 30.0
_REPLACED_TIMES: Final = 5


class FsspecBackend(SingleWriter, Backend):
    """Be the files below `fsspec+<protocol>://…`, on any filesystem of fsspec.

    An object is written under a name aside and moved into place when it is whole, so that readers
    see all of it or nothing, as far as the filesystem's move does. Conditions are looked at just
    before the move: correct for one writer. A version is what the filesystem tells of a file
    (ETag, time, size). It reports no checksum; `verify` reads back instead. What a writer that died
    has left aside for a day goes at the first write.
    """

    def __init__(self, opener: Opener, *, verify: bool, name: str) -> None:
        """Make the backend; `opener` is called at the first request, on a worker."""
        self._opener = opener
        self._verify = verify
        self._name = name
        self._place: Place | None = None
        self._opening = asyncio.Lock()
        self._call = Caller()
        self._swept = False

    @classmethod
    def from_url(cls, url: StorageURL) -> Self:
        """Make a backend for `fsspec+<protocol>://…?fs.argument=value`.

        Raises:
            InvalidURLError, UnknownSchemeError, MissingDependencyError: fsspec cannot make such a filesystem.
            InvalidOptionError: an option that is unknown, or a credential.
        """
        return cls(filesystem_opener(url), verify=read_fsspec_options(url).verify, name=str(url))

    async def put(self, key: str, body: Body, *, condition: Condition | None = None) -> ObjectInfo:
        """Write one object aside and move it into place; see `Backend.put`.

        Raises:
            ChecksumMismatchError: other bytes are read back than were written; no reader sees them.
        """
        async with self._using(key) as place:
            place.path(key)
            await self._call(place.check, key, condition)
            aside = place.aside()
            try:
                await self._write(aside, body)
                if self._verify:
                    await self._compare(key, aside, body)
                info = await self._call(aside.publish, key, condition)
            except BaseException:
                await self._discard(aside)
                raise
            await self._sweep(place, info)
        return info

    async def get(self, key: str, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        """Iterate over an object's bytes; see `Backend.get`.

        Some filesystems read exactly the version that they have opened. An object that is replaced
        before its first bytes have come is read as it is then.
        """
        async with self._using(key) as place:
            for _ in range(_REPLACED_TIMES):
                info = await self._call(place.status, key)
                end = info.size if stop is None else min(stop, info.size)
                pieces, begun = place.read(key, start, end, _PIECE_BYTES), False
                try:
                    while (piece := await self._call(_next, pieces)) is not None:
                        begun = True
                        yield piece
                    return
                except OSError:
                    if begun or await self._call(place.status, key) == info:
                        raise
                finally:
                    with suppress(RuntimeError, ValueError):  # a read that was left behind is still at it
                        await self._call(pieces.close)
        raise TransientError(f"{key}: it is replaced faster than it can be read", key=key)

    async def head(self, key: str) -> ObjectInfo:
        """Describe the object; see `Backend.head`."""
        async with self._using(key) as place:
            return await self._call(place.status, key)

    async def list(self, prefix: str = "") -> AsyncGenerator[ObjectInfo, None]:
        """Iterate over the objects; see `Backend.list`. All of them are held in memory."""
        async with self._using(prefix) as place:
            found = await self._call(place.walk, prefix)
        for info in found:
            yield info

    async def delete(self, key: str) -> None:
        """Delete the object; see `Backend.delete`."""
        async with self._using(key) as place:
            await self._call(place.remove, key)

    async def aclose(self) -> None:
        """Close the connection, where the filesystem keeps one; idempotent."""
        place, self._place = self._place, None
        if place is not None:
            await self._close(place)
        self._call.close()

    @asynccontextmanager
    async def _using(self, key: str) -> AsyncGenerator[Place, None]:
        """Give the place, and translate what happens there; a lost connection is opened anew by the next.

        Raises:
            TransientError: the connection was lost.
        """
        place = await self._ready()
        try:
            with translated(key):
                yield place
        except StorageError as error:
            vague = type(error) in (StorageError, TransientError)
            if not vague or not self._call.queued or not await self._is_lost(place):
                raise
            raise TransientError(
                f"{key or 'the root'}: the connection to {self._name} is lost ({error})", key=key
            ) from error

    async def _is_lost(self, place: Place) -> bool:
        """Find out, after an error that may mean anything, whether a filesystem's only connection is lost."""
        if self._place is place:
            try:
                async with asyncio.timeout(_ANSWER_SECS):
                    lost = not await self._call(place.answers)
            except TimeoutError:
                lost = True
            if not lost:
                return False
        if self._place is place:  # no other call has found out meanwhile
            self._place = None
            await self._close(place)
        return True

    async def _close(self, place: Place) -> None:
        """Close the connection, in a thread of its own: that ends a call that was left behind on it, too."""
        with suppress(Exception):  # a connection that is broken is closed
            async with asyncio.timeout(_ANSWER_SECS):
                await asyncio.to_thread(place.close)

    async def _ready(self) -> Place:
        async with self._opening:
            if self._call.stuck:
                stuck, self._place, self._call.stuck = self._place, None, False
                if stuck is not None:
                    await self._close(stuck)
            if self._place is None:
                with translated(self._name):
                    filesystem, root = await self._call(self._opener)
                self._place = Place(filesystem, root)
                if one_at_a_time(filesystem):
                    self._call.queue_up()
            return self._place

    async def _write(self, aside: Aside, body: Body) -> None:
        """Write a body aside; where there is no place for it some filesystems say so only in the end."""
        await self._call(aside.open, verified=self._verify)
        async for piece in _pieces(body):
            await self._call(aside.write, piece)
        try:
            await self._call(aside.close)
        except FileNotFoundError as error:
            raise BucketNotFoundError(f"there is no place to write to below {self._name}: {error}") from error

    async def _compare(self, key: str, aside: Aside, body: Body) -> None:
        """Read back what was written, and compare it with what was sent."""
        sent = await body.crc32c()
        found = await self._call(aside.checksum, body.size, _PIECE_BYTES)
        if found != sent:
            raise ChecksumMismatchError(
                f"{key}: wrote {body.size} bytes with crc32c {sent:08x}, read back {found:08x}", key=key
            )

    async def _sweep(self, place: Place, written: ObjectInfo) -> None:
        """Once, after the first write, remove what dead writers left; what cannot be is left to the next."""
        if self._swept or written.modified is None:
            return
        self._swept = True
        try:
            await self._call(place.sweep, written.modified)
        except Exception as error:
            _log.debug("what dead writers left aside could not be removed: %s", error)

    async def _discard(self, aside: Aside) -> None:
        """Remove a file aside; what cannot be removed is of no harm there, and is logged."""
        if self._call.stuck:
            return
        try:
            async with asyncio.timeout(_ANSWER_SECS):
                await self._call(aside.discard)
        except Exception as error:
            _log.debug("a file aside could not be removed: %s", error)


async def _pieces(body: Body) -> AsyncGenerator[bytes, None]:
    """Iterate over a body in pieces that are worth a hop to a thread."""
    held = bytearray()
    async for block in body:
        held += block
        if len(held) >= _PIECE_BYTES:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)


def _next(pieces: Iterator[bytes]) -> bytes | None:
    return next(pieces, None)
