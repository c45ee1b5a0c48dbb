"""An upload's journal: its key, and which part lies where; one JSON object a line, shared by processes.

The journal is the upload: without it the upload is gone. Every record is written under its lock.
Nothing is synced: after a crash of the machine, parts are trusted only once their checksums have
been read again (`FileUpload`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ackpt.backends._file.locks import unlock, wait_for_lock
from ackpt.backends.base import PartReceipt
from ackpt.errors import NotFoundError

JSONValue = str | int | None
Record = Mapping[str, JSONValue]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptPart:
    """Say where a part lies: `size` bytes at `offset` of the file `name` in the upload's folder."""

    receipt: PartReceipt
    name: str
    offset: int


@dataclass(slots=True)
class JournalState:
    """Hold what the records say so far.

    `stride` is the distance between slots of the data file, `slots` who holds one: a part number,
    and the token of the writer that may write there.
    """

    stride: int | None = None
    slots: dict[int, str] = field(default_factory=dict)
    parts: dict[int, KeptPart] = field(default_factory=dict)

    def apply(self, record: Record) -> None:
        """Take one record in; kinds that a later version may add are passed over."""
        match record:
            case {"kind": "slot", "number": int(number), "token": str(token), "stride": int(stride)}:
                self.stride = stride
                self.slots[number] = token
            case {"kind": "free", "number": int(number), "token": str(token)}:
                if self.slots.get(number) == token:
                    del self.slots[number]
            case {"kind": "free-all"}:
                self.slots.clear()
            case {"kind": "lost", "number": int(number), "token": str(token)}:
                if number in self.parts and self.parts[number].receipt.token == token:
                    del self.parts[number]
                    self.slots.pop(number, None)
            case {
                "kind": "part",
                "number": int(number),
                "size": int(size),
                "crc32c": int(crc32c),
                "token": str(token),
                "name": str(name),
                "offset": int(offset),
            }:
                receipt = PartReceipt(number=number, size=size, token=token, crc32c=crc32c)
                self.parts[number] = KeptPart(receipt=receipt, name=name, offset=offset)
            case _:
                return


class Journal:
    """Read and extend the journal of one upload; several of these may be open for it."""

    def __init__(self, path: str, key: str) -> None:
        self.path = path
        self._key = key
        self.state = JournalState()
        self._read = 0

    @staticmethod
    def create(path: str, key: str) -> None:
        """Begin a journal.

        Raises:
            FileNotFoundError: its folder is not there.
        """
        head = {"kind": "upload", "key": key, "created": datetime.now(UTC).isoformat()}
        with open(path, "xb", buffering=0) as file:
            file.write(_line(head))

    @staticmethod
    def head(path: str) -> tuple[str, datetime] | None:
        """Read the key, and when the journal last grew; None where there is no (whole) first line.

        By the file system's clock, as the times of objects are: the host that began the upload may
        have another. `created` in the first line is for people.
        """
        try:
            with open(path, "rb") as file:
                record = _parse(file.readline())
                grown = os.fstat(file.fileno()).st_mtime
        except FileNotFoundError:
            return None
        match record:
            case {"kind": "upload", "key": str(key)}:
                return key, datetime.fromtimestamp(grown, UTC)
        return None

    @contextmanager
    def locked(self) -> Iterator[OpenJournal]:
        """Hold the journal's lock, with all records read. Blocks the thread.

        Raises:
            NotFoundError: the upload was completed or aborted.
            TransientError: somebody else has held the lock all the time.
        """
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError as error:
            raise self.gone() from error
        try:
            wait_for_lock(descriptor, f"the upload to {self._key}")
            try:
                if not os.fstat(descriptor).st_nlink:
                    raise self.gone()
                yield OpenJournal(self, descriptor)
            finally:
                unlock(descriptor)
        finally:
            os.close(descriptor)

    def gone(self) -> NotFoundError:
        """Make the error of an upload that is not there."""
        return NotFoundError(
            f"{self._key}: the upload is not there; it was completed or aborted", key=self._key
        )

    def catch_up(self, descriptor: int) -> bool:
        """Read what was written since; tell whether the last line was torn by a crash."""
        with open(descriptor, "rb", closefd=False) as file:
            file.seek(self._read)
            rest = file.read()
        whole, newline, torn = rest.rpartition(b"\n")
        for line in whole.split(b"\n"):
            record = _parse(line)
            if record is not None:
                self.state.apply(record)
        self._read += len(whole) + len(newline)
        return bool(torn)


class OpenJournal:
    """Be a journal while its lock is held: everything in it has been read."""

    def __init__(self, journal: Journal, descriptor: int) -> None:
        self._journal = journal
        self._descriptor = descriptor
        self._torn = journal.catch_up(descriptor)

    @property
    def state(self) -> JournalState:
        """Return what the records say so far."""
        return self._journal.state

    def append(self, record: Record) -> None:
        """Write one record, and take it in; a line that a crash has torn is ended first."""
        rest = memoryview(b"\n" + _line(record) if self._torn else _line(record))
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        self._torn = self._journal.catch_up(self._descriptor)

    def end(self) -> None:
        """Remove the journal, and with it the upload."""
        os.unlink(self._journal.path)


def _line(record: Record) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def _parse(line: bytes) -> Record | None:
    """Read one line; None where it is torn."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
