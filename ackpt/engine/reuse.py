"""Which staged files need not be sent, since a committed checkpoint holds the same bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ackpt.backends.base import ObjectInfo
from ackpt.checkpoint.manifest import Manifest, ManifestObject
from ackpt.checkpoint.staged import StagedFile
from ackpt.options import MiB
from ackpt.transfer.local import local_errors

WORTH_BYTES = MiB
"""Below this a copy, which is a request too, saves nothing worth a digest."""


def candidates(base: Manifest | None, file: StagedFile) -> list[ManifestObject]:
    """Return the objects of `base` that may hold the bytes of `file`: of its size, with a digest."""
    if base is None:
        return []
    return [each for each in base.objects if each.size == file.size and each.digest is not None]


def same_bytes(among: list[ManifestObject], digest: str) -> ObjectInfo | None:
    """Return the object with this digest, in the version that was committed; None where there is none."""
    for each in among:
        if each.digest == digest:
            return ObjectInfo(key=each.key, size=each.size, version=each.version, crc32c=each.crc32c)
    return None


def digest_of_file(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits; blocks, so for a worker.

    Raises:
        LocalFileError: the file cannot be read.
    """
    with local_errors(path), open(path, "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
