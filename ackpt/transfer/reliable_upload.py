"""An upload whose requests are retried, whose parts are verified, and whose lost completion is settled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from ackpt.backends.base import Body, Condition, ObjectInfo, PartReceipt, SequentialUpload, Upload
from ackpt.errors import (
    AckptError,
    ChecksumMismatchError,
    ConditionFailedError,
    NotFoundError,
    StorageError,
    TransientError,
)
from ackpt.transfer.body import sending
from ackpt.transfer.checksum import combine
from ackpt.transfer.retry import Retry, settled
from ackpt.transfer.stall import watched

_COMPLETION_PATIENCE: Final = 5.0
"""A completion may take several minutes:
https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html
"""


class Holds(Protocol):
    """Return the object if it has this size and CRC-32C (`ackpt.transfer.reliable.holds`, for one key)."""

    def __call__(
        self, *, size: int, checksum: Callable[[], Awaitable[int]], moved: Callable[[], None]
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

        what = f"part {number} of {self.key}"

        async def attempt() -> PartReceipt:
            async with sending(body), self._retry.watch(what) as watch:
                receipt = await self._inner.put_part(number, watched(body, watch))
            sent = await body.crc32c()
            if receipt.size != body.size or receipt.crc32c not in (None, sent):
                raise self._damaged(
                    f"part {number} of {self.key}: sent {body.size} bytes with crc32c {sent:08x}, the store "
                    f"received {_describe(receipt)}"
                )
            self._sent[number] = sent
            return receipt

        try:
            return await self._retry(attempt, what=what)
        except TransientError:
            raise  # it has a note of what was given up
        except AckptError as error:
            error.add_note(f"at {what}")
            raise

    def _damaged(self, found: str) -> StorageError:
        """Make the error of a part that arrived with other bytes: it is sent again."""
        return ChecksumMismatchError(found, key=self.key)

    async def parts(self) -> Sequence[PartReceipt]:
        """Return the parts the store has."""
        what = f"list of the parts of {self.key}"

        async def attempt() -> Sequence[PartReceipt]:
            async with self._retry.watch(what):
                return await self._inner.parts()

        return await self._retry(attempt, what=what)

    async def complete(
        self, receipts: Sequence[PartReceipt], *, condition: Condition | None = None
    ) -> ObjectInfo:
        """Complete; an upload that is gone, or a condition that is broken, after a lost reply is settled."""
        what = f"completion of {self.key}"

        async def attempt() -> ObjectInfo:
            async with self._retry.watch(what, patience=_COMPLETION_PATIENCE):
                return await self._inner.complete(receipts, condition=condition)

        return await settled(
            self._retry,
            attempt,
            refusals=(NotFoundError, ConditionFailedError),
            done=lambda: self._completed(receipts),
            what=what,
        )

    async def abort(self) -> None:
        """Drop the upload; idempotent, also after a lost reply."""
        what = f"abort of the upload of {self.key}"

        async def attempt() -> None:
            async with self._retry.watch(what):
                await self._inner.abort()

        await self._retry(attempt, what=what)

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

        size = sum(receipt.size for receipt in receipts)
        async with self._retry.watch(f"check of {self.key}") as watch:
            return await self._holds(size=size, checksum=checksum, moved=watch.pulse)


class ReliableSequentialUpload(ReliableUpload, SequentialUpload):
    """Be reliable, in order."""

    def _damaged(self, found: str) -> StorageError:
        """Make the error of a part that arrived with other bytes: none can be taken back, so all is lost."""
        return NotFoundError(f"{found}; the upload cannot be completed", key=self.key)


def _describe(receipt: PartReceipt) -> str:
    checksum = "" if receipt.crc32c is None else f" with crc32c {receipt.crc32c:08x}"
    return f"{receipt.size} bytes{checksum}"
