"""What the server keeps: containers, blobs and their blocks; in memory."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from datetime import UTC, datetime

_numbers = itertools.count(0x8DC0000000000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """Be a committed blob; `key_sha256` is of the key that it was encrypted with by the caller."""

    data: bytes
    metadata: dict[str, str] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    key_sha256: str | None = None
    kind: str = "BlockBlob"
    etag: str = field(default_factory=lambda: f"0x{next(_numbers):X}")
    modified: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(slots=True, kw_only=True)
class Container:
    """Be a container; `blocks` are the uncommitted ones, by the blob's name and by their ids."""

    name: str
    public: bool = False
    immutable: bool = False
    held: set[str] = field(default_factory=set)
    """The names of blobs that may not be deleted."""
    blobs: dict[str, Blob] = field(default_factory=dict)
    blocks: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def commit(self, name: str, blob: Blob) -> None:
        """Replace a blob; whatever is staged under its name goes.

        https://learn.microsoft.com/rest/api/storageservices/put-block#remarks
        """
        self.blobs[name] = blob
        self.blocks.pop(name, None)


@dataclass(slots=True, kw_only=True)
class Features:
    """Say what the server can do: a test takes some away.

    `crc64` is "compared" (and told), "ignored", or "refused"; `page` is how many blobs a page has;
    without `batches` there are none.
    """

    crc64: str = "compared"
    page: int = 5000
    batches: bool = True
