"""The checksum of an object whose store tells none: its bytes are read, and are travel like any other."""

from __future__ import annotations

from contextlib import aclosing

from ackpt.backends.base import Backend
from ackpt.transfer.budget import Budget
from ackpt.transfer.checksum import crc32c


async def read_back(backend: Backend, key: str, budget: Budget) -> int:
    """Return the CRC-32C of the object `key`, read within the rate of `budget`; `backend` retries.

    Holds no connection of the budget: it would be held while a request waits to be sent again.

    Raises:
        NotFoundError: there is no such object.
        StorageError: what the store said, after the retries.
    """
    value = 0
    async with aclosing(backend.get(key)) as blocks:
        async for block in blocks:
            await budget.travel(len(block))
            value = crc32c(block, value)
    return value
