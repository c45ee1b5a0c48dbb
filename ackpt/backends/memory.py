"""Objects in this process's memory, `memory://name/path`: for tests, dry runs, and as the reference.

It has the semantics of a real store in full (versions, conditions, checksums, uploads), and nothing
survives the process.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Self

from crc32c import crc32c

from ackpt.backends.base import (
    Body,
    BulkDeletingBackend,
    Condition,
    CopyingBackend,
    MultipartBackend,
    ObjectInfo,
    PartLimits,
    PartReceipt,
    Upload,
    UploadInfo,
    check_condition,
)
from ackpt.errors import (
    ChecksumMismatchError,
    NotFoundError,
    StorageError,
    UnsupportedError,
)
from ackpt.options import GiB, KiB, read_options
from ackpt.url import StorageURL

MEMORY_LIMITS: Final = PartLimits(min_part_bytes=1, max_part_bytes=5 * GiB, max_parts=10_000)
"""Small at the lower end, so that tests can send many parts; those of S3 and GCS at the upper."""

MEMORY_DELETE_LIMIT: Final = 1000
"""That of S3; nothing in memory asks for one."""

_BLOCK_BYTES: Final = 128 * KiB


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryOptions:
    """Say that memory URLs have no options of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """Hold one version of one object."""

    data: bytes
    version: str
    crc32c: int
    modified: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPart:
    """Hold one part of an upload under way."""

    data: bytes
    receipt: PartReceipt


@dataclass(slots=True, kw_only=True)
class StoredUpload:
    """Hold an upload under way."""

    name: str
    created: datetime
    parts: dict[int, StoredPart] = field(default_factory=dict)


class MemoryStore:
    """Hold the objects and open uploads of one `memory://name`, by their full names.

    Every change is made without an `await` in it, so it is atomic among the tasks of one event
    loop. Loops in several threads may share a store, but their conditions may then race.
    Times are those of `now`: a store's clock may be another than the machine's.
    """

    def __init__(self, *, now: Callable[[], datetime] | None = None) -> None:
        self.now = now or (lambda: datetime.now(UTC))
        self.objects: dict[str, StoredObject] = {}
        self.uploads: dict[str, StoredUpload] = {}
        self._ids: Iterator[int] = itertools.count(1)

    def next_id(self) -> str:
        """Return a name that was never returned before: of a version, an upload or a part."""
        return str(next(self._ids))

    def write(self, name: str, key: str, data: bytes, condition: Condition | None) -> StoredObject:
        """Make `data` the object `name` if `condition` holds; `key` is what errors call it."""
        self.check(name, key, condition)
        stored = StoredObject(data=data, version=self.next_id(), crc32c=crc32c(data), modified=self.now())
        self.objects[name] = stored
        return stored

    def check(self, name: str, key: str, condition: Condition | None) -> None:
        """Raise the error of a condition that does not hold."""
        found = self.objects.get(name)
        check_condition(condition, key, None if found is None else found.version)


# A store outlives the backends that open it, as a bucket does: opening the same URL again, from
# another backend or event loop, must find the same objects. Hence one registry for the process.
_stores: dict[str, MemoryStore] = {}


class MemoryBackend(MultipartBackend, CopyingBackend, BulkDeletingBackend):
    """Be the objects below `memory://name/path`; two backends on one name see the same objects."""

    def __init__(
        self, store: MemoryStore | None = None, path: str = "", *, limits: PartLimits = MEMORY_LIMITS
    ) -> None:
        """Use `store` (a new one of its own without it); `limits` may be tightened for a test."""
        self.store = MemoryStore() if store is None else store
        self.limits = limits
        self.delete_limit = MEMORY_DELETE_LIMIT
        self._base = f"{path}/" if path else ""

    @classmethod
    def from_url(cls, url: StorageURL) -> Self:
        """Open the store that `url` names, which is made when it is first named."""
        read_options(MemoryOptions, url.options, where=str(url))
        return cls(_stores.setdefault(url.bucket, MemoryStore()), url.path)

    async def put(self, key: str, body: Body, *, condition: Condition | None = None) -> ObjectInfo:
        """Write one object; see `Backend.put`. A body that is not what it announces is refused.

        Raises:
            AlreadyExistsError, ConditionFailedError: `condition` does not hold; nothing changed.
            ChecksumMismatchError, StorageError: the body's bytes are not those it announced.
            UnsupportedError: the key is empty or begins with a slash.
        """
        name = self.name_of(key)
        self.store.check(name, key, condition)
        data = await receive(key, body)
        return self.describe(key, self.store.write(name, key, data, condition))

    async def get(self, key: str, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        """Iterate over one version's bytes, whatever is written meanwhile; see `Backend.get`."""
        data = self.find(key).data
        end = len(data) if stop is None else min(stop, len(data))
        for position in range(start, end, _BLOCK_BYTES):
            yield data[position : min(position + _BLOCK_BYTES, end)]

    async def head(self, key: str) -> ObjectInfo:
        """Describe the object; see `Backend.head`."""
        return self.describe(key, self.find(key))

    async def list(self, prefix: str = "") -> AsyncGenerator[ObjectInfo, None]:
        """Iterate over the objects there were when it began, by name; see `Backend.list`."""
        start = self._base + prefix
        found = [item for item in self.store.objects.items() if item[0].startswith(start)]
        for name, stored in sorted(found):
            yield self.describe(name.removeprefix(self._base), stored)

    async def delete(self, key: str) -> None:
        """Delete the object; see `Backend.delete`."""
        self.store.objects.pop(self.name_of(key), None)

    async def delete_many(self, keys: Sequence[str]) -> Mapping[str, StorageError]:
        """Delete the objects, all at the same moment; see `BulkDeletingBackend.delete_many`."""
        for name in [self.name_of(key) for key in keys]:
            self.store.objects.pop(name, None)
        return {}

    async def copy(self, source: ObjectInfo, key: str, *, condition: Condition | None = None) -> ObjectInfo:
        """Copy one version of an object; see `CopyingBackend.copy`.

        Raises:
            NotFoundError: the source is not there, or no longer in that version.
            AlreadyExistsError, ConditionFailedError: `condition` does not hold; nothing changed.
            UnsupportedError: a key is empty or begins with a slash.
        """
        stored = self.find(source.key)
        if stored.version != source.version:
            raise NotFoundError(
                f"{source.key}: expected version {source.version}, found version {stored.version}",
                key=source.key,
            )
        return self.describe(key, self.store.write(self.name_of(key), key, stored.data, condition))

    async def create_upload(self, key: str) -> Upload:
        """Begin an upload; see `MultipartBackend.create_upload`."""
        upload_id = self.store.next_id()
        self.store.uploads[upload_id] = StoredUpload(name=self.name_of(key), created=self.store.now())
        return MemoryUpload(self, key, upload_id)

    async def open_upload(self, key: str, upload_id: str) -> Upload:
        """Go on with an upload; see `MultipartBackend.open_upload`."""
        upload = MemoryUpload(self, key, upload_id)
        upload.find()
        return upload

    async def list_uploads(self, prefix: str = "") -> AsyncGenerator[UploadInfo, None]:
        """Iterate over the unfinished uploads; see `MultipartBackend.list_uploads`."""
        start = self._base + prefix
        for upload_id, stored in list(self.store.uploads.items()):
            if stored.name.startswith(start):
                key = stored.name.removeprefix(self._base)
                yield UploadInfo(key=key, upload_id=upload_id, created=stored.created)

    def name_of(self, key: str) -> str:
        """Return the object's full name in the store.

        Raises:
            UnsupportedError: the key is empty or begins with a slash.
        """
        if not key or key.startswith("/"):
            raise UnsupportedError(f"key {key!r}: expected a name that does not begin with '/'", key=key)
        return self._base + key

    def find(self, key: str) -> StoredObject:
        """Return the object, or raise NotFoundError."""
        stored = self.store.objects.get(self.name_of(key))
        if stored is None:
            raise NotFoundError(f"{key}: there is no such object", key=key)
        return stored

    def describe(self, key: str, stored: StoredObject) -> ObjectInfo:
        """Describe one version of an object."""
        return ObjectInfo(
            key=key,
            size=len(stored.data),
            version=stored.version,
            crc32c=stored.crc32c,
            modified=stored.modified,
        )


class MemoryUpload(Upload):
    """Be an upload under way; several may be open for one key, and several of these for one upload."""

    def __init__(self, backend: MemoryBackend, key: str, upload_id: str) -> None:
        self.key = key
        self.id = upload_id
        self._backend = backend

    def find(self) -> StoredUpload:
        """Return the upload as the store has it.

        Raises:
            NotFoundError: it was completed or aborted, or is for another key.
        """
        stored = self._backend.store.uploads.get(self.id)
        if stored is None or stored.name != self._backend.name_of(self.key):
            raise NotFoundError(
                f"{self.key}: upload {self.id} is not there; it was completed or aborted", key=self.key
            )
        return stored

    async def put_part(self, number: int, body: Body) -> PartReceipt:
        """Send one part; see `Upload.put_part`.

        Raises:
            NotFoundError: the upload was completed or aborted.
            UnsupportedError: the number or the size is out of the limits.
            ChecksumMismatchError, StorageError: the body's bytes are not those it announced.
        """
        limits = self._backend.limits
        if not 1 <= number <= limits.max_parts or body.size > limits.max_part_bytes:
            raise UnsupportedError(
                f"{self.key}: part {number} of {body.size} bytes; expected a number from 1 to "
                f"{limits.max_parts}, and at most {limits.max_part_bytes} bytes",
                key=self.key,
            )
        self.find()
        data = await receive(self.key, body)
        stored = self.find()  # again: it may have ended while the bytes came in
        receipt = PartReceipt(
            number=number, size=len(data), token=self._backend.store.next_id(), crc32c=crc32c(data)
        )
        stored.parts[number] = StoredPart(data=data, receipt=receipt)
        return receipt

    async def parts(self) -> Sequence[PartReceipt]:
        """Return the parts, by number; see `Upload.parts`."""
        return [part.receipt for _, part in sorted(self.find().parts.items())]

    async def complete(
        self, receipts: Sequence[PartReceipt], *, condition: Condition | None = None
    ) -> ObjectInfo:
        """Make the object; see `Upload.complete`. After a failed condition the upload is still there.

        Raises:
            AlreadyExistsError, ConditionFailedError: `condition` does not hold; nothing changed.
            NotFoundError: the upload was completed or aborted.
            StorageError: a receipt is not of a part that the upload has, or a part is too small.
        """
        stored = self.find()
        data = b"".join(self._chosen(stored, receipts))
        written = self._backend.store.write(stored.name, self.key, data, condition)
        del self._backend.store.uploads[self.id]
        return self._backend.describe(self.key, written)

    def _chosen(self, stored: StoredUpload, receipts: Sequence[PartReceipt]) -> Iterator[bytes]:
        ordered = sorted(receipts, key=lambda receipt: receipt.number)
        limits = self._backend.limits
        for place, receipt in enumerate(ordered, start=1):
            part = stored.parts.get(receipt.number)
            if part is None or part.receipt.token != receipt.token:
                raise StorageError(
                    f"{self.key}: part {receipt.number} of upload {self.id} is not the one in the receipt; "
                    "send it again",
                    key=self.key,
                )
            last = place == len(ordered)
            if not last and (
                len(part.data) < limits.min_part_bytes or len(part.data) % limits.granularity_bytes
            ):
                raise StorageError(
                    f"{self.key}: part {receipt.number} has {len(part.data)} bytes; expected a multiple of "
                    f"{limits.granularity_bytes} from {limits.min_part_bytes} up",
                    key=self.key,
                )
            yield part.data

    async def abort(self) -> None:
        """Drop the upload; see `Upload.abort`."""
        self._backend.store.uploads.pop(self.id, None)


async def receive(key: str, body: Body) -> bytes:
    """Read a body to its end, and refuse one that is not what it announces.

    Raises:
        StorageError: it gave more or fewer bytes than its `size`.
        ChecksumMismatchError: its bytes have another checksum than its `crc32c`.
    """
    data = bytes(await body.read())
    if len(data) != body.size:
        raise StorageError(f"{key}: expected {body.size} bytes, the body gave {len(data)}", key=key)
    announced, came = await body.crc32c(), crc32c(data)
    if announced != came:
        raise ChecksumMismatchError(f"{key}: expected crc32c {announced:08x}, got {came:08x}", key=key)
    return data
