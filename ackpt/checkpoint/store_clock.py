"""The store's clock: by it alone is told how old something in the store is, never by this machine's.

The times of objects are the store's; what they are compared with has to come from the same clock, or
a machine whose clock is wrong takes a living writer for dead.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from contextlib import suppress
from datetime import datetime

from ackpt.backends.base import Backend, ObjectInfo
from ackpt.errors import NotFoundError, PermissionDeniedError, StorageError
from ackpt.transfer.body import BytesBody

_log = logging.getLogger(__name__)

FOLDER = ".ackpt/clock/"
_END_SECS = 10.0


async def read_store_clock(backend: Backend) -> datetime | None:
    """Return what the store's clock shows, never later than it is: when an object was written just now.

    The object is deleted again; one that a killed process leaves is found by a sweep.
    None where the store tells no times, or takes no object from us: then nothing there has an age,
    and nothing may be taken for old.

    Raises:
        StorageError: the store does not answer, or cannot be written to for a passing reason.
    """
    key = f"{FOLDER}{uuid.uuid4().hex}"
    try:
        return await _written(backend, key)
    except PermissionDeniedError as error:
        _log.debug("the store's clock cannot be read: %s", error)
        return None
    finally:
        with suppress(StorageError, TimeoutError):
            async with asyncio.timeout(_END_SECS):
                await backend.delete(key)


async def _written(backend: Backend, key: str) -> datetime | None:
    info = await backend.put(key, BytesBody(b"{}"))
    if info.modified is None:  # S3 tells it to a HEAD only
        with suppress(NotFoundError):
            info = await backend.head(key)
    return info.modified


def is_clock(info: ObjectInfo) -> bool:
    """Tell whether `info` was put to read the clock."""
    return info.key.startswith(FOLDER)
