"""The diary of a run: one JSON object a line, written by the training processes, read by the demo."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import ackpt
from ackpt.events import Committed, Deleted, Event, Failed, Staged


class Diary(ackpt.CheckpointListener):
    """Write down what becomes of every save; a listener, and so told after the fact is durable."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def on_staged(self, event: Staged) -> None:
        """Write it down."""
        await self._write(event)

    async def on_committed(self, event: Committed) -> None:
        """Write it down."""
        await self._write(event)

    async def on_failed(self, event: Failed) -> None:
        """Write it down."""
        await self._write(event)

    async def on_deleted(self, event: Deleted) -> None:
        """Write it down."""
        await self._write(event)

    async def _write(self, event: Event) -> None:
        fields = {field.name: getattr(event, field.name) for field in dataclasses.fields(event)}
        await asyncio.to_thread(append, self._path, type(event).__name__, **fields)


def append(path: Path, what: str, **fields: object) -> None:
    """Append one line."""
    line = json.dumps({"event": what, "process": os.getpid(), **fields}, default=str)
    with path.open("a") as file:
        file.write(line + "\n")


def read(path: Path) -> list[dict[str, Any]]:
    """Return the lines so far; one that a kill has cut short is left out."""
    if not path.exists():
        return []
    lines = path.read_text().split("\n")[:-1]
    return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
