"""A large file becomes an object part by part, and goes on where an earlier upload ended."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from ackpt.backends.base import (
    Condition,
    MultipartBackend,
    ObjectInfo,
    PartReceipt,
    SequentialUpload,
    Upload,
)
from ackpt.errors import ConditionFailedError, NotFoundError, StorageFullError, UploadCompletedError
from ackpt.transfer.checksum import combine
from ackpt.transfer.clean_up import clean_up
from ackpt.transfer.fan_out import fan_out
from ackpt.transfer.plan import Part
from ackpt.transfer.progress import Progress
from ackpt.transfer.read_back import read_back
from ackpt.transfer.reliable import holds
from ackpt.transfer.source import Source

_logger = logging.getLogger(__name__)

_ABORT_SECS: Final = 10.0
_CHECKS_AT_ONCE: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class PartsUpload:
    """Send the parts of `plan` to `store` (a `reliable` one), as `upload_object` describes."""

    store: MultipartBackend
    source: Source
    plan: Sequence[Part]
    keep_upload: bool
    on_upload: Callable[[str], Awaitable[None]] | None
    progress: Progress

    async def send(self, condition: Condition | None, upload_id: str | None) -> tuple[ObjectInfo, int]:
        """Upload, going on with `upload_id`; return what the store then has, and the CRC-32C sent.

        An upload that is gone was completed by the process before, or has expired: then a new one
        is begun, once.
        """
        try:
            return await self._send(condition, upload_id)
        except NotFoundError as error:
            _logger.debug("the upload of %s is gone (%s); starting again", self.source.key, error)
            self.progress.take_back()
        if upload_id is not None:
            info = await holds(
                self.store, self.source.key, size=self.source.size, checksum=self.source.checksum
            )
            if info is not None:
                self.progress.add(info.size)
                return info, await self.source.checksum()
        return await self._send(condition, None)

    async def _send(self, condition: Condition | None, upload_id: str | None) -> tuple[ObjectInfo, int]:
        if upload_id is None:
            upload = await self.store.create_upload(self.source.key)
        else:
            upload = await self.store.open_upload(self.source.key, upload_id)
        resumable = upload_id is not None
        try:
            if upload_id is None and self.on_upload is not None:
                await self.on_upload(upload.id)
                resumable = True
            stored = {} if upload_id is None else await self._stored(upload)
            sent = await fan_out(
                [partial(self._put_part, upload, part, stored) for part in self.plan],
                limit=1 if isinstance(upload, SequentialUpload) else self.source.budget.connections,
            )
            info = await upload.complete([receipt for receipt, _ in sent], condition=condition)
            if info.crc32c is None and any(receipt.crc32c is None for receipt, _ in stored.values()):
                # Not even of the parts that were taken over is a checksum told.
                value = await read_back(self.store, self.source.key, self.source.budget)
                info = replace(info, crc32c=value)
        except BaseException as error:
            lost = isinstance(error, (ConditionFailedError, NotFoundError))  # no resume would mend it
            # What is kept in a full store would leave no room for any later save.
            lost = lost or isinstance(error, StorageFullError)
            if lost or not (resumable and self.keep_upload):
                await clean_up(
                    upload.abort,
                    secs=_ABORT_SECS,
                    after=error,
                    what=f"the upload of {self.source.key} was not aborted",
                )
            raise
        whole = 0
        for part, (_, value) in zip(self.plan, sent, strict=True):
            whole = combine(whole, value, part.size)
        return info, whole

    async def _stored(self, upload: Upload) -> Mapping[int, tuple[PartReceipt, int]]:
        """Return what the store has that equals the file: receipts, and the file's CRC-32C, by number.

        A store that tells no checksum of a part is believed, if the size is right: a damaged part
        shows in the checksum of the whole, and then all are sent again.
        """
        try:
            listed = await upload.parts()
        except UploadCompletedError:  # a process died in the middle of the completion: it is done again
            listed = [PartReceipt(number=part.number, size=part.size, token="") for part in self.plan]
        receipts = {receipt.number: receipt for receipt in listed}

        async def compare(part: Part) -> tuple[PartReceipt, int] | None:
            receipt = receipts.get(part.number)
            if receipt is None or receipt.size != part.size:
                return None
            value = await self.source.checksum(part)
            return (receipt, value) if receipt.crc32c in (None, value) else None

        found = await fan_out([partial(compare, part) for part in self.plan], limit=_CHECKS_AT_ONCE)
        return {same[0].number: same for same in found if same is not None}

    async def _put_part(
        self, upload: Upload, part: Part, stored: Mapping[int, tuple[PartReceipt, int]]
    ) -> tuple[PartReceipt, int]:
        """Send a part, unless the store has it; return its receipt and CRC-32C."""
        if part.number in stored:
            self.progress.add(part.size)
            return stored[part.number]
        body = self.source.body(part)
        receipt = await upload.put_part(part.number, body)
        value = await body.crc32c()
        self.progress.add(part.size)
        return receipt, value
