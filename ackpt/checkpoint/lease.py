"""The lease: a small object that a living saver renews, so that a sweep leaves its work alone."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

from ackpt.backends.base import Backend
from ackpt.checkpoint.catalog import read_object
from ackpt.checkpoint.store_clock import read_store_clock
from ackpt.errors import NotFoundError
from ackpt.transfer.body import BytesBody

KEY = ".ackpt/lease.json"
RENEW_SECS = 60.0
EXPIRES = timedelta(minutes=15)
"""By the store's clock; much longer than the time between renewals: a busy host is late."""


async def renew_lease(backend: Backend, *, writer: str) -> None:
    """Say that `writer` is alive."""
    await backend.put(KEY, BytesBody(json.dumps({"writer": writer}).encode()))


async def end_lease(backend: Backend, *, writer: str) -> None:
    """Say that `writer` is at work no more; another one's lease stays."""
    if await writer_in(backend, KEY) == writer:
        await backend.delete(KEY)


async def writer_in(backend: Backend, key: str) -> str | None:
    """Return the writer that a lease, or an intent to send, names; None where there is none.

    Raises:
        StorageError: the store cannot be read.
    """
    try:
        record = json.loads(await read_object(backend, key))
    except (NotFoundError, ValueError, RecursionError):
        return None
    writer = record.get("writer") if isinstance(record, dict) else None
    return writer if isinstance(writer, str) else None


async def is_leased(backend: Backend, *, now: datetime | None = None) -> bool:
    """Tell whether a saver renewed its lease lately; `now` is the store's time, asked for where not given.

    Where the store tells no times every lease counts.

    Raises:
        StorageError: the store cannot be asked.
    """
    try:
        info = await backend.head(KEY)
    except NotFoundError:
        return False
    moment = await read_store_clock(backend) if now is None else now
    return moment is None or info.modified is None or info.modified > moment - EXPIRES
