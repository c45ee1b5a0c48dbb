"""Small JSON records in a folder, one file each, so that a server that starts again knows what it had."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Records:
    """Keep records of one kind; a record is replaced atomically."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for path in sorted(self._folder.glob("*.json")):
            yield json.loads(path.read_text())

    def put(self, key: str, record: dict[str, Any]) -> None:
        """Write or replace the record under `key`."""
        path = self._path(key)
        temporary = path.with_suffix(".new")
        temporary.write_text(json.dumps(record))
        os.replace(temporary, path)

    def remove(self, key: str) -> None:
        """Remove the record under `key`; absent is fine."""
        self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()}.json"
