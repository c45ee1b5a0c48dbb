"""Large objects in order: resumable uploads, for endpoints that have no multipart uploads.

https://cloud.google.com/storage/docs/resumable-uploads
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import aclosing
from typing import Final

from yarl import URL

from ackpt.backends.base import (
    Body,
    Condition,
    IfAbsent,
    IfVersion,
    ObjectInfo,
    PartLimits,
    PartReceipt,
    SequentialUpload,
)
from ackpt.backends.gs.errors import condition_failed
from ackpt.backends.gs.json_object import json_object
from ackpt.backends.gs.objects import Objects
from ackpt.backends.gs.passage import GRANULARITY, Passage
from ackpt.backends.gs.resumable_api import ResumableApi
from ackpt.backends.http.message import Content, Reply
from ackpt.backends.http.purpose import Purpose
from ackpt.errors import NotFoundError, StorageError, TransientError, UnsupportedError

RESUMABLE_LIMITS: Final = PartLimits(
    min_part_bytes=GRANULARITY,
    max_part_bytes=5 << 40,
    max_parts=(5 << 40) // GRANULARITY,
    granularity_bytes=GRANULARITY,
)
"""No limits of its own but that of an object, 5 TiB: https://cloud.google.com/storage/quotas#objects"""

_PREFIX: Final = "session:"
_RANGE: Final = re.compile(r"bytes=0-(\d+)")


class ResumableUpload(SequentialUpload):
    """Be one resumable session, which takes the bytes from the first to the last.

    Parts but the last may have any size: up to 256 KiB that do not fill a multiple are held in
    memory until more come, or `complete`. So nothing is finished before `complete`, which brings
    the last bytes together with the checksum of all: damaged bytes never become an object.

    A precondition belongs to a session from its beginning, and is known at its end. `complete`
    compares the live generation with the condition, and then finishes the session: between the two
    another writer may get in. Correct for one writer; commits stand on puts, which are atomic.
    """

    def __init__(
        self, key: str, uri: URL, *, api: ResumableApi, objects: Objects, stored: int | None = None
    ) -> None:
        """Go on with a session that has `stored` bytes; None: ask before the first are sent."""
        self.key = key
        self.id = f"{_PREFIX}{uri}"
        self._uri = uri
        self._api = api
        self._objects = objects
        self._receipts: list[PartReceipt] = []
        self._crcs: list[int] = []
        self._total = 0
        self._crc = 0
        self._tail = b""
        self._stored = stored
        self._busy = False
        self._finishing = False
        self._finished = False

    async def put_part(self, number: int, body: Body) -> PartReceipt:
        """Send the next part, or what the store lacks of it.

        Raises:
            UnsupportedError: it is not the next one, nor a repeat of the same bytes.
        """
        if self._busy or number > len(self._receipts) + 1:
            raise UnsupportedError(
                f"{self.key}: the parts of a resumable upload go in order, one at a time: expected part "
                f"{len(self._receipts) + 1}, got {number}",
                key=self.key,
            )
        self._busy = True
        try:
            if number <= len(self._receipts):
                return await self._repeat(number, body)
            return await self._append(number, body)
        finally:
            self._busy = False

    async def parts(self) -> Sequence[PartReceipt]:
        """Return what was put through this object; the store knows bytes, not parts."""
        await self._ask()
        return list(self._receipts)

    async def complete(
        self, receipts: Sequence[PartReceipt], *, condition: Condition | None = None
    ) -> ObjectInfo:
        """Finish the session with the last bytes and the checksum of all.

        Asks first how far the session is where an earlier attempt has failed, so that it may be
        called again. The condition is compared before, not atomically (see the class).

        Raises:
            UnsupportedError: `receipts` are not those of the parts that were put.
        """
        numbers = sorted(receipt.number for receipt in receipts)
        if numbers != [receipt.number for receipt in self._receipts]:
            raise UnsupportedError(
                f"{self.key}: a resumable upload is completed from all its parts, "
                f"{len(self._receipts)} of them; got {numbers}",
                key=self.key,
            )
        done = await self._ask() if self._stored is None or self._finished else None
        if done is None:
            await self._check_condition(condition)
            done = await self._finish()
        self._finished = True
        info = self._objects.info(self.key, json_object(done, self._purpose()))
        await self._objects.check(info, size=self._total, crc32c=self._crc)
        return info

    async def abort(self) -> None:
        """Cancel the session; one that is finished or gone is left as it is."""
        await self._api.cancel(self._uri, self.key)

    async def refresh(self) -> None:
        """Ask how far the session is.

        Raises:
            NotFoundError: it was completed, aborted or has expired.
        """
        await self._ask()

    async def _append(self, number: int, body: Body) -> PartReceipt:
        if self._stored is None:
            await self._ask()
        passage = Passage(body, begin=self._total, stored=self._stored or 0, tail=self._tail, crc=self._crc)
        if passage.size:
            self._stored, stored = None, passage.stored
            content_range = f"bytes {stored}-{passage.stop - 1}/*"
            content = Content(blocks=passage.blocks, size=passage.size)
            reply = await self._api.send(self._uri, self.key, content_range=content_range, content=content)
            self._stored = self._read_stored(reply)
            if self._stored < passage.stop:
                raise TransientError(
                    f"{self.key}: the store took {self._stored - stored} of {passage.size} bytes",
                    key=self.key,
                )
        else:
            async with aclosing(passage.blocks()) as blocks:
                async for _ in blocks:
                    raise AssertionError("a passage with nothing to send gave a block")
            await self._ask()
        receipt = PartReceipt(number=number, size=body.size, token=str(number))
        self._receipts.append(receipt)
        self._crcs.append(await body.crc32c())
        self._total, self._tail, self._crc = passage.end, passage.tail, passage.crc
        return receipt

    async def _repeat(self, number: int, body: Body) -> PartReceipt:
        await self._ask()
        receipt = self._receipts[number - 1]
        if receipt.size != body.size or self._crcs[number - 1] != await body.crc32c():
            raise UnsupportedError(
                f"{self.key}: part {number} is in the session with other bytes; abort, and begin again",
                key=self.key,
            )
        return receipt

    async def _finish(self) -> Reply:
        stored = self._stored or 0
        if not self._total - len(self._tail) <= stored <= self._total:
            raise StorageError(
                f"{self.key}: the store has {stored} bytes of an upload of {self._total}", key=self.key
            )
        rest = self._tail[len(self._tail) - (self._total - stored) :]
        span = f"{stored}-{self._total - 1}" if rest else "*"
        self._finishing, self._stored = True, None
        reply = await self._api.send(
            self._uri,
            self.key,
            content_range=f"bytes {span}/{self._total}",
            content=Content.of(rest, "application/octet-stream") if rest else None,
            # Google's own clients send the checksum with the last request, too:
            # https://github.com/googleapis/python-storage/pull/1654
            crc=self._crc,
        )
        if reply.status == 308:
            self._stored = self._read_stored(reply)
            raise TransientError(f"{self.key}: the store has not taken all bytes yet", key=self.key)
        return reply

    async def _ask(self) -> Reply | None:
        """Ask how far the session is; return the answer that it is finished, if we have asked for that.

        Raises:
            NotFoundError: it was completed, aborted or has expired.
        """
        if self._finished:
            raise self._gone()
        reply = await self._api.send(self._uri, self.key, content_range="bytes */*", content=None)
        if reply.status != 308:
            if self._finishing:
                return reply
            raise self._gone()
        self._stored = self._read_stored(reply)
        return None

    def _read_stored(self, reply: Reply) -> int:
        """Read a 308: `Range` tells the bytes there are; without it there are none."""
        if reply.status != 308:
            raise self._gone()
        text = reply.headers.get("Range")
        match = None if text is None else _RANGE.fullmatch(text)
        if text is not None and match is None:
            raise StorageError(f"{self.key}: expected Range: bytes=0-N, got {text!r}", key=self.key)
        return 0 if match is None else int(match.group(1)) + 1

    async def _check_condition(self, condition: Condition | None) -> None:
        if condition is None:
            return
        try:
            version = (await self._objects.head(self.key)).version
        except NotFoundError:
            version = None
        match condition:
            case IfAbsent() if version is None:
                return
            case IfVersion(wanted) if version == wanted:
                return
        raise condition_failed(condition, self.key, found=f"generation {version}")

    def _gone(self) -> NotFoundError:
        return NotFoundError(f"{self.key}: the upload was completed, aborted or has expired", key=self.key)

    def _purpose(self) -> Purpose:
        return Purpose(action="complete", bucket="", key=self.key)


def session_uri(upload_id: str) -> URL | None:
    """Return the session's URI that an upload's id holds; None for an id of another kind."""
    if not upload_id.startswith(_PREFIX):
        return None
    return URL(upload_id.removeprefix(_PREFIX), encoded=True)
