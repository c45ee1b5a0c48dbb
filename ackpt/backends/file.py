"""Objects as files below a folder, `file:///path` or a plain path: durable, and atomic on one host.

An object is one regular file; its key is its path below the root. What is not an object yet lies in
the folder `.ackpt-tmp` below the root, which no listing shows. Conditions hold against all writers
that use this backend on the same root and host (a lock), create-only against any program (a link).
Limits of files: a key is no folder at the same time, has no empty, `.` or `..` segment, and at most
255 bytes between two slashes; symbolic links below the root are not followed. Needs Linux or
another POSIX system, and a file system with times in nanoseconds.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncGenerator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from typing import Final, Self

from ackpt.backends._file.copy import copy_object
from ackpt.backends._file.journal import Journal
from ackpt.backends._file.place import JOURNAL, UPLOAD, Place
from ackpt.backends._file.receive import receive
from ackpt.backends._file.request import Request, Requests
from ackpt.backends._file.root import Root
from ackpt.backends._file.stamp import describe, kept_crc32c
from ackpt.backends._file.upload import FILE_LIMITS, FileUpload
from ackpt.backends._file.walk import walk
from ackpt.backends.base import (
    Body,
    Condition,
    CopyingBackend,
    MultipartBackend,
    ObjectInfo,
    Upload,
    UploadInfo,
)
from ackpt.errors import NotFoundError, StorageError
from ackpt.options import KiB, MiB, read_options
from ackpt.url import StorageURL

_BLOCK_BYTES: Final = 128 * KiB
_COLD_BYTES: Final = MiB
_LISTED_AT_ONCE: Final = 1000
_NOWAIT: Final[int | None] = getattr(os, "RWF_NOWAIT", None)  # Linux


@dataclass(frozen=True, slots=True, kw_only=True)
class FileOptions:
    """Say that file URLs have no options of their own."""


class FileBackend(MultipartBackend, CopyingBackend):
    """Be the objects below a folder, which the first write makes.

    A put is on the disk when it returns: the file is synced before it is renamed, and the folders
    after. A cancelled one leaves no object, and no temporary file; those of killed processes are
    removed by the first write of a later one. The CRC-32C of an object is taken from the bytes as
    they are written, and kept in an extended attribute that counts only while time and size are as
    written; where there is none, `head` and `list` say None.
    """

    limits = FILE_LIMITS

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Use the folder at `path`; no I/O."""
        self._root = Root(os.path.abspath(path))
        self._requests = Requests()

    @classmethod
    def from_url(cls, url: StorageURL) -> Self:
        """Use the folder that `url` names."""
        read_options(FileOptions, url.options, where=str(url))
        return cls(url.path)

    async def put(self, key: str, body: Body, *, condition: Condition | None = None) -> ObjectInfo:
        """Write one object durably; see `Backend.put`.

        Raises:
            AlreadyExistsError, ConditionFailedError: `condition` does not hold; nothing changed.
            UnsupportedError: the key cannot be a file's path, or is a folder.
            ChecksumMismatchError, StorageError: the body's bytes are not those it announced.
            BucketNotFoundError: the root is a file.
            StorageFullError, PermissionDeniedError, TransientError: as the system says.
        """
        Place.of(key)
        async with self._begin(key) as request:
            descriptor, path = await request.run(self._prepare, request.stack, key, condition)
            received = await receive(request, descriptor, 0, body)
            return await request.end(
                self._root.publish, request, descriptor, path, key, received.crc32c, condition
            )

    def _prepare(self, stack: ExitStack, key: str, condition: Condition | None) -> tuple[int, str]:
        temporary = self._root.temporary(stack)
        self._root.check(key, condition)  # once more when it counts; this spares the writing
        return temporary

    async def get(self, key: str, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        """Iterate over the bytes of one version, whatever is written meanwhile; see `Backend.get`.

        Raises:
            NotFoundError: there is no such object.
            BucketNotFoundError, PermissionDeniedError, StorageError: as the system says.
        """
        Place.of(key)
        async with self._begin(key, quick=True) as request:
            descriptor, size, piece = await request.run(self._open, request.stack, key, start, stop)
            end = size if stop is None else min(stop, size)
            buffer = memoryview(bytearray(max(0, min(end - start, _BLOCK_BYTES))))
            while start < end:
                if not piece:
                    raise StorageError(f"{key}: cut off at byte {start} of {size} while it was read", key=key)
                yield piece
                start += len(piece)
                got = _read_cached(descriptor, buffer[: end - start], start)
                if got or start == end:
                    piece = bytes(buffer[:got])
                else:
                    piece = await request.run(os.pread, descriptor, min(_COLD_BYTES, end - start), start)

    def _open(self, stack: ExitStack, key: str, start: int, stop: int | None) -> tuple[int, int, bytes]:
        """Open an object; read its first block too, which has the kernel fetch those after it."""
        descriptor = self._existing(stack, key)
        size = os.fstat(descriptor).st_size
        end = size if stop is None else min(stop, size)
        first = os.pread(descriptor, min(end - start, _BLOCK_BYTES), start) if start < end else b""
        return descriptor, size, first

    def _existing(self, stack: ExitStack, key: str) -> int:
        descriptor = self._root.open(stack, key)
        if descriptor is None:
            raise NotFoundError(f"{key}: there is no such object in {self._root.path}", key=key)
        return descriptor

    async def head(self, key: str) -> ObjectInfo:
        """Describe the object; see `Backend.head`.

        Raises:
            NotFoundError: there is no such object.
            BucketNotFoundError, PermissionDeniedError, StorageError: as the system says.
        """
        Place.of(key)
        async with self._begin(key) as request:
            return await request.end(self._describe, key)

    def _describe(self, key: str) -> ObjectInfo:
        with ExitStack() as stack:
            descriptor = self._existing(stack, key)
            status = os.fstat(descriptor)
            return describe(key, status, kept_crc32c(descriptor, status))

    async def list(self, prefix: str = "") -> AsyncGenerator[ObjectInfo, None]:
        """Iterate over the objects, folder by folder; see `Backend.list`.

        Raises:
            BucketNotFoundError, PermissionDeniedError, StorageError: as the system says.
        """
        async with self._begin(None, quick=True) as request:
            infos = walk(self._root.path, prefix)
            request.stack.callback(infos.close)
            while batch := await request.run(self._take, infos):
                for info in batch:
                    yield info

    def _take(self, infos: Iterator[ObjectInfo]) -> tuple[ObjectInfo, ...]:
        try:
            return tuple(islice(infos, _LISTED_AT_ONCE))
        except NotADirectoryError as error:
            raise self._root.no_folder() from error

    async def delete(self, key: str) -> None:
        """Delete the object, and folders that this leaves empty; see `Backend.delete`.

        Raises:
            UnsupportedError: the key cannot be a file's path.
            BucketNotFoundError, PermissionDeniedError, StorageError, TransientError: as the system says.
        """
        Place.of(key)
        async with self._begin(key) as request:
            await request.end(self._root.remove, key)

    async def copy(self, source: ObjectInfo, key: str, *, condition: Condition | None = None) -> ObjectInfo:
        """Copy one version of an object durably, inside the kernel; see `CopyingBackend.copy`.

        Raises:
            NotFoundError: the source is not there, or no longer in that version.
            AlreadyExistsError, ConditionFailedError: `condition` does not hold; nothing changed.
            UnsupportedError: a key cannot be a file's path, or is a folder.
            BucketNotFoundError: the root is a file.
            StorageFullError, PermissionDeniedError, TransientError: as the system says.
        """
        Place.of(source.key)
        Place.of(key)
        async with self._begin(key) as request:
            return await copy_object(request, self._root, source, key, condition)

    async def create_upload(self, key: str) -> Upload:
        """Begin an upload; see `MultipartBackend.create_upload`, and `put` for the errors."""
        Place.of(key)
        upload = self._upload(key, secrets.token_hex(16))
        await upload.create()
        return upload

    async def open_upload(self, key: str, upload_id: str) -> Upload:
        """Go on with an upload; see `MultipartBackend.open_upload`."""
        upload = self._upload(key, upload_id)
        await upload.reopen()
        return upload

    async def list_uploads(self, prefix: str = "") -> AsyncGenerator[UploadInfo, None]:
        """Iterate over the unfinished uploads; see `MultipartBackend.list_uploads`."""
        async with self._begin(None) as request:
            for info in await request.end(self._find_uploads):
                if info.key.startswith(prefix):
                    yield info

    def _find_uploads(self) -> tuple[UploadInfo, ...]:
        try:
            names = os.listdir(self._root.home)
        except FileNotFoundError:
            return ()
        except NotADirectoryError as error:
            raise self._root.no_folder() from error
        found = []
        for name in names:
            head = (
                Journal.head(os.path.join(self._root.home, name, JOURNAL))
                if name.startswith(UPLOAD)
                else None
            )
            if head is not None:
                found.append(UploadInfo(key=head[0], upload_id=name.removeprefix(UPLOAD), created=head[1]))
        return tuple(found)

    async def aclose(self) -> None:
        """Wait, not for ever, for what cancelled requests left running; idempotent."""
        await self._requests.aclose()

    def _upload(self, key: str, upload_id: str) -> FileUpload:
        return FileUpload(self._root, self._requests, key, upload_id)

    def _begin(self, key: str | None, *, quick: bool = False) -> Request:
        what = self._root.path if key is None else f"{key} in {self._root.path}"
        return self._requests.begin(what, key, quick=quick)


def _read_cached(descriptor: int, view: memoryview, position: int) -> int:
    """Read what is in the page cache, on the loop: a copy, no wait; 0 where a worker has to."""
    if _NOWAIT is None:
        return 0
    try:
        return os.preadv(descriptor, [view], position, _NOWAIT)
    except OSError:
        # Not in the cache, or a file system that cannot tell; a real error comes back on the worker.
        return 0
