"""A local file on its way: written at any place, then there whole and durable, or never there at all."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
from collections.abc import Sequence
from io import FileIO
from pathlib import Path
from typing import Final

from ackpt.transfer.clean_up import clean_up
from ackpt.transfer.local import OpenFile, local_errors

_REMOVE_SECS: Final = 10.0
_NO_ROOM_AHEAD = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})


class Target:
    """Write a file beside its name, and put it there at the end.

    Make one with `create`, and end it with `publish` or `discard`. All disk work is done by worker
    threads; `LocalFileError` and `StorageFullError` say what was wrong with it.
    """

    def __init__(self, path: Path, temporary: Path, file: OpenFile) -> None:
        self._path = path
        self._temporary = temporary
        self._file = file

    @classmethod
    async def create(cls, path: Path, size: int) -> Target:
        """Begin, with room on the disk for `size` bytes where the file system can reserve it."""
        with local_errors(path):
            # On the loop: if a thread created it, a cancellation could leave it behind.
            temporary, file = _open_beside(path)
        target = cls(path, temporary, OpenFile(file))
        try:
            await target._file.run(_reserve, temporary, size)
        except BaseException as error:
            await target.discard(error)
            raise
        return target

    async def write(self, blocks: Sequence[bytes], position: int) -> None:
        """Write `blocks` at `position`, at most 256 of them."""
        await self._file.run(_write, self._temporary, blocks, position)

    async def publish(self) -> None:
        """Make the file durable and give it its name, in place of what had it."""
        await self._file.run(_publish, self._temporary, self._path)
        self._file.close()

    async def discard(self, error: BaseException) -> None:
        """Remove what was written, because of `error`; also when cancelled, and for a bounded time."""

        async def remove() -> None:
            # A cancelled `publish` may still be about to rename: the name must stay ours until it has.
            await self._file.settle()
            await self._file.run(_remove, self._temporary)

        try:
            await clean_up(remove, secs=_REMOVE_SECS, after=error, what=f"{self._temporary} was not removed")
        finally:
            self._file.close()  # last: who waits for the lock must find the name gone


def _open_beside(path: Path) -> tuple[Path, FileIO]:
    """Open an empty temporary file that is ours alone: the one that a killed process left, or a new one.

    The lock tells the two apart, and ends with its process. A file that we could lock only after
    its owner had renamed or removed it is no longer at its name.
    """
    stem = _stem(path.name)
    usual = path.with_name(stem)
    unusual = path.with_name(f"{stem}-{secrets.token_hex(4)}")
    if usual.is_symlink():  # nothing of ours, and it leads elsewhere
        return unusual, _create(unusual, os.O_EXCL)
    file = _create(usual, os.O_NOFOLLOW)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(file.fileno()), os.stat(usual)):
            file.truncate(0)
            return usual, file
    except OSError:  # somebody else's, or a file system without locks
        pass
    file.close()
    return unusual, _create(unusual, os.O_EXCL)


def _create(path: Path, flags: int) -> FileIO:
    return FileIO(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | flags, 0o666), "r+")


def _stem(name: str) -> str:
    """Return what names a temporary file after `name`: a digest, so that it is no file's own name."""
    return f".ackpt-part-{hashlib.sha256(os.fsencode(name)).hexdigest()[:32]}"


def _reserve(descriptor: int, path: Path, size: int) -> None:
    """Fail now, and not after gigabytes, where there is no room."""
    if not size or not hasattr(os, "posix_fallocate"):
        return
    with local_errors(path):
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            if error.errno not in _NO_ROOM_AHEAD:
                raise


def _write(descriptor: int, path: Path, blocks: Sequence[bytes], position: int) -> None:
    """Write in one call where that takes all: each is a turn in the queue for the interpreter's lock."""
    views = [memoryview(block) for block in blocks if block]
    with local_errors(path):
        while views:
            written = os.pwritev(descriptor, views, position)
            position += written
            while views and written >= len(views[0]):
                written -= len(views.pop(0))
            if views:
                views[0] = views[0][written:]


def _remove(descriptor: int, temporary: Path) -> None:
    """Remove the temporary file, unless it has its final name and the temporary one is another's."""
    with local_errors(temporary):
        try:
            if os.path.samestat(os.fstat(descriptor), os.stat(temporary)):
                temporary.unlink()
        except FileNotFoundError:
            return


def _publish(descriptor: int, temporary: Path, path: Path) -> None:
    """Put the bytes on the disk before the name, and then the name: a crash shows no hole."""
    with local_errors(path):
        os.fsync(descriptor)
        temporary.rename(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
