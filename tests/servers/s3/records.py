"""What the server keeps: buckets, objects, uploads and keys; in memory."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import md5

from crc32c import crc32c


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """Be an access key; `token` and `ends` (POSIX time) for one that is for a time only."""

    access_key: str
    secret_key: str
    token: str | None = None
    ends: float | None = None
    read_only: bool = False

    @classmethod
    def new(cls, *, token: str | None = None, secs: float | None = None, read_only: bool = False) -> Key:
        """Make one that nobody knows."""
        return cls(
            access_key="AKIA" + secrets.token_hex(8).upper(),
            secret_key=secrets.token_hex(20),
            token=token,
            ends=None if secs is None else time.time() + secs,
            read_only=read_only,
        )

    def environment(self) -> dict[str, str | None]:
        """Return the variables that name it."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_SESSION_TOKEN": self.token,
        }


@dataclass(slots=True, kw_only=True)
class Part:
    """Be one part, or an object that was put in one request."""

    data: bytes = field(repr=False)
    crc32c: int | None
    moment: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def etag(self) -> str:
        """Return the MD5 of the bytes, as for objects that are not encrypted with a key of KMS.

        https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html
        """
        return md5(self.data).hexdigest()


@dataclass(slots=True, kw_only=True)
class Stored:
    """Be one object."""

    data: bytes = field(repr=False)
    etag: str
    crc32c: int | None
    composite: str | None = None
    headers: Mapping[str, str]
    key_md5: str | None = None
    moment: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(slots=True, kw_only=True)
class Upload:
    """Be one multipart upload."""

    name: str
    checksums: bool
    composite: bool
    headers: Mapping[str, str]
    key_md5: str | None
    parts: dict[int, Part] = field(default_factory=dict)
    id: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    moment: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def kind(self) -> str:
        """Return the type of its checksums."""
        return "COMPOSITE" if self.composite else "FULL_OBJECT"


@dataclass(slots=True, kw_only=True)
class Bucket:
    """Be one bucket."""

    name: str
    region: str
    public: bool = False
    requester_pays: bool = False
    object_lock: bool = False
    held: set[str] = field(default_factory=set)
    """The names of objects that may not be deleted."""
    busy: dict[str, int] = field(default_factory=dict)
    """The names of objects whose next deletions fail in passing, and how many of them."""
    objects: dict[str, Stored] = field(default_factory=dict)
    uploads: dict[str, Upload] = field(default_factory=dict)
    completed: dict[str, tuple[str, str]] = field(default_factory=dict)
    """The ids of completed uploads, each with the object's name and ETag."""


def part_of(data: bytes) -> Part:
    """Make a part with its checksum."""
    return Part(data=data, crc32c=crc32c(data))
