"""The intent: a small object that says, before the first byte goes, that a checkpoint is being sent.

It tells what a writer that died has left from what somebody else put there: uncommitted objects
with an intent are ours, to be written over or swept; those without are not ours, and are left.
It goes away after the commit. With it goes the key to what the journal remembers of open uploads.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime

from ackpt.backends.base import Backend
from ackpt.checkpoint.catalog import read_object
from ackpt.checkpoint.seal import Seal
from ackpt.errors import NotFoundError
from ackpt.transfer.body import BytesBody

SUFFIX = ".sending.json"


def intent_key(prefix: str) -> str:
    """Return the key of the intent to send the checkpoint `prefix`."""
    return prefix + SUFFIX


async def declare(backend: Backend, *, prefix: str, writer: str, seal: Seal | None = None) -> None:
    """Say that `prefix` is about to be sent by `writer`, whose journal is sealed with `seal`."""
    record = {"prefix": prefix, "writer": writer, "time": datetime.now(UTC).isoformat()}
    if seal is not None:
        record["seal"] = seal.to_text()
    await backend.put(intent_key(prefix), BytesBody(json.dumps(record).encode()))


async def read_seal(backend: Backend, prefix: str) -> Seal | None:
    """Return what the ids in the journal of the writer of `prefix` are sealed with; None where nobody knows.

    Raises:
        StorageError: the store cannot be read.
    """
    try:
        record = json.loads(await read_object(backend, intent_key(prefix)))
    except (NotFoundError, ValueError, RecursionError):
        return None
    return Seal.from_text(record.get("seal")) if isinstance(record, dict) else None


async def withdraw(backend: Backend, prefix: str) -> None:
    """Take the intent back: the checkpoint is committed, or all of it is gone."""
    await backend.delete(intent_key(prefix))
