"""What a storage backend is: the interface that the core asks for and that plug-in authors implement.

A backend moves bytes and translates errors. It never retries, logs, bounds concurrency or caches:
the core does each of these once, for all of them.
Capability is a type: `Backend` is enough to be used; `MultipartBackend` uploads large objects in
parts; `CopyingBackend` copies inside its store; `BulkDeletingBackend` deletes many objects in one
request; `SingleWriter` marks a store whose conditions are not atomic.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from ackpt.errors import AlreadyExistsError, ConditionFailedError, StorageError
from ackpt.url import StorageURL


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """Describe one stored object.

    `key` is relative to the backend's URL. `size` is in bytes. `version` changes with every write
    (a generation, an ETag) and is what `IfVersion` takes. `crc32c` is the checksum of the whole
    object as the *store* reports it, None where the store does not keep one.
    """

    key: str
    size: int
    version: str
    crc32c: int | None = None
    modified: datetime | None = None


@dataclass(frozen=True, slots=True)
class IfAbsent:
    """Write only where there is no object yet; otherwise `AlreadyExistsError`."""


@dataclass(frozen=True, slots=True)
class IfVersion:
    """Write only over this version; otherwise (also when absent) `ConditionFailedError`."""

    version: str


Condition = IfAbsent | IfVersion


def check_condition(condition: Condition | None, key: str, version: str | None = None) -> None:
    """Compare a condition with the version that is there (None: no object), for a store without its own.

    Atomic only if nobody can write between this and the writing: under a lock, or in a transaction.

    Raises:
        AlreadyExistsError, ConditionFailedError: it does not hold.
    """
    if isinstance(condition, IfAbsent) and version is not None:
        raise AlreadyExistsError(f"{key}: expected no object, found version {version}", key=key)
    if isinstance(condition, IfVersion) and version != condition.version:
        came = "no object" if version is None else f"version {version}"
        raise ConditionFailedError(f"{key}: expected version {condition.version}, found {came}", key=key)


class Body(ABC):
    """Hold the bytes of one put or one part; made by the core, read by a backend.

    A backend either takes `await body.read()` (simple), or iterates in blocks of at most 128 KiB
    (streaming, flat memory). Every iteration and every read starts from the first byte, so a
    request may be sent again. A block from the iterator is valid only until the next one is asked
    for: hand it to a transport that copies or drains, and keep no reference.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def size(self) -> int:
        """Return the number of bytes, known before the first is read."""

    @abstractmethod
    async def crc32c(self) -> int:
        """Return the CRC-32C (RFC 3720, appendix B.4) of all the bytes.

        Free once a whole iteration or read has ended; before that it costs one pass over them.
        """

    @abstractmethod
    def __aiter__(self) -> AsyncGenerator[memoryview, None]:
        """Iterate over the bytes in blocks, from the first byte."""

    @abstractmethod
    async def read(self) -> bytes:
        """Return all the bytes at once; waits until the memory budget has room for them."""

    async def hold(self) -> Sequence[bytes | memoryview]:
        """Return all the bytes in pieces, which stay valid until the request has ended.

        For small objects, as `read` is, but without a copy into one piece where that can be spared.
        """
        return (await self.read(),)


CopyLocal = Callable[[int, int, int, int], Awaitable[int]]
"""Copy from a file descriptor the bytes `start` to `stop`; from the CRC-32C so far to that with theirs."""


class LocalBody(Body):
    """Be a body whose bytes are a stretch of a local file, for a backend that copies from file to file.

    It need not know of this: it is a body like any other, too.
    """

    __slots__ = ()

    @abstractmethod
    async def hand_over(self, copy: CopyLocal) -> None:
        """Have `copy` called for all the bytes, stretch by stretch, in order; instead of an iteration.

        `copy` must take the checksum from the bytes that it copies, and return when it is done with
        the descriptor; a call that goes on behind a cancellation needs one of its own (`dup`).
        Rate limits, and the watch over progress, count a stretch like a block.

        Raises:
            LocalFileError: the file cannot be read, or is not as it was; what was copied is of no use.
        """


class Backend(ABC):
    """Be the objects under one URL.

    All methods run on one event loop, many at a time; blocking work goes to a thread.
    Keys are relative to the URL, use `/`, and never start with one; there is no object under the
    empty one, whose put is a `StorageError`. A method raises the errors of
    `ackpt.errors`, translated at this edge with `raise … from`, and lets cancellation through,
    leaving nothing half-written that a reader could see.
    """

    @classmethod
    @abstractmethod
    def from_url(cls, url: StorageURL) -> Self:
        """Make a backend for `url` without any I/O.

        Raises:
            InvalidURLError, InvalidOptionError, MissingDependencyError: what can be known at once.
        """

    @abstractmethod
    async def put(self, key: str, body: Body, *, condition: Condition | None = None) -> ObjectInfo:
        """Write one object atomically: a reader sees the old bytes, or all the new ones.

        Without a condition the object is replaced. Must return what the store then holds.

        Raises:
            AlreadyExistsError, ConditionFailedError: `condition` does not hold; nothing changed.
            BucketNotFoundError, PermissionDeniedError, StorageFullError, TransientError.
        """

    @abstractmethod
    def get(self, key: str, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        """Iterate over the object's bytes `start` to `stop` (half-open; None: to the end).

        A range that reaches past the end is cut there; an empty range gives no bytes.

        Raises:
            NotFoundError: at the first step of the iteration.
        """

    @abstractmethod
    async def head(self, key: str) -> ObjectInfo:
        """Describe the object as the store now holds it (strongly consistent with `put`).

        Raises:
            NotFoundError: there is none.
        """

    @abstractmethod
    def list(self, prefix: str = "") -> AsyncGenerator[ObjectInfo, None]:
        """Iterate over all objects whose key starts with `prefix`, in any order, all pages."""

    @abstractmethod
    async def delete(self, key: str) -> None:
        """Delete the object; absent is success."""

    async def aclose(self) -> None:
        """Release connections and files; idempotent. Nothing to release: nothing to override."""
        return None


class SingleWriter:
    """Mark a backend that checks conditions and then acts, in two steps.

    Correct for one writer; refused where several writers share a run.
    """

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PartLimits:
    """State the store's limits for the parts of one upload.

    All parts but the last hold at least `min_part_bytes`, none more than `max_part_bytes`, and
    there are at most `max_parts`. Parts but the last are multiples of `granularity_bytes`.
    """

    min_part_bytes: int
    max_part_bytes: int
    max_parts: int
    granularity_bytes: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PartReceipt:
    """Describe one part that the store has: its number (from 1), size, checksum and token (ETag)."""

    number: int
    size: int
    token: str
    crc32c: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadInfo:
    """Describe an upload that was begun and neither completed nor aborted."""

    key: str
    upload_id: str
    created: datetime | None = None


class Upload(ABC):
    """Be one object on its way, part by part; invisible to readers until `complete`."""

    key: str
    id: str
    """What `open_upload` takes in a later process."""

    @abstractmethod
    async def put_part(self, number: int, body: Body) -> PartReceipt:
        """Send one part; numbers count from 1, in any order, many at a time, and may be repeated.

        The last one sent under a number counts.

        Raises:
            NotFoundError: the upload was completed, aborted or has expired.
            ChecksumMismatchError: the store got other bytes than were sent.
            TransientError.
        """

    @abstractmethod
    async def parts(self) -> Sequence[PartReceipt]:
        """Return the parts the store has, by number: the server is the truth.

        Raises:
            NotFoundError: the upload was completed, aborted or has expired.
            UploadCompletedError: its parts are put together, and its object is not in place: then
                `complete` takes receipts without tokens, and does the rest.
        """

    @abstractmethod
    async def complete(
        self, receipts: Sequence[PartReceipt], *, condition: Condition | None = None
    ) -> ObjectInfo:
        """Make the object from `receipts`, in order of their numbers, atomically.

        Raises:
            AlreadyExistsError, ConditionFailedError: `condition` does not hold; nothing changed.
            NotFoundError: the upload was completed, aborted or has expired.
        """

    @abstractmethod
    async def abort(self) -> None:
        """Drop the upload and its parts; idempotent, also after `complete` (which it leaves)."""


class SequentialUpload(Upload):
    """Be an upload to a store that takes an object's bytes only in order (a resumable session).

    The core puts the parts one at a time, in order of their numbers, each after `put_part` of the
    one before it has returned; a part that failed is put again before the next. A repeated part
    brings the same bytes. `put_part` refuses any other order with `UnsupportedError`, rather than
    wait for its turn: a waiting part would hold a connection that the part before it needs.

    The store knows an offset, not parts. So `parts` tells what was put through this object, and is
    empty after `open_upload`; the core then puts every part again, from the first, and `put_part`
    reads the bytes that the store has already (for the checksum) without sending them.
    `complete` takes the receipts of all the parts that were put, and no others.
    """


class MultipartBackend(Backend):
    """Be a backend that takes large objects in parts."""

    limits: PartLimits

    @abstractmethod
    async def create_upload(self, key: str) -> Upload:
        """Begin an upload to `key`."""

    @abstractmethod
    async def open_upload(self, key: str, upload_id: str) -> Upload:
        """Go on with an upload, perhaps of an earlier process.

        Raises:
            NotFoundError: it was completed, aborted or has expired.
        """

    @abstractmethod
    def list_uploads(self, prefix: str = "") -> AsyncGenerator[UploadInfo, None]:
        """Iterate over the unfinished uploads whose key starts with `prefix`."""


class CopyingBackend(Backend):
    """Be a backend that copies objects inside its store: the bytes do not pass through this machine."""

    @abstractmethod
    async def copy(self, source: ObjectInfo, key: str, *, condition: Condition | None = None) -> ObjectInfo:
        """Copy the object that `source` describes to `key`, atomically: exactly that version of it.

        The copy has the same bytes and checksum. Without a condition (which is about `key`) what is
        there is replaced. Any size works, also one that the store copies in several requests.

        Raises:
            NotFoundError: `source` is not there, or no longer in that version.
            AlreadyExistsError, ConditionFailedError: `condition` does not hold; nothing changed.
            PermissionDeniedError, StorageFullError, TransientError.
        """


class BulkDeletingBackend(Backend):
    """Be a backend that deletes many objects in one request."""

    delete_limit: int
    """How many keys one request takes, at least 1."""

    @abstractmethod
    async def delete_many(self, keys: Sequence[str]) -> Mapping[str, StorageError]:
        """Delete the objects under `keys`, 1 to `delete_limit` of them, in any order; absent is success.

        Returns the keys that were not deleted, each with its error; so an empty mapping is success.
        A request that was cut short has deleted any of them.

        Raises:
            UnsupportedError: the store does not know such requests, or refuses one of the keys; nothing
                was deleted.
            BucketNotFoundError, PermissionDeniedError, TransientError: the request as a whole failed.
        """
