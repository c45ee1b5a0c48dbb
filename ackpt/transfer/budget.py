"""What all transfers share and none may exceed: connections, memory, and bytes per second."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from ackpt.errors import InvalidOptionError
from ackpt.transfer.blocks import BlockPool
from ackpt.transfer.rate import RateLimit


class Budget:
    """Lease connections and memory, first come first served; make one for all transfers on a loop.

    Nothing here can lock up as long as every holder keeps to one order: a connection first, then
    at most one lease of memory. Who holds memory then waits for nothing of the budget, so it ends;
    and the front of a queue is never overtaken, so it has its turn.
    """

    def __init__(self, *, connections: int, memory_bytes: int, rate: RateLimit | None = None) -> None:
        """Bound the requests that move bytes, and the bytes held for them.

        Raises:
            InvalidOptionError: a bound below 1.
        """
        if connections < 1 or memory_bytes < 1:
            raise InvalidOptionError(
                f"budget: expected at least 1 connection and 1 byte, got {connections} and {memory_bytes}"
            )
        self.rate = RateLimit() if rate is None else rate
        self.blocks = BlockPool(keep=4 * connections)
        self._connections = _Pool(connections)
        self._memory = _Pool(memory_bytes)

    @property
    def connections(self) -> int:
        """Return how many connections there are to lease."""
        return self._connections.capacity

    @property
    def memory_in_use(self) -> int:
        """Return the bytes leased now."""
        return self._memory.used

    @property
    def connections_in_use(self) -> int:
        """Return the connections leased now."""
        return self._connections.used

    def connection(self) -> AbstractAsyncContextManager[None]:
        """Hold one connection inside `async with`; waits for its turn."""
        return self._connections.lease(1)

    def memory(self, size: int) -> AbstractAsyncContextManager[None]:
        """Hold `size` bytes of memory inside `async with`; more than the whole budget is granted alone."""
        return self._memory.lease(size)

    async def take_memory(self, size: int) -> None:
        """Lease `size` bytes until `give_memory`, for holders that are no block of code."""
        await self._memory.take(size)

    def give_memory(self, size: int) -> None:
        """Give back what `take_memory` leased."""
        self._memory.give(size)


class _Pool:
    """Count out a quantity in the order of asking."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.used = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def lease(self, amount: int) -> AsyncIterator[None]:
        await self.take(amount)
        try:
            yield
        finally:
            self.give(amount)

    async def take(self, amount: int) -> None:
        if not self._waiting and self._has(amount):
            self.used += amount
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = (amount, turn)
        self._waiting.append(place)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self.give(amount)  # granted and cancelled in one turn of the loop
            elif place in self._waiting:
                self._waiting.remove(place)
                self._grant()
            raise

    def give(self, amount: int) -> None:
        self.used -= amount
        self._grant()

    def _has(self, amount: int) -> bool:
        return self.used + amount <= self.capacity or not self.used

    def _grant(self) -> None:
        while self._waiting and (self._waiting[0][1].cancelled() or self._has(self._waiting[0][0])):
            amount, turn = self._waiting.popleft()
            if not turn.cancelled():  # cancelled, but its task has not run since
                self.used += amount
                turn.set_result(None)
