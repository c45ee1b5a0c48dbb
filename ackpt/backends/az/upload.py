"""Large objects: blocks staged under the object's own name, in any order, and joined in one atomic step.

What Azure keeps staged belongs to a name, not to an upload. So every block's id has its upload's
mark, and a ticket beside the name says which uploads there are. Joining the blocks of one upload
drops those of every other to the same name; these then are gone, and never mixed into it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from awscrt.checksums import combine_crc32c

from ackpt.backends.az.blobs import Blobs
from ackpt.backends.az.blocks import Blocks, block_id, new_mark
from ackpt.backends.az.errors import condition_failed
from ackpt.backends.az.tickets import Tickets
from ackpt.backends.base import (
    Body,
    Condition,
    IfAbsent,
    IfVersion,
    ObjectInfo,
    PartLimits,
    PartReceipt,
    Upload,
)
from ackpt.backends.http.undo import undo
from ackpt.errors import ChecksumMismatchError, NotFoundError, TransientError, UnsupportedError
from ackpt.options import MiB

BLOCK_LIMITS: Final = PartLimits(min_part_bytes=1, max_part_bytes=4000 * MiB, max_parts=50_000)
"""https://learn.microsoft.com/azure/storage/blobs/scalability-targets#scale-targets-for-blob-storage"""


class Uploads:
    """Write objects by blocks, in one container."""

    def __init__(self, blobs: Blobs, blocks: Blocks, tickets: Tickets) -> None:
        self.blobs = blobs
        self.blocks = blocks
        self.tickets = tickets

    async def put(self, key: str, body: Body, condition: Condition | None) -> ObjectInfo:
        """Write an object by a single block: damaged bytes are noticed before anybody can see them."""
        block = block_id(new_mark(), 1)
        try:
            crc32c = await self.blocks.put(key, block, body, what="the bytes")
            return await self.join(key, [block], size=body.size, condition=condition, crc32c=crc32c)
        except NotFoundError as error:
            raise TransientError(f"{key}: another write dropped what this one had staged", key=key) from error
        except BaseException:
            await undo(self.drop(key))
            raise

    async def join(
        self, key: str, blocks: Sequence[str], *, size: int, condition: Condition | None, crc32c: int | None
    ) -> ObjectInfo:
        """Join blocks; where they are gone, find out whether the condition is broken, too.

        The store's answer tells no size: without a checksum it is asked for.

        Raises:
            AlreadyExistsError, ConditionFailedError: `condition` does not hold; nothing changed.
            NotFoundError: a block is not there.
        """
        try:
            info = await self.blocks.join(key, blocks, size=size, condition=condition, crc32c=crc32c)
        except NotFoundError:
            if condition is not None:
                await self._check(key, condition)
            raise
        if crc32c is None:
            head = await self.blobs.head(key)
            if head.version == info.version:
                return head
        return info

    async def drop(self, key: str, mark: str = "") -> None:
        """Drop what is staged under a name, unless an upload other than `mark` is under way there."""
        if not await self.tickets.others(key, mark):
            await self.blocks.drop(key)

    async def _check(self, key: str, condition: Condition) -> None:
        try:
            found = (await self.blobs.head(key)).version
        except NotFoundError:
            found = None
        match condition:
            case IfAbsent() if found is None:
                return
            case IfVersion(version) if found == version:
                return
        raise condition_failed(condition, key, found=f"the ETag {found}" if found else "none")


class AzUpload(Upload):
    """Be one upload; its id is its mark."""

    def __init__(self, key: str, mark: str, uploads: Uploads) -> None:
        self.key = key
        self.id = mark
        self._uploads = uploads
        self._crcs: dict[int, int | None] = {}
        self._damaged: set[int] = set()
        self._completed = False

    async def put_part(self, number: int, body: Body) -> PartReceipt:
        """Send one part, streamed, and compare its checksum with the one the store answers with.

        A part that arrived damaged stays staged until its repeat replaces it; `parts` does not tell
        it meanwhile.

        Raises:
            ChecksumMismatchError: it arrived damaged.
            UnsupportedError: there is no such number, or the part has no bytes.
        """
        if not 1 <= number <= BLOCK_LIMITS.max_parts or not body.size:
            raise UnsupportedError(
                f"part {number} of {self.key}: expected a number from 1 to {BLOCK_LIMITS.max_parts} and at "
                f"least one byte, got {body.size}",
                key=self.key,
            )
        await self._check_alive()
        block = block_id(self.id, number)
        try:
            crc32c = await self._uploads.blocks.put(self.key, block, body, what=f"part {number}")
        except ChecksumMismatchError:
            self._damaged.add(number)
            raise
        self._damaged.discard(number)
        # Of two bodies for one number nobody can say which came last.
        self._crcs[number] = crc32c if self._crcs.get(number, crc32c) == crc32c else None
        return PartReceipt(number=number, size=body.size, token=block, crc32c=crc32c)

    async def parts(self) -> Sequence[PartReceipt]:
        """Return the parts the store has; it tells no checksums of them."""
        await self._check_alive()
        return [
            PartReceipt(number=number, size=size, token=block_id(self.id, number))
            for number, size in await self._uploads.blocks.staged(self.key, self.id)
            if number not in self._damaged
        ]

    async def complete(
        self, receipts: Sequence[PartReceipt], *, condition: Condition | None = None
    ) -> ObjectInfo:
        """Join the parts; atomic, also under a condition. The checksum is kept if all parts' are known."""
        await self._check_alive()
        ordered = sorted(receipts, key=lambda receipt: receipt.number)
        info = await self._uploads.join(
            self.key,
            [block_id(self.id, receipt.number) for receipt in ordered],
            size=sum(receipt.size for receipt in ordered),
            condition=condition,
            crc32c=self._crc32c(ordered),
        )
        self._completed = True
        # The object is there, whatever becomes of the ticket: one that stays is left to the sweep.
        await undo(self._uploads.tickets.delete(self.key, self.id))
        return info

    async def abort(self) -> None:
        """Drop what is staged, and the ticket; an object is left as it is."""
        if self._completed:
            return
        await self._uploads.drop(self.key, self.id)
        await self._uploads.tickets.delete(self.key, self.id)

    async def _check_alive(self) -> None:
        """Look for the ticket: a block can be staged at any time, whoever has dropped the upload."""
        if self._completed:
            raise NotFoundError(f"{self.key}: the upload was completed", key=self.key)
        await self._uploads.tickets.check(self.key, self.id)

    def _crc32c(self, ordered: Sequence[PartReceipt]) -> int | None:
        """Put the parts' checksums together; None where the store has not confirmed each."""
        whole = 0
        for receipt in ordered:
            if receipt.crc32c is None or self._crcs.get(receipt.number) != receipt.crc32c:
                return None
            whole = combine_crc32c(whole, receipt.crc32c, receipt.size)
        return whole
