"""Deletion of many objects: in as few requests as the store takes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Final

from ackpt.backends.base import Backend, BulkDeletingBackend
from ackpt.errors import UnsupportedError
from ackpt.transfer.fan_out import fan_out

_log = logging.getLogger(__name__)

_AT_ONCE: Final = 8


async def delete_all(backend: Backend, keys: Sequence[str]) -> None:
    """Delete the objects under `keys`, many in one request where the store takes that; in no order.

    Absent is success. A store that turns out not to know such requests is asked for each key.

    Raises:
        StorageError: one object was not deleted, by its key; any of the others may be there still.
    """
    if isinstance(backend, BulkDeletingBackend) and len(keys) > 1:
        try:
            await _in_batches(backend, keys)
        except UnsupportedError as error:
            _log.debug("the %d objects are deleted one by one: %s", len(keys), error)
        else:
            return
    await fan_out([partial(backend.delete, key) for key in keys], limit=_AT_ONCE)


async def _in_batches(backend: BulkDeletingBackend, keys: Sequence[str]) -> None:
    size = backend.delete_limit
    batches = [keys[start : start + size] for start in range(0, len(keys), size)]
    for errors in await fan_out([partial(backend.delete_many, batch) for batch in batches], limit=_AT_ONCE):
        for error in errors.values():
            raise error
