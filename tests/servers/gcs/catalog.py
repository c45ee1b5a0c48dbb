"""Buckets and the live version of each object in them; the only place where objects change."""

from __future__ import annotations

import re
import time
from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.servers.gcs.blobs import Blob, BlobFolder
from tests.servers.gcs.problems import condition_failed, invalid, no_bucket, no_object
from tests.servers.gcs.records import Records

_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """Describe one version of an object; times are ISO 8601, checksums base64."""

    bucket: str
    name: str
    generation: int
    size: int
    crc32c: str
    md5: str | None
    blobs: tuple[Blob, ...]
    created: str
    metadata: dict[str, Any] = field(default_factory=dict)
    key_sha256: str | None = None

    @property
    def etag(self) -> str:
        """Return an entity tag that changes with every version."""
        return f"ackpt{self.generation:x}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preconditions:
    """Say which generation must be there; 0 means none.

    https://cloud.google.com/storage/docs/request-preconditions
    """

    match: int | None = None
    not_match: int | None = None

    @classmethod
    def of(cls, query: Mapping[str, str], prefix: str = "if") -> Preconditions:
        """Read the JSON API's query parameters, about the target or (`ifSource`) about the source.

        Raises:
            Problem: 400, not a number.
        """
        values: list[int | None] = []
        for name in (f"{prefix}GenerationMatch", f"{prefix}GenerationNotMatch"):
            text = query.get(name)
            if text is not None and re.fullmatch(r"[0-9]{1,19}", text) is None:
                raise invalid(f"{name}: expected a generation, got {text!r}", "InvalidArgument")
            values.append(None if text is None else int(text))
        return cls(match=values[0], not_match=values[1])

    def check(self, generation: int) -> None:
        """Compare with the live generation (0: there is none).

        Raises:
            Problem: 412.
        """
        if self.match is not None and generation != self.match:
            raise condition_failed()
        if self.not_match is not None and generation == self.not_match:
            raise condition_failed()


class Catalog:
    """Hold buckets and live objects, in memory and as records."""

    def __init__(self, folder: Path, blobs: BlobFolder) -> None:
        self._blobs = blobs
        self._bucket_records = Records(folder / "buckets")
        self._object_records = Records(folder / "objects")
        self._buckets: dict[str, dict[str, Any]] = {each["name"]: each for each in self._bucket_records}
        self._objects: dict[str, dict[str, StoredObject]] = {name: {} for name in self._buckets}
        self._names: dict[str, list[str]] = {name: [] for name in self._buckets}
        self._last_generation = 0
        self.clock_ahead = timedelta()
        for record in self._object_records:
            record["blobs"] = tuple(Blob(**each) for each in record["blobs"])
            self._add(StoredObject(**record))

    def bucket(self, name: str) -> dict[str, Any]:
        """Return a bucket's resource.

        Raises:
            Problem: 404, there is none.
        """
        try:
            return self._buckets[name]
        except KeyError:
            raise no_bucket() from None

    def has_bucket(self, name: str) -> bool:
        """Tell whether there is a bucket of this name."""
        return name in self._buckets

    def create_bucket(self, resource: dict[str, Any]) -> dict[str, Any]:
        """Make a bucket.

        Raises:
            Problem: 400 for a name that cannot be one, 409 for one that is taken.
        """
        name = resource.get("name")
        # https://cloud.google.com/storage/docs/buckets#naming
        if not isinstance(name, str) or _BUCKET_NAME.fullmatch(name) is None:
            raise invalid(f"Invalid bucket name: {name!r}", "InvalidBucketName")
        if name in self._buckets:
            problem = invalid("Your previous request to create the named bucket succeeded.", "Conflict")
            problem.status, problem.reason = 409, "conflict"
            raise problem
        self._buckets[name] = resource
        self._objects[name], self._names[name] = {}, []
        self._bucket_records.put(name, resource)
        return resource

    def find(self, bucket: str, name: str) -> StoredObject | None:
        """Return the live object, or None."""
        self.bucket(bucket)
        return self._objects[bucket].get(name)

    def get(self, bucket: str, name: str) -> StoredObject:
        """Return the live object.

        Raises:
            Problem: 404, there is none.
        """
        found = self.find(bucket, name)
        if found is None:
            raise no_object(bucket, name)
        return found

    def generation(self, bucket: str, name: str) -> int:
        """Return the live generation, 0 where there is none."""
        found = self.find(bucket, name)
        return 0 if found is None else found.generation

    def now(self, timespec: str) -> str:
        """Return the time by the server's clock, which need not be the machine's."""
        moment = datetime.now(UTC) + self.clock_ahead
        return moment.isoformat(timespec=timespec).replace("+00:00", "Z")

    def put(self, new: StoredObject, conditions: Preconditions) -> StoredObject:
        """Make `new` the live version, atomically; its generation and time are given here.

        Raises:
            Problem: 412, the live generation is not the one asked for.
        """
        conditions.check(self.generation(new.bucket, new.name))
        # "Generation numbers increase": https://cloud.google.com/storage/docs/metadata#generation-number
        self._last_generation = max(self._last_generation + 1, time.time_ns() // 1000)
        new = replace(new, generation=self._last_generation, created=self.now("milliseconds"))
        old = self.find(new.bucket, new.name)
        self._add(new)
        self._object_records.put(f"{new.bucket}/{new.name}", asdict(new))
        if old is not None:
            self._blobs.discard([blob.id for blob in old.blobs])
        return new

    def delete(self, bucket: str, name: str, conditions: Preconditions) -> None:
        """Remove the live version.

        Raises:
            Problem: 404, there is none; 412, it is another than was asked for.
        """
        found = self.get(bucket, name)
        conditions.check(found.generation)
        self._drop(found)
        self._blobs.discard([blob.id for blob in found.blobs])

    def move(self, found: StoredObject, name: str, conditions: Preconditions) -> StoredObject:
        """Give an object another name, over what `conditions` allow.

        Raises:
            Problem: 412, the live generation under the new name is not the one asked for.
        """
        moved = self.put(replace(found, name=name), conditions)
        self._drop(found)
        return moved

    def names(self, bucket: str, prefix: str, after: str) -> Iterator[str]:
        """Iterate over the names with `prefix` behind `after`, in the order of their UTF-8 bytes.

        https://cloud.google.com/storage/docs/json_api/v1/objects/list
        """
        self.bucket(bucket)
        names = self._names[bucket]
        begin = bisect_left(names, prefix.encode(), key=str.encode)
        for name in names[begin:]:
            if not name.startswith(prefix):
                break
            if name.encode() > after.encode():
                yield name

    def _drop(self, found: StoredObject) -> None:
        del self._objects[found.bucket][found.name]
        self._names[found.bucket].remove(found.name)
        self._object_records.remove(f"{found.bucket}/{found.name}")

    def _add(self, new: StoredObject) -> None:
        if new.name not in self._objects[new.bucket]:
            insort(self._names[new.bucket], new.name, key=str.encode)
        self._objects[new.bucket][new.name] = new
        self._last_generation = max(self._last_generation, new.generation)


def check_name(name: str) -> None:
    """Check an object's name: https://cloud.google.com/storage/docs/objects#naming.

    Raises:
        Problem: 400.
    """
    if not 1 <= len(name.encode()) <= 1024:
        raise invalid("The length of the object's name must be 1 to 1024 bytes.", "InvalidObjectName")
    if name in (".", "..") or name.startswith(".well-known/acme-challenge/") or "\r" in name or "\n" in name:
        raise invalid(f"Invalid object name: {name!r}", "InvalidObjectName")
