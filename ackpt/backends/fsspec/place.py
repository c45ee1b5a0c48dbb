"""The files of one run on a filesystem: every method blocks, and belongs on a worker thread."""

from __future__ import annotations

import posixpath
import uuid
from collections.abc import Generator, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from crc32c import crc32c
from fsspec import AbstractFileSystem

from ackpt.backends.base import Condition, IfAbsent, IfVersion, ObjectInfo
from ackpt.backends.fsspec.stat import describe
from ackpt.errors import (
    AlreadyExistsError,
    BucketNotFoundError,
    ConditionFailedError,
    NotFoundError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from fsspec.spec import AbstractBufferedFile

ASIDE = ".ackpt-tmp"
"""The folder of files that are being written, below the root; no listing shows it."""

_DEAD = timedelta(days=1)
"""As long as nobody writes one file; what has been aside for longer is a dead writer's."""

_FLAT = frozenset({"abfs", "abfss", "adl", "az", "gcs", "gs", "memory", "oss", "r2", "s3", "s3a"})
"""Protocols without real folders; making one there may make a bucket."""


class Place:
    """Be the files below `root`."""

    def __init__(self, filesystem: AbstractFileSystem, root: str) -> None:
        self._filesystem = filesystem
        self._root = root
        protocols = filesystem.protocol
        self._flat = not _FLAT.isdisjoint([protocols] if isinstance(protocols, str) else protocols)

    def path(self, key: str) -> str:
        """Return where `key` is.

        Raises:
            UnsupportedError: a name that a path cannot hold, or that is kept for files being written.
        """
        segments = key.split("/")
        if any(segment in ("", ".", "..") for segment in segments) or segments[0] == ASIDE:
            raise UnsupportedError(f"{key!r}: expected a path without empty, '.' and '..' segments", key=key)
        return f"{self._root}/{key}"

    def status(self, key: str) -> ObjectInfo:
        """Describe a file.

        Raises:
            NotFoundError: there is none, or a folder.
        """
        path = self.path(key)
        self._filesystem.invalidate_cache()
        try:
            status = self._filesystem.info(path)
        except (FileExistsError, NotADirectoryError) as error:
            raise NotFoundError(f"{key} is not there (a file is, above it)", key=key) from error
        if status.get("type") == "directory":
            raise NotFoundError(f"{key} is not there (a folder is)", key=key)
        return describe(key, status)

    def walk(self, prefix: str) -> list[ObjectInfo]:
        """Describe all files whose key starts with `prefix`."""
        folder = posixpath.dirname(prefix)
        self._filesystem.invalidate_cache()
        try:
            found = self._find(f"{self._root}/{folder}".rstrip("/") or "/")
        except FileNotFoundError:
            return []
        return [
            describe(key, status)
            for key, status in ((self._key(path), status) for path, status in found.items())
            if key.startswith(prefix) and not key.startswith(f"{ASIDE}/") and status.get("type") == "file"
        ]

    def _find(self, path: str) -> dict[str, dict[str, object]]:
        """Return all files below a path, with their status.

        The general way takes a folder that cannot be listed for an empty one, unless it is told
        otherwise; filesystems that have a way of their own raise.
        """
        found: dict[str, dict[str, object]]
        if type(self._filesystem).find is AbstractFileSystem.find:
            found = self._filesystem.find(path, detail=True, on_error=_raise_unless_absent)
        else:
            found = self._filesystem.find(path, detail=True)
        return found

    def answers(self) -> bool:
        """Tell whether the filesystem answers at all, as one whose connection is lost does not."""
        try:
            self._filesystem.info(self._root or "/")
        except (FileNotFoundError, PermissionError):
            return True
        except Exception:  # whatever it is, it is no answer
            return False
        return True

    def read(self, key: str, start: int, stop: int, piece_bytes: int) -> Generator[bytes, None, None]:
        """Iterate over the bytes `start` to `stop` of a file, a piece at a time."""
        yield from _read(self._filesystem, self.path(key), start, stop, piece_bytes)

    def remove(self, key: str) -> None:
        """Remove a file; absent is success, and so is a folder, which is no object."""
        path = self.path(key)
        try:
            self._filesystem.rm_file(path)
        except (FileNotFoundError, IsADirectoryError):
            return
        except OSError:
            if self._flat or not self._filesystem.isdir(path):
                raise

    def check(self, key: str, condition: Condition | None) -> None:
        """Raise the error of a condition that does not hold right now."""
        if condition is None:
            return
        try:
            found = self.status(key)
        except (FileNotFoundError, NotFoundError):
            found = None
        if isinstance(condition, IfAbsent) and found is not None:
            raise AlreadyExistsError(f"{key}: expected no object, found version {found.version}", key=key)
        if isinstance(condition, IfVersion) and (found is None or found.version != condition.version):
            came = "no object" if found is None else f"version {found.version}"
            raise ConditionFailedError(f"{key}: expected version {condition.version}, found {came}", key=key)

    def move(self, source: str, key: str) -> None:
        """Move the file at the path `source` to `key`, over what is there."""
        target = self.path(key)
        if not self._flat:
            if self._filesystem.isdir(target):
                raise UnsupportedError(f"{key}: a folder of that name is there", key=key)
            self.make_folder(posixpath.dirname(target))
        if type(self._filesystem).mv is not AbstractFileSystem.mv and not self._flat:
            self._filesystem.mv(source, target)
        else:  # the general one takes names for patterns
            self._filesystem.cp_file(source, target)
            self._filesystem.rm_file(source)

    def make_folder(self, path: str) -> None:
        """Make a folder and those above it, where the filesystem has any."""
        if not self._flat:
            self._filesystem.makedirs(path, exist_ok=True)

    def close(self) -> None:
        """Close the connection: fsspec has no word for it, and those that keep one keep it as `client`."""
        close = getattr(getattr(self._filesystem, "client", None), "close", None)
        if close is not None and not self._filesystem.async_impl:
            close()

    def sweep(self, now: datetime) -> None:
        """Remove what dead writers left aside; `now` is by the clock of whoever tells the files' times.

        Files of which no time is told are left.
        """
        self._filesystem.invalidate_cache()
        for path, status in self._find(f"{self._root}/{ASIDE}").items():
            modified = describe(path, status).modified
            if modified is not None and now - modified > _DEAD:
                with suppress(FileNotFoundError):  # somebody else sweeps, too
                    self._filesystem.rm_file(path)

    def aside(self) -> Aside:
        """Name a new file aside, to be moved when it is whole."""
        return Aside(self, self._filesystem, f"{self._root}/{ASIDE}/{uuid.uuid4().hex}")

    def _key(self, path: str) -> str:
        return path.removeprefix(f"{self._root}/")


class Aside:
    """Be one file that is being written, where no reader looks."""

    def __init__(self, place: Place, filesystem: AbstractFileSystem, path: str) -> None:
        self._place = place
        self._filesystem = filesystem
        self._path = path
        self._file: AbstractBufferedFile | None = None

    def open(self, *, verified: bool) -> None:
        """Begin to write what will be read back, if `verified`, before it is published.

        Raises:
            BucketNotFoundError: there is no place to write to.
        """
        self._place.make_folder(posixpath.dirname(self._path))
        try:
            file = self._filesystem.open(self._path, "wb")
        except FileNotFoundError as error:
            raise BucketNotFoundError(f"there is no place to write {self._path} to: {error}") from error
        # paramiko's files wait for an answer to every 32 KiB, unless told; then they may not tell of a
        # write that failed. https://docs.paramiko.org/en/stable/api/sftp.html
        pipeline = getattr(file, "set_pipelined", None)
        if verified and pipeline is not None:
            pipeline(True)
        self._file = file

    def write(self, data: bytes) -> None:
        """Write more."""
        assert self._file is not None, "open comes first"
        self._file.write(data)

    def close(self) -> None:
        """End the writing."""
        file: Any = self._file
        if file is not None:
            self._file = None
            file.close()

    def checksum(self, size: int, piece_bytes: int) -> int:
        """Return the CRC-32C of what lies there, read back."""
        value = 0
        for piece in _read(self._filesystem, self._path, 0, size, piece_bytes):
            value = crc32c(piece, value)
        return value

    def publish(self, key: str, condition: Condition | None) -> ObjectInfo:
        """Move the file to `key` if `condition` holds, and describe it."""
        self.close()
        self._place.check(key, condition)
        self._place.move(self._path, key)
        return self._place.status(key)

    def discard(self) -> None:
        """Remove what was written."""
        self.close()
        try:
            self._filesystem.rm_file(self._path)
        except FileNotFoundError:
            return


def _raise_unless_absent(error: OSError) -> None:
    """Raise what keeps a folder from being listed, unless it was removed meanwhile."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def _read(
    filesystem: AbstractFileSystem, path: str, start: int, stop: int, piece_bytes: int
) -> Iterator[bytes]:
    with filesystem.open(path, "rb", block_size=piece_bytes) as file:
        file.seek(start)
        while start < stop:
            piece = file.read(min(piece_bytes, stop - start))
            if not piece:
                return
            start += len(piece)
            yield bytes(piece)
