"""The intent: a small object that says, before the first byte goes, that a checkpoint is being sent.

It tells what a writer that died has left from what somebody else put there: uncommitted objects
with an intent are ours, to be written over or swept; those without are not ours, and are left.
It goes away after the commit.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime

from ackpt.backends.base import Backend
from ackpt.transfer.body import BytesBody

SUFFIX = ".sending.json"


def intent_key(prefix: str) -> str:
    """Return the key of the intent to send the checkpoint `prefix`."""
    return prefix + SUFFIX


async def declare(backend: Backend, *, prefix: str, writer: str) -> None:
    """Say that `prefix` is about to be sent by `writer`."""
    record = {"prefix": prefix, "writer": writer, "time": datetime.now(UTC).isoformat()}
    await backend.put(intent_key(prefix), BytesBody(json.dumps(record).encode()))


async def withdraw(backend: Backend, prefix: str) -> None:
    """Take the intent back: the checkpoint is committed, or all of it is gone."""
    await backend.delete(intent_key(prefix))
