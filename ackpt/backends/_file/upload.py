"""An upload to a file: parts written in place into one temporary file, which completion renames.

A part goes to its slot, (number - 1) strides into the data file, where the stride is the size of the
first part that came. A slot has one writer ever at a time, and is never written again once its part
is in the journal. What does not fit that (a part sent again, a larger part, a slot taken by somebody
else) goes to a file of its own, and completion then copies all parts into a new file. So parts of one
size, the last one smaller, cost nothing to complete, and any others are right all the same.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Final

from crc32c import crc32c

from ackpt.backends._file.checksum import crc32c_of_parts
from ackpt.backends._file.copy import copy_range
from ackpt.backends._file.journal import Journal, JournalState, KeptPart
from ackpt.backends._file.locks import try_lock, unlock
from ackpt.backends._file.place import JOURNAL, UPLOAD, Place
from ackpt.backends._file.receive import Received, receive
from ackpt.backends._file.request import Request, Requests
from ackpt.backends._file.root import Root
from ackpt.backends._file.sweep import remove, remove_folder
from ackpt.backends.base import Body, Condition, ObjectInfo, PartLimits, PartReceipt, Upload
from ackpt.errors import NotFoundError, StorageError, TransientError, UnsupportedError
from ackpt.options import GiB, MiB

FILE_LIMITS: Final = PartLimits(min_part_bytes=1, max_part_bytes=64 * GiB, max_parts=10_000)
"""No limits of file systems, but figures that keep a journal short and a sparse file allowed."""

_DATA: Final = "data"
_TRIES: Final = 5
_SPARSE_BYTES: Final = 1 << 42  # ext4 with blocks of 4 KiB allows files of 2^44 bytes
_ID: Final = re.compile("[0-9a-f]{32}")


@dataclass(slots=True, kw_only=True)
class _Target:
    """Say where a part under way is being written."""

    number: int
    token: str
    name: str
    offset: int
    descriptor: int
    recorded: bool = False


class FileUpload(Upload):
    """Be an upload below the root; it lives in a folder of its own until it is completed or aborted.

    Receipts that this very object has written are trusted. Others (of an earlier process, perhaps
    before a crash of the machine) are, once their bytes have been read again and have the checksum
    that the journal says; those that have not are dropped from `parts`.
    """

    def __init__(self, root: Root, requests: Requests, key: str, upload_id: str) -> None:
        self.key = key
        self.id = upload_id
        self._root = root
        self._requests = requests
        self._folder = os.path.join(root.home, UPLOAD + upload_id)
        self._journal = Journal(os.path.join(self._folder, JOURNAL), key)
        self._trusted: set[str] = set()
        # In order of the calls: parts begun together would else take their slots in any order, and
        # the last, smaller one could set the stride.
        self._turn = asyncio.Lock()

    async def put_part(self, number: int, body: Body) -> PartReceipt:
        """Send one part; see `Upload.put_part`.

        Raises:
            NotFoundError: the upload was completed or aborted.
            UnsupportedError: the number or the size is out of the limits.
            ChecksumMismatchError, StorageError: the body's bytes are not those it announced.
            StorageFullError, PermissionDeniedError, TransientError: as the system says.
        """
        size = body.size
        if not 1 <= number <= FILE_LIMITS.max_parts or size > FILE_LIMITS.max_part_bytes:
            raise UnsupportedError(
                f"{self.key}: part {number} of {size} bytes; expected a number from 1 to "
                f"{FILE_LIMITS.max_parts}, and at most {FILE_LIMITS.max_part_bytes} bytes",
                key=self.key,
            )
        async with self._begin() as request:
            async with self._turn:
                target = await request.run(self._take_place, request.stack, number, size)
            received = await receive(request, target.descriptor, target.offset, body)
            return await request.end(self._record, target, received)

    async def parts(self) -> Sequence[PartReceipt]:
        """Return the parts, by number; see `Upload.parts`. Reads what is not trusted yet."""
        async with self._begin() as request:
            parts = await self._verified(request)
        return [parts[number].receipt for number in sorted(parts)]

    async def complete(
        self, receipts: Sequence[PartReceipt], *, condition: Condition | None = None
    ) -> ObjectInfo:
        """Make the object; see `Upload.complete`. After a failed condition the upload is still there.

        The checksum is put together from the parts' own, which were taken from the bytes on their way
        into the file; they are not read again.

        Raises:
            AlreadyExistsError, ConditionFailedError: `condition` does not hold; nothing changed.
            NotFoundError: the upload was completed or aborted.
            StorageError: a receipt is not of a part that the upload has.
            StorageFullError, PermissionDeniedError, TransientError: as the system says.
        """
        async with self._begin() as request:
            await self._verified(request)
            return await request.end(self._complete, request, receipts, condition)

    async def abort(self) -> None:
        """Drop the upload; see `Upload.abort`."""
        async with self._begin() as request:
            await request.end(self._abort)

    async def create(self) -> None:
        """Make the upload, which has a fresh id."""
        async with self._begin() as request:
            await request.end(self._create)

    async def reopen(self) -> None:
        """Look that the upload is there, and free the slots that dead writers had taken.

        Raises:
            NotFoundError: it was completed or aborted, is for another key, or never was.
        """
        if _ID.fullmatch(self.id) is None:
            raise self._journal.gone()
        async with self._begin() as request:
            await request.end(self._reopen, request.stack)

    def _begin(self) -> Request:
        return self._requests.begin(f"{self.key} (part of an upload)", self.key)

    # From here on everything blocks, and is called on a worker.

    def _create(self) -> None:
        Place.of(self.key)
        for _ in range(_TRIES):
            # A sweep removes a folder without a journal; it may come in between.
            with suppress(FileNotFoundError):
                self._root.make_home()
                os.mkdir(self._folder)
                Journal.create(self._journal.path, self.key)
                return
            remove_folder(self._folder)
        raise TransientError(f"{self.key}: somebody keeps removing {self._folder}", key=self.key)

    def _reopen(self, stack: ExitStack) -> None:
        head = Journal.head(self._journal.path)
        if head is None or head[0] != self.key:
            raise self._journal.gone()
        with self._journal.locked() as journal:
            in_data = any(part.name == _DATA for part in journal.state.parts.values())
            try:
                descriptor = self._open_data(stack)
            except FileNotFoundError:
                if not in_data:
                    return
                # Renamed to its object, and killed before the rest was removed.
                journal.end()
                remove_folder(self._folder)
                raise self._journal.gone() from None
            if try_lock(descriptor):
                journal.append({"kind": "free-all"})
                unlock(descriptor)

    def _abort(self) -> None:
        with suppress(NotFoundError), self._journal.locked() as journal:
            journal.end()
        remove_folder(self._folder)

    def _open_data(self, stack: ExitStack, *, create: bool = False) -> int:
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
        descriptor = os.open(os.path.join(self._folder, _DATA), flags, 0o666)
        stack.callback(os.close, descriptor)
        return descriptor

    def _take_place(self, stack: ExitStack, number: int, size: int) -> _Target:
        token = secrets.token_hex(8)
        with self._journal.locked() as journal:
            stride = journal.state.stride or size
            if self._fits(journal.state, number, size, stride):
                descriptor = self._open_data(stack, create=True)
                # Shared by all who write to slots; whoever completes or reopens asks for it alone.
                if not try_lock(descriptor, shared=True):
                    raise TransientError(f"{self.key}: its upload is being completed", key=self.key)
                stack.callback(unlock, descriptor)
                journal.append({"kind": "slot", "number": number, "token": token, "stride": stride})
                offset = (number - 1) * stride
                target = _Target(number=number, token=token, name=_DATA, offset=offset, descriptor=descriptor)
                stack.callback(self._free, target)
                return target
            name = f"part-{number}-{token}"
            path = os.path.join(self._folder, name)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            stack.callback(os.close, descriptor)
            target = _Target(number=number, token=token, name=name, offset=0, descriptor=descriptor)
            stack.callback(self._drop, target, path)
            return target

    @staticmethod
    def _fits(state: JournalState, number: int, size: int, stride: int) -> bool:
        free = number not in state.slots and number not in state.parts
        return free and 0 < size <= stride and number * stride <= _SPARSE_BYTES

    def _free(self, target: _Target) -> None:
        """Give a slot back that no part came into."""
        if not target.recorded:
            with suppress(NotFoundError), self._journal.locked() as journal:
                journal.append({"kind": "free", "number": target.number, "token": target.token})

    @staticmethod
    def _drop(target: _Target, path: str) -> None:
        if not target.recorded:
            remove(path)

    def _record(self, target: _Target, received: Received) -> PartReceipt:
        with self._journal.locked() as journal:
            earlier = journal.state.parts.get(target.number)
            journal.append(
                {
                    "kind": "part",
                    "number": target.number,
                    "size": received.size,
                    "crc32c": received.crc32c,
                    "token": target.token,
                    "name": target.name,
                    "offset": target.offset,
                }
            )
            target.recorded = True
            self._trusted.add(target.token)
            if earlier is not None and earlier.name != _DATA:
                remove(os.path.join(self._folder, earlier.name))
            return journal.state.parts[target.number].receipt

    # What is not trusted is read again.

    async def _verified(self, request: Request) -> dict[int, KeptPart]:
        for part in (await request.run(self._kept)).values():
            if part.receipt.token in self._trusted:
                continue
            if await request.run(self._is_whole, part):
                self._trusted.add(part.receipt.token)
            else:
                await request.run(self._lose, part)
        return await request.run(self._kept)

    def _kept(self) -> dict[int, KeptPart]:
        with self._journal.locked() as journal:
            return dict(journal.state.parts)

    def _is_whole(self, part: KeptPart) -> bool:
        try:
            descriptor = os.open(os.path.join(self._folder, part.name), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            value, position, end = 0, part.offset, part.offset + part.receipt.size
            view = memoryview(bytearray(min(MiB, part.receipt.size)))
            while position < end:
                got = os.preadv(descriptor, [view[: end - position]], position)
                if not got:
                    return False
                value = crc32c(view[:got], value)
                position += got
            return value == part.receipt.crc32c
        finally:
            os.close(descriptor)

    def _lose(self, part: KeptPart) -> None:
        with self._journal.locked() as journal:
            journal.append({"kind": "lost", "number": part.receipt.number, "token": part.receipt.token})

    # Completion; the journal is locked all the while, so that no part comes in between.

    def _complete(
        self, request: Request, receipts: Sequence[PartReceipt], condition: Condition | None
    ) -> ObjectInfo:
        with self._journal.locked() as journal:
            chosen = self._chosen(journal.state, receipts)
            self._root.check(self.key, condition)
            value = crc32c_of_parts((part.receipt.crc32c or 0, part.receipt.size) for part in chosen)
            descriptor = self._in_place(request.stack, chosen, journal.state)
            path = os.path.join(self._folder, _DATA)
            if descriptor is None:
                descriptor, path = self._root.temporary(request.stack)
                for part, offset in zip(chosen, _offsets(chosen), strict=False):
                    if not request.given_up:
                        self._copy(part, descriptor, offset)
            info = self._root.publish(request, descriptor, path, self.key, value, condition)
            journal.end()
        remove_folder(self._folder)
        return info

    def _chosen(self, state: JournalState, receipts: Sequence[PartReceipt]) -> list[KeptPart]:
        chosen = []
        for receipt in sorted(receipts, key=lambda receipt: receipt.number):
            part = state.parts.get(receipt.number)
            if part is None or part.receipt.token != receipt.token:
                raise StorageError(
                    f"{self.key}: part {receipt.number} of upload {self.id} is not the one in the receipt; "
                    "send it again",
                    key=self.key,
                )
            chosen.append(part)
        return chosen

    def _in_place(self, stack: ExitStack, chosen: list[KeptPart], state: JournalState) -> int | None:
        """Open the data file if it is the object already: all parts in place, and nobody writing to it."""
        places = [(_DATA, offset) for offset in _offsets(chosen)]
        if [(part.name, part.offset) for part in chosen] != places[:-1]:
            return None
        if len(chosen) != sum(part.name == _DATA for part in state.parts.values()):
            # A part is left out. Cutting it off would lose it, should the condition fail.
            return None
        descriptor = self._open_data(stack, create=not chosen)
        if not try_lock(descriptor):
            return None
        stack.callback(unlock, descriptor)
        os.ftruncate(descriptor, places[-1][1])
        return descriptor

    def _copy(self, part: KeptPart, target: int, offset: int) -> None:
        source = os.open(os.path.join(self._folder, part.name), os.O_RDONLY | os.O_CLOEXEC)
        try:
            position, end = part.offset, part.offset + part.receipt.size
            while position < end:
                copied = copy_range(source, target, end - position, position, offset)
                if not copied:
                    raise StorageError(
                        f"{self.key}: part {part.receipt.number} is cut off in the upload's folder",
                        key=self.key,
                    )
                position += copied
                offset += copied
        finally:
            os.close(source)


def _offsets(parts: Sequence[KeptPart]) -> list[int]:
    """Return where each part begins in the object, and where the last one ends."""
    offsets = [0]
    for part in parts:
        offsets.append(offsets[-1] + part.receipt.size)
    return offsets
