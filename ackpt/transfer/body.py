"""The bytes of one request: from memory, or streamed from a range of a file."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from io import FileIO
from types import TracebackType
from typing import Final, Self

from ackpt.backends.base import Body, CopyLocal, LocalBody
from ackpt.errors import LocalFileError
from ackpt.options import MiB
from ackpt.transfer.blocks import BLOCK_BYTES
from ackpt.transfer.budget import Budget
from ackpt.transfer.checksum import crc32c, crc32c_of_file
from ackpt.transfer.local import FileStamp, OpenFile, local_errors

RING_BYTES: Final = 4 * BLOCK_BYTES
"""What one streaming iteration leases: the block read, the one handed out, and two still unsent."""

_AHEAD_BYTES: Final = 2 * MiB
_SMALL_BYTES: Final = 1 * MiB
_STRETCH_BYTES: Final = 4 * MiB
"""What is handed over at once: a hop to a thread is nothing beside it, and it shows that something moves."""


class BytesBody(Body):
    """Hold bytes that are in memory anyway: manifests, state files, tests."""

    __slots__ = ("_crc32c", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._crc32c: int | None = None

    @property
    def size(self) -> int:
        """Return the number of bytes."""
        return len(self._data)

    async def crc32c(self) -> int:
        """Return the CRC-32C of the bytes."""
        if self._crc32c is None:
            self._crc32c = crc32c(self._data)
        return self._crc32c

    async def __aiter__(self) -> AsyncGenerator[memoryview, None]:
        """Iterate over the bytes in blocks, without a copy; these stay valid."""
        view = memoryview(self._data)
        for start in range(0, len(view), BLOCK_BYTES):
            yield view[start : start + BLOCK_BYTES]

    async def read(self) -> bytes:
        """Return the bytes themselves; they are in memory already, so they cost the budget nothing."""
        return self._data


class FileBody(LocalBody):
    """Stream the bytes `start` to `stop` of a file; flat in memory, whatever their number.

    Pages that are in the page cache are read on the loop (a copy, no wait), others on a worker
    thread. One request at a time uses a body. Close it (`with`) when its request has ended.

    Every method that reads raises `LocalFileError` when the file cannot be read, is not the one
    that `stamp` describes (without one: that was read first), or changes while it is being read.
    """

    __slots__ = ("_budget", "_crc32c", "_held", "_leased", "_path", "_stamp", "_start", "_stop", "_turn")

    def __init__(
        self,
        path: str | os.PathLike[str],
        start: int,
        stop: int,
        *,
        budget: Budget,
        stamp: FileStamp | None = None,
    ) -> None:
        self._path = os.fspath(path)
        self._start = start
        self._stop = stop
        self._budget = budget
        self._stamp = stamp
        self._crc32c: int | None = None
        self._leased = 0
        self._held: list[bytearray] = []
        self._turn = 0

    @property
    def size(self) -> int:
        """Return the number of bytes."""
        return self._stop - self._start

    async def crc32c(self) -> int:
        """Return the CRC-32C of the bytes; free after a whole iteration or read, else a pass on a worker."""
        if self._crc32c is None:
            self._crc32c = await asyncio.to_thread(crc32c_of_file, self._path, self._start, self._stop)
        return self._crc32c

    async def __aiter__(self) -> AsyncGenerator[memoryview, None]:
        """Iterate over the bytes in read-only blocks, out of buffers that are used again.

        A buffer is used again only when nobody has a view of it (`BlockPool`).
        """
        budget, blocks = self._budget, self._budget.blocks
        turn = await self._lease(min(self.size, RING_BYTES))
        try:
            with self._open() as file:
                value, position = 0, self._start
                while position < self._stop:
                    block = blocks.take()
                    view = memoryview(block)[: self._stop - position]
                    try:
                        got = _read_cached(file.fileno(), [view], position)
                        if got < len(view):
                            await file.run(_read_into, self._path, view[got:], position + got, self._stop)
                        value = crc32c(view, value)
                        position += len(view)
                        if budget.limited:
                            await budget.travel(len(view))
                        yield view.toreadonly()
                        budget.moved(len(view))
                    finally:
                        del view
                        blocks.give(block)
                self._check(file)
        finally:
            if turn == self._turn:
                self.close()
        self._settle(value)

    async def hand_over(self, copy: CopyLocal) -> None:
        """Have the bytes copied from file to file; see `LocalBody.hand_over`."""
        budget = self._budget
        turn = await self._lease(min(self.size, RING_BYTES))
        try:
            with self._open() as file:
                value, position = 0, self._start
                while position < self._stop:
                    stop = min(self._stop, position + (BLOCK_BYTES if budget.limited else _STRETCH_BYTES))
                    await budget.travel(stop - position)
                    try:
                        value = await copy(file.fileno(), position, stop, value)
                    except LocalFileError as error:  # of somebody who has the descriptor alone
                        raise LocalFileError(f"{self._path}: {error}") from error
                    budget.moved(stop - position)
                    position = stop
                self._check(file)
        finally:
            if turn == self._turn:
                self.close()
        self._settle(value)

    async def read(self) -> bytes:
        """Return all the bytes; their memory stays leased until `close`."""
        pieces = await self.hold()
        return bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)

    async def hold(self) -> Sequence[bytes | memoryview]:
        """Return all the bytes in pieces; their memory stays leased until `close`.

        What the page cache has of a small body is read into blocks that are used again: a fresh
        `bytes` of its size costs more, in page faults, than the reading.
        """
        await self._lease(self.size)
        await self._budget.travel(self.size)
        with self._open() as file:
            pieces: Sequence[bytes | memoryview] | None = None
            value = 0
            if self.size <= _SMALL_BYTES:
                pieces = self._cached(file)
            if pieces is not None:
                for piece in pieces:
                    value = crc32c(piece, value)
            else:
                data, value = await file.run(_read, self._path, self._start, self._stop)
                pieces = (data,)
            self._check(file)
        self._settle(value)
        return pieces

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[None]:
        """Hold a connection of the budget for one attempt to send this, and at its end no memory any more.

        Who waits to try again holds nothing of what others may need.
        """
        async with self._budget.connection():
            try:
                yield
            finally:
                self.close()

    def close(self) -> None:
        """Give back the memory that was leased; idempotent, and the body may be read again."""
        leased, self._leased = self._leased, 0
        held, self._held = self._held, []
        for block in held:
            self._budget.blocks.give(block)
        self._budget.give_memory(leased)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def _lease(self, amount: int) -> int:
        """Lease memory in place of what is held: an attempt that was left behind must not block the next.

        Returns the number of this turn, which tells later whether the lease is still its own.
        """
        self.close()
        self._turn += 1
        turn = self._turn
        await self._budget.take_memory(amount)
        self._leased = amount
        return turn

    def _cached(self, file: OpenFile) -> Sequence[memoryview] | None:
        """Return all the bytes if the page cache has them; half the cost of a hop to a thread."""
        self._held = [self._budget.blocks.take() for _ in range(0, self.size, BLOCK_BYTES)]
        views = [memoryview(block) for block in self._held]
        if views:
            views[-1] = views[-1][: self.size - (len(views) - 1) * BLOCK_BYTES]
        if _read_cached(file.fileno(), views, self._start) != self.size:
            return None
        return [view.toreadonly() for view in views]

    def _open(self) -> OpenFile:
        """Open the file on the loop: on the local disk, just written, a hop to a thread costs more."""
        with local_errors(self._path):
            file = OpenFile(FileIO(self._path))
        try:
            self._check(file)
        except BaseException:
            file.close()
            raise
        return file

    def _check(self, file: OpenFile) -> None:
        with local_errors(self._path):
            stamp = FileStamp.of(file.fileno())
        if self._stamp is None:
            self._stamp = stamp
        if stamp != self._stamp:
            raise LocalFileError(
                f"{self._path}: changed while it was being sent (expected {self._stamp.size} bytes as they "
                f"were, found {stamp.size}); a staged file must not be touched until its save has ended"
            )

    def _settle(self, value: int) -> None:
        if self._crc32c not in (None, value):
            raise LocalFileError(
                f"{self._path}: bytes {self._start} to {self._stop} had crc32c {self._crc32c:08x} at first "
                f"and have {value:08x} now; the disk gives back other bytes than were written"
            )
        self._crc32c = value


def sending(body: Body) -> AbstractAsyncContextManager[None]:
    """Hold what one attempt to send `body` needs; nothing for bytes that are in memory anyway."""
    return body.sending() if isinstance(body, FileBody) else nullcontext()


_NOWAIT: int | None = getattr(os, "RWF_NOWAIT", None)  # Linux; elsewhere every read goes to a worker


def _read_cached(descriptor: int, views: Sequence[memoryview], position: int) -> int:
    """Read into `views` what the page cache has, without waiting; return how much that was."""
    if _NOWAIT is None:
        return 0
    try:
        return os.preadv(descriptor, views, position, _NOWAIT)
    except OSError:
        # EAGAIN: the first page is not there; EOPNOTSUPP: this file system cannot tell.
        # Either way the worker reads it, and meets there any error that is real.
        return 0


def _read_into(descriptor: int, path: str, view: memoryview, position: int, stop: int) -> None:
    """Fill `view` from the disk, and have the kernel fetch what comes after it."""
    with local_errors(path):
        if hasattr(os, "posix_fadvise"):
            ahead = min(stop, position + _AHEAD_BYTES) - position
            os.posix_fadvise(descriptor, position, ahead, os.POSIX_FADV_WILLNEED)
        while view:
            got = os.preadv(descriptor, [view], position)
            if not got:
                raise _too_short(path, stop, position)
            view = view[got:]
            position += got


def _read(descriptor: int, path: str, start: int, stop: int) -> tuple[bytes, int]:
    """Return the bytes and their CRC-32C."""
    pieces: list[bytes] = []
    value, position = 0, start
    with local_errors(path):
        while position < stop:
            piece = os.pread(descriptor, stop - position, position)
            if not piece:
                raise _too_short(path, stop, position)
            pieces.append(piece)
            value = crc32c(piece, value)
            position += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces), value


def _too_short(path: str, stop: int, position: int) -> LocalFileError:
    return LocalFileError(
        f"{path}: expected at least {stop} bytes, found {position}; a staged file must not be touched "
        "until its save has ended"
    )
