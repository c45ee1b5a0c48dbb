"""The local file that an upload reads: which one, in what state, and the bodies cut out of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from ackpt.errors import LocalFileError
from ackpt.transfer.body import FileBody
from ackpt.transfer.budget import Budget
from ackpt.transfer.checksum import crc32c_of_file
from ackpt.transfer.local import FileStamp, local_errors
from ackpt.transfer.plan import Part


class LocalFile(Protocol):
    """Name a finished local file and the key it goes to (`ackpt.checkpoint.staged.StagedFile` is one)."""

    @property
    def key(self) -> str:
        """Return the key below the backend's URL."""

    @property
    def path(self) -> Path:
        """Return the place on the local disk."""

    @property
    def size(self) -> int:
        """Return the size in bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Hold what all requests of one upload read from: the same file, in the same state."""

    key: str
    path: Path
    size: int
    stamp: FileStamp
    budget: Budget

    @classmethod
    def open(cls, file: LocalFile, budget: Budget) -> Self:
        """Look at the file; a stat on the local disk, for which a hop to a thread would cost more.

        Raises:
            LocalFileError: it is not there, or has another size than was recorded.
        """
        with local_errors(file.path):
            stamp = FileStamp.of(file.path)
        if stamp.size != file.size:
            raise LocalFileError(
                f"{file.path}: expected {file.size} bytes as they were staged, found {stamp.size}; "
                "a staged file must not be touched until its save has ended"
            )
        return cls(key=file.key, path=file.path, size=file.size, stamp=stamp, budget=budget)

    @property
    def whole(self) -> Part:
        """Return the file as one part."""
        return Part(number=1, start=0, stop=self.size)

    def body(self, part: Part) -> FileBody:
        """Make the body that streams `part`."""
        return FileBody(self.path, part.start, part.stop, budget=self.budget, stamp=self.stamp)

    async def checksum(self, part: Part | None = None) -> int:
        """Return the CRC-32C of `part`, or of the whole file, read by a worker."""
        part = self.whole if part is None else part
        return await asyncio.to_thread(crc32c_of_file, self.path, part.start, part.stop)
