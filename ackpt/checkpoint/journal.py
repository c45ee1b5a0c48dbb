"""The journal of one save in the staging folder: what a later process needs to finish it.

Append-only, one JSON object a line, each fsynced before it counts; a torn last line is ignored.
A record is written after what it speaks of is on the disk.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ackpt.checkpoint.fence import Claim
from ackpt.checkpoint.manifest import check_key, make_prefix, read_crc32c, split_prefix
from ackpt.checkpoint.staged import StagedFile
from ackpt.errors import StagingError
from ackpt.transfer.checksum import crc32c_of_file

_VERSION = 1

_NOT_THERE = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.ENAMETOOLONG}
)
"""What says that there is no such file, and not that it cannot be read just now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalState:
    """Say what a journal tells: the save, its finished files, its open uploads, how far it came.

    `uploads` are sealed ids, by key.
    """

    step: int
    prefix: str
    metrics: Mapping[str, float]
    files: tuple[StagedFile, ...] = ()
    uploads: Mapping[str, str] = field(default_factory=dict)
    claim: Claim | None = None
    heirs: frozenset[str] = frozenset()
    """Writers that have taken the save over since, or were about to."""
    staged: bool = False
    damaged: bool = False
    """Something in the middle of it, or a file that it tells of, is not as it was written."""


class Journal:
    """Append to the journal of one save; blocking, one thread at a time."""

    def __init__(self, path: Path) -> None:
        """Open the journal, or begin one; half a line at its end, of a process that died, is cut off.

        Raises:
            OSError: it cannot be opened.
        """
        self._path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(self._fd, path.read_bytes().rfind(b"\n") + 1)
        except BaseException:
            self.close()
            raise

    def begin(self, *, step: int, prefix: str, metrics: Mapping[str, float], claim: Claim) -> None:
        """Record which checkpoint this is, and whose; the first record."""
        self._append(
            {"record": "begin", "version": _VERSION, "step": step, "prefix": prefix, "metrics": dict(metrics)}
        )
        self._append({"record": "claim", **claim.to_document()})

    def add_heir(self, writer: str) -> None:
        """Record who is about to claim the run, and will then be free to commit the checkpoint, too."""
        self._append({"record": "heir", "writer": writer})

    def add_file(self, file: StagedFile) -> None:
        """Make a finished file durable, then record it, with its checksum: disks err, too."""
        fsync_path(file.path)
        checksum = f"{crc32c_of_file(file.path):08x}"
        self._append({"record": "file", "key": file.key, "size": file.size, "crc32c": checksum})

    def mark_staged(self, files: Path) -> None:
        """Make all names durable, from those below `files` up to that of the save; then record it."""
        for folder, _, _ in os.walk(files):
            fsync_path(Path(folder))
        fsync_path(self._path.parent)
        fsync_path(self._path.parent.parent)
        self._append({"record": "staged"})

    def add_upload(self, key: str, sealed_id: str) -> None:
        """Record an upload that was begun, so that a later process can go on with it.

        The id is sealed: it may let anybody write the object (see `ackpt.checkpoint.seal`).
        """
        self._append({"record": "upload", "key": key, "id": sealed_id})

    def close(self) -> None:
        """Close the file; idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _append(self, record: Mapping[str, object]) -> None:
        line = json.dumps(record, ensure_ascii=True).encode() + b"\n"
        end = os.fstat(self._fd).st_size
        try:
            while line:  # a short write only happens when the disk is full, and the next one then raises
                line = line[os.write(self._fd, line) :]
            os.fsync(self._fd)
        except OSError:
            os.ftruncate(self._fd, end)  # or the next record would be joined to half a line
            raise


def read_journal(path: Path, files: Path) -> JournalState | None:
    """Return what the journal at `path` tells; None where it does not even tell which save it is.

    `files` is the folder with the staged files. Reading ends at the first record that is damaged,
    of another version, names anything outside of `files` (also by a link), or a file that is not
    there in the recorded size: what came before is true, the rest is not used.

    Raises:
        StagingError: it, or a file that it tells of, cannot be read just now (no file descriptor is
            free, say, or the disk errs): nothing is known of the save, least of all that it is of no use.
    """
    try:
        lines = _read_file(path).split(b"\n")[:-1]
        reading = _Reading(Path(os.path.realpath(files.parent)) / files.name)
        for line in lines:
            try:
                reading.take(json.loads(line))
            except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
                return reading.state(files, damaged=True)
    except OSError as error:
        raise StagingError(
            f"what lies staged in {path.parent} cannot be read now ({error.strerror}); it was left as it is: "
            "try again, or move that folder away to go on without it"
        ) from error
    return reading.state(files, damaged=False)


def _read_file(path: Path) -> bytes:
    """Read a file that is none of somebody else's behind a link, and no pipe; nothing where there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _NOT_THERE:
            return b""
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        return b""
    with open(fd, "rb") as file:
        return file.read()


class _Reading:
    """Take the records of a journal, one after another; each is believed, or raises."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._begin: tuple[int, str, Mapping[str, float]] | None = None
        self._files: dict[str, tuple[int, int]] = {}
        self._uploads: dict[str, str] = {}
        self._claim: Claim | None = None
        self._heirs: set[str] = set()
        self._staged = False

    def take(self, record: dict[str, object]) -> None:
        kind = record["record"]
        if kind == "begin" and record["version"] == _VERSION:
            self._begin = _beginning(record)
        elif kind == "claim":
            self._claim = Claim.from_document(record)
        elif kind == "heir":
            self._heirs.add(_text(record["writer"]))
        elif kind == "file":
            key = self._key(record)
            self._files[key] = (
                _size(self._root / key, record["size"]),
                read_crc32c(record["crc32c"]),
            )
        elif kind == "upload":
            self._uploads[self._key(record)] = _text(record["id"])
        elif kind == "staged":
            self._staged = True
        else:
            raise ValueError(f"unknown record {kind!r}")

    def state(self, files: Path, *, damaged: bool) -> JournalState | None:
        if self._begin is None:
            return None
        step, prefix, metrics = self._begin
        return JournalState(
            step=step,
            prefix=prefix,
            metrics=metrics,
            files=tuple(
                StagedFile(key=key, path=files / key, size=size, crc32c=crc32c)
                for key, (size, crc32c) in self._files.items()
            ),
            uploads=self._uploads,
            claim=self._claim,
            heirs=frozenset(self._heirs),
            staged=self._staged,
            damaged=damaged,
        )

    def _key(self, record: Mapping[str, object]) -> str:
        if self._begin is None:
            raise ValueError("a record before the first")
        key = _text(record["key"])
        check_key(key, self._begin[1])
        return key


def _beginning(record: Mapping[str, object]) -> tuple[int, str, Mapping[str, float]]:
    prefix, metrics = _text(record["prefix"]), record["metrics"]
    name, step = split_prefix(prefix)
    make_prefix(name, step)
    if record["step"] != step or not isinstance(metrics, dict):
        raise ValueError(f"step {record['step']!r} under the prefix {prefix!r}")
    return step, prefix, {str(name): float(value) for name, value in metrics.items()}


def _size(path: Path, expected: object) -> int:
    try:
        status = os.lstat(path)
    except OSError as error:
        if error.errno in _NOT_THERE:
            raise ValueError(f"{path} is not there") from error
        raise
    if os.path.realpath(path) != str(path) or not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path} is a link or not a file")
    if type(expected) is not int or status.st_size != expected:
        raise ValueError(f"{path} has {status.st_size} bytes, expected {expected!r}")
    return expected


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, got {value!r}")
    return value


def fsync_path(path: Path) -> None:
    """Make a file's bytes, or a folder's names, survive a crash of the machine."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
