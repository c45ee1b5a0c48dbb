"""One file of a checkpoint in the staging folder: the word that staging, journal and upload share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedFile:
    """Name one finished file: `key` below the run's URL, `path` on the local disk, `size` in bytes.

    The file is closed, complete, and not changed again. `crc32c` is what an earlier process wrote
    down of it, None for one that was staged just now.
    """

    key: str
    path: Path
    size: int
    crc32c: int | None = None
