"""A body's bytes into a file: from file to file on a worker, or in batches, written and summed meanwhile."""

from __future__ import annotations

import os
from asyncio import Future
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from crc32c import crc32c

from ackpt.backends._file.request import Request
from ackpt.backends._file.transplant import transplant
from ackpt.backends.base import Body, LocalBody
from ackpt.errors import ChecksumMismatchError, StorageError
from ackpt.options import KiB

BATCH_BYTES: Final = 512 * KiB
"""Bytes for each call on a worker: a hop for every block of 128 KiB would cost as much as the writing."""


@dataclass(frozen=True, slots=True)
class Received:
    """Say what was written: its size, and its CRC-32C as taken from the very bytes that were written."""

    size: int
    crc32c: int


async def receive(request: Request, descriptor: int, offset: int, body: Body) -> Received:
    """Write all of `body` at `offset`.

    One that is a local file is put there from file to file; of another, one batch is written while
    the next is filled.

    Raises:
        StorageError: it gave more or fewer bytes than its `size`; nothing past that was written.
        ChecksumMismatchError: the bytes have another checksum than it announces.
        StorageFullError: the disk is full.
    """
    if isinstance(body, LocalBody):
        total, value = await _transplant(request, descriptor, offset, body)
    else:
        total, value = await _stream(request, descriptor, offset, body)
    key, size = request.key, body.size
    if total != size:
        came = "more" if total > size else str(total)
        raise StorageError(f"{key}: expected {size} bytes, the body gave {came}", key=key)
    announced = await body.crc32c()
    if announced != value:
        raise ChecksumMismatchError(f"{key}: expected crc32c {announced:08x}, got {value:08x}", key=key)
    return Received(size, value)


async def _transplant(request: Request, descriptor: int, offset: int, body: LocalBody) -> tuple[int, int]:
    """Return how many bytes came, and the checksum of those that were written."""
    source: int | None = None
    total, checksum = 0, 0

    async def copy(file: int, start: int, stop: int, value: int) -> int:
        nonlocal source, total, checksum
        if source is None:
            # Our own: the body closes its file when this is cancelled, while a worker may still read.
            source = os.dup(file)
            request.stack.callback(os.close, source)
        total += stop - start
        if total <= body.size:
            place = offset + total - (stop - start)
            checksum = await request.run(transplant, source, start, stop, descriptor, place, value)
        return checksum

    await body.hand_over(copy)
    return total, checksum


async def _stream(request: Request, descriptor: int, offset: int, body: Body) -> tuple[int, int]:
    """Return how many bytes came, and the checksum of those that were written."""
    size, total = body.size, 0
    batch = _Batches(request, descriptor, offset, min(size, BATCH_BYTES))
    async with aclosing(body.__aiter__()) as blocks:
        async for block in blocks:
            total += len(block)
            if total > size:
                break
            await batch.add(block)
    return total, await batch.finish()


class _Batches:
    """Fill one buffer while the other is written."""

    def __init__(self, request: Request, descriptor: int, offset: int, size: int) -> None:
        self._request = request
        self._descriptor = descriptor
        self._offset = offset
        self._filling = memoryview(bytearray(size))
        self._spare: memoryview | None = None
        self._used = 0
        self._crc32c = 0
        self._writing: Future[int] | None = None

    async def add(self, block: memoryview) -> None:
        while block:
            if self._used == len(self._filling):
                await self._flush()
            taken = block[: len(self._filling) - self._used]
            self._filling[self._used : self._used + len(taken)] = taken
            self._used += len(taken)
            block = block[len(taken) :]

    async def finish(self) -> int:
        if self._used:
            await self._start()
        await self._settle()
        return self._crc32c

    async def _flush(self) -> None:
        await self._start()
        full = self._filling
        self._filling, self._spare = self._spare or memoryview(bytearray(len(full))), full
        self._used = 0

    async def _start(self) -> None:
        await self._settle()
        filled = self._filling[: self._used]
        self._writing = self._request.start(_write, self._descriptor, filled, self._offset, self._crc32c)
        self._offset += self._used

    async def _settle(self) -> None:
        if self._writing is not None:
            self._crc32c = await self._request.wait(self._writing)
            self._writing = None


def _write(descriptor: int, view: memoryview, offset: int, value: int) -> int:
    """Write all of `view`, and go on with the checksum while it is in the cache."""
    value = crc32c(view, value)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view = view[written:]
        offset += written
    return value
