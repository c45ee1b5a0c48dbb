"""Holds: small objects that keep retention from a committed checkpoint, until taken back or while it is read.

.ackpt/holds/<prefix>/pin.json           a person's wish, until `unpin`
.ackpt/holds/<prefix>/reader-<id>.json   a reader at work; renewed, and of no effect once too old
"""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta

from ackpt.backends.base import Backend, ObjectInfo
from ackpt.checkpoint.catalog import list_entries
from ackpt.checkpoint.store_clock import read_store_clock
from ackpt.errors import NotFoundError, StorageError
from ackpt.transfer.body import BytesBody

_log = logging.getLogger(__name__)

FOLDER = ".ackpt/holds/"
_PIN = "pin.json"
_RENEW_SECS = 60.0
_END_SECS = 10.0

READER_EXPIRES = timedelta(minutes=15)
"""By the store's clock; much longer than the time between renewals: a busy host is late."""


async def pin(backend: Backend, step: int, *, reason: str = "") -> list[str]:
    """Keep the checkpoints of `step` whatever the retention says, until `unpin`; return their prefixes.

    Raises:
        NotFoundError: `step` is not committed (or was deleted just now).
        StorageError: the store cannot be written to.
    """
    record = {"reason": reason, "time": datetime.now(UTC).isoformat(timespec="seconds")}
    for prefix in await _committed(backend, step):
        await backend.put(_key(prefix, _PIN), BytesBody(json.dumps(record).encode()))
    try:
        return await _committed(backend, step)  # a deletion that had begun before may have ended
    except NotFoundError:
        await unpin(backend, step)
        raise


async def unpin(backend: Backend, step: int) -> list[str]:
    """Take the pins of `step` back; return the prefixes that had one."""
    found = [prefix for prefix in await pinned(backend) if prefix.rpartition("-")[2] == str(step)]
    for prefix in found:
        await backend.delete(_key(prefix, _PIN))
    return found


async def pinned(backend: Backend) -> list[str]:
    """Return the prefixes that are pinned."""
    return sorted(_prefix(info) for info in await _holds(backend) if info.key.endswith(f"/{_PIN}"))


async def held(backend: Backend, prefix: str | None = None, *, now: datetime | None = None) -> frozenset[str]:
    """Return the prefixes (of all, or that one) that are pinned or being read.

    `now` is the store's time; where it is not given it is asked for, if there is a reader's hold.
    Where the store tells no times every hold counts.

    Raises:
        StorageError: the store cannot be asked.
    """
    holds = await _holds(backend, "" if prefix is None else f"{prefix}/")
    if now is None and any(_is_reader(info) for info in holds):
        now = await read_store_clock(backend)
    before = None if now is None else now - READER_EXPIRES
    return frozenset(_prefix(info) for info in holds if before is None or not is_over(info, before))


def is_over(info: ObjectInfo, before: datetime) -> bool:
    """Tell whether `info` is a reader's hold that was renewed for the last time before `before`."""
    return _is_reader(info) and info.modified is not None and info.modified < before


def _is_reader(info: ObjectInfo) -> bool:
    return info.key.startswith(FOLDER) and info.key.rpartition("/")[2].startswith("reader-")


@asynccontextmanager
async def reading(backend: Backend, prefix: str) -> AsyncGenerator[None, None]:
    """Hold `prefix` while it is read.

    A reader that may not write reads without a hold: it may find that the checkpoint is gone.
    """
    key = _key(prefix, f"reader-{uuid.uuid4().hex}.json")
    try:
        await backend.put(key, BytesBody(b"{}"))
    except StorageError as error:
        _log.debug("%s is read without a hold: %s", prefix, error)
        yield
        return
    renewal = asyncio.create_task(_renew(backend, key), name=f"hold of {prefix}")
    try:
        yield
    finally:
        renewal.cancel()
        await asyncio.wait([renewal])
        with suppress(StorageError, TimeoutError):  # then it ends by its age
            async with asyncio.timeout(_END_SECS):
                await backend.delete(key)


async def _renew(backend: Backend, key: str) -> None:
    while True:
        await asyncio.sleep(_RENEW_SECS)
        try:
            await backend.put(key, BytesBody(b"{}"))
        except StorageError as error:
            _log.debug("%s could not be renewed: %s", key, error)


async def _committed(backend: Backend, step: int) -> list[str]:
    found = [entry.prefix for entry in await list_entries(backend) if entry.step == step]
    if not found:
        raise NotFoundError(f"step {step} is not committed; `ackpt ls` lists the steps that are")
    return found


async def _holds(backend: Backend, below: str = "") -> list[ObjectInfo]:
    async with aclosing(backend.list(FOLDER + below)) as objects:
        return [info async for info in objects if info.key.removeprefix(FOLDER).count("/") == 1]


def _prefix(info: ObjectInfo) -> str:
    return info.key.removeprefix(FOLDER).partition("/")[0]


def _key(prefix: str, name: str) -> str:
    return f"{FOLDER}{prefix}/{name}"
