"""Local files as transfers use them: opened once, worked on by threads, closed when the last has ended."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from io import FileIO
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from ackpt.errors import LocalFileError, StorageFullError

P = ParamSpec("P")
T = TypeVar("T")

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class local_errors:
    """Translate what the operating system says about the file at `path`, inside `with`.

    A class, since a small object pays for four of these, and a generator's context costs four times it.

    Raises:
        StorageFullError: no room or quota left on its disk.
        LocalFileError: anything else.
    """

    __slots__ = ("_path",)

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not isinstance(error, OSError):
            return
        path, reason = os.fspath(self._path), (error.strerror or str(error)).lower()
        if error.errno in _NO_ROOM:
            raise StorageFullError(
                f"{path}: {reason}; make room on this disk or choose another folder"
            ) from error
        raise LocalFileError(f"{path}: {reason}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class FileStamp:
    """Tell one state of a file from another, without reading it."""

    size: int
    modified_ns: int
    inode: int

    @classmethod
    def of(cls, file: str | os.PathLike[str] | int) -> FileStamp:
        """Take the stamp of a path or a file descriptor; a stat on a local disk, so quick.

        Raises:
            OSError: as `os.stat` does.
        """
        status = os.stat(file)
        return cls(size=status.st_size, modified_ns=status.st_mtime_ns, inode=status.st_ino)


class OpenFile:
    """Hold a file open for work on the loop and on worker threads.

    A cancelled `run` leaves its thread at work. Closing the descriptor under it could let it read
    or write whatever file gets the same number next, so `close` is put off until it has ended.
    """

    __slots__ = ("_closing", "_file", "_work")

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self._work: set[asyncio.Future[Any]] = set()
        self._closing = False

    def fileno(self) -> int:
        """Return the file descriptor."""
        return self._file.fileno()

    async def run(self, work: Callable[Concatenate[int, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `work(descriptor, …)` on a worker thread.

        Buffers in the arguments stay in use until the thread has ended, also after a cancellation.
        """
        future = asyncio.get_running_loop().run_in_executor(
            None, lambda: work(self._file.fileno(), *args, **kwargs)
        )
        self._work.add(future)
        future.add_done_callback(self._ended)
        return await asyncio.shield(future)

    async def settle(self) -> None:
        """Wait until no thread works on the file, also one that a cancelled `run` has left."""
        if self._work:
            await asyncio.wait(self._work)

    def _ended(self, future: asyncio.Future[T]) -> None:
        self._work.discard(future)
        if not future.cancelled():
            future.exception()  # seen, also when its waiter has been cancelled
        if self._closing and not self._work:
            self._file.close()

    def close(self) -> None:
        """Close the file, now or as soon as no thread works on it; idempotent."""
        self._closing = True
        if not self._work:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
