"""An upload whose requests are retried, whose parts are verified, and whose lost completion is settled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from ackpt.backends.base import Body, Condition, ObjectInfo, PartReceipt, SequentialUpload, Upload
from ackpt.errors import ChecksumMismatchError, ConditionFailedError, NotFoundError
from ackpt.transfer.checksum import combine
from ackpt.transfer.retry import Retry, settled


class Holds(Protocol):
    """Return the object if it has this size and CRC-32C (`ackpt.transfer.reliable.holds`, for one key)."""

    def __call__(
        self, *, size: int, checksum: Callable[[], Awaitable[int]]
    ) -> Awaitable[ObjectInfo | None]: ...


class ReliableUpload(Upload):
    """Send the requests of `inner` again, each within `retry`."""

    def __init__(self, inner: Upload, retry: Retry, holds: Holds) -> None:
        self.key = inner.key
        self.id = inner.id
        self._inner = inner
        self._retry = retry
        self._holds = holds
        self._sent: dict[int, int] = {}

    async def put_part(self, number: int, body: Body) -> PartReceipt:
        """Put the part, and again if the store's receipt tells of other bytes."""

        async def attempt() -> PartReceipt:
            receipt = await self._inner.put_part(number, body)
            sent = await body.crc32c()
            if receipt.size != body.size or receipt.crc32c not in (None, sent):
                raise ChecksumMismatchError(
                    f"part {number} of {self.key}: sent {body.size} bytes with crc32c {sent:08x}, the store "
                    f"received {_describe(receipt)}",
                    key=self.key,
                )
            self._sent[number] = sent
            return receipt

        return await self._retry(attempt, what=f"part {number} of {self.key}")

    async def parts(self) -> Sequence[PartReceipt]:
        """Return the parts the store has."""
        return await self._retry(self._inner.parts, what=f"list of the parts of {self.key}")

    async def complete(
        self, receipts: Sequence[PartReceipt], *, condition: Condition | None = None
    ) -> ObjectInfo:
        """Complete; an upload that is gone, or a condition that is broken, after a lost reply is settled."""
        return await settled(
            self._retry,
            lambda: self._inner.complete(receipts, condition=condition),
            refusals=(NotFoundError, ConditionFailedError),
            done=lambda: self._completed(receipts),
            what=f"completion of {self.key}",
        )

    async def abort(self) -> None:
        """Drop the upload; idempotent, also after a lost reply."""
        await self._retry(self._inner.abort, what=f"abort of the upload of {self.key}")

    async def _completed(self, receipts: Sequence[PartReceipt]) -> ObjectInfo | None:
        """Return the object if it is made of `receipts`; None also where no checksum tells."""
        value = 0
        for receipt in receipts:
            part = self._sent.get(receipt.number, receipt.crc32c)
            if part is None:
                return None
            value = combine(value, part, receipt.size)

        async def checksum() -> int:
            return value

        return await self._holds(size=sum(receipt.size for receipt in receipts), checksum=checksum)


class ReliableSequentialUpload(ReliableUpload, SequentialUpload):
    """Be reliable, in order."""


def _describe(receipt: PartReceipt) -> str:
    checksum = "" if receipt.crc32c is None else f" with crc32c {receipt.crc32c:08x}"
    return f"{receipt.size} bytes{checksum}"
