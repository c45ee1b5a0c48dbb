"""One file of a checkpoint in the staging folder: the word that staging, journal and upload share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedFile:
    """Name one finished file: `key` below the run's URL, `path` on the local disk, `size` in bytes.

    The file is closed, complete, and not changed again.
    """

    key: str
    path: Path
    size: int
