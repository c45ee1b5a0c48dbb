"""The bytes that the server keeps: files in a folder, written by appending, read by range."""

from __future__ import annotations

import base64
import hashlib
import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import crc32c

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """Name a file of bytes: objects are made of one or more, in order."""

    id: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """Hold checksums as the API writes them: base64, the CRC in big-endian order.

    https://cloud.google.com/storage/docs/json_api/v1/objects#resource
    """

    crc32c: str
    md5: str | None


class BlobFolder:
    """Keep blobs as files; `discard` is the only way they go."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def new(self) -> str:
        """Make an empty blob and return its id."""
        blob_id = uuid.uuid4().hex
        self.path(blob_id).touch()
        return blob_id

    def path(self, blob_id: str) -> Path:
        """Return where the blob lies."""
        return self._folder / blob_id

    def writer(self, blob_id: str) -> BinaryIO:
        """Open the blob to append to it."""
        return open(self.path(blob_id), "ab")

    def size(self, blob_id: str) -> int:
        """Return the number of bytes the blob holds now."""
        return self.path(blob_id).stat().st_size

    def truncate(self, blob_id: str, size: int) -> None:
        """Cut the blob to `size` bytes."""
        os.truncate(self.path(blob_id), size)

    def twin(self, blob: Blob) -> Blob:
        """Make another blob of the same bytes, which are kept once."""
        twin = Blob(id=uuid.uuid4().hex, size=blob.size)
        os.link(self.path(blob.id), self.path(twin.id))
        return twin

    def discard(self, blobs: Sequence[str]) -> None:
        """Remove blobs; those that are gone already are passed over."""
        for blob_id in blobs:
            self.path(blob_id).unlink(missing_ok=True)

    def read(self, blobs: Sequence[Blob], start: int, stop: int) -> Iterator[bytes]:
        """Iterate over the bytes `start` to `stop` of blobs put one after another."""
        position = 0
        for blob in blobs:
            begin, end = max(start, position), min(stop, position + blob.size)
            if begin < end:
                with open(self.path(blob.id), "rb", buffering=0) as file:
                    file.seek(begin - position)
                    left = end - begin
                    while left:
                        data = file.read(min(_BLOCK, left))
                        if not data:
                            raise AssertionError(f"blob {blob.id} is shorter than {blob.size} bytes")
                        left -= len(data)
                        yield data
            position += blob.size

    def digest(self, blobs: Sequence[Blob], *, md5: bool) -> Digest:
        """Checksum blobs put one after another; blocks, so for a worker thread."""
        value, hasher = 0, hashlib.md5(usedforsecurity=False)
        for data in self.read(blobs, 0, sum(blob.size for blob in blobs)):
            value = crc32c.crc32c(data, value)
            if md5:
                hasher.update(data)
        return Digest(
            crc32c=base64.b64encode(value.to_bytes(4, "big")).decode(),
            md5=base64.b64encode(hasher.digest()).decode() if md5 else None,
        )
