"""What the transfers of a run share and none may exceed: connections, memory, and bytes per second."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from ackpt.errors import InvalidOptionError, ThrottledError, TransientError
from ackpt.transfer.blocks import BlockPool
from ackpt.transfer.concurrency import Concurrency
from ackpt.transfer.pool import Pool
from ackpt.transfer.rate import RateLimit

_logger = logging.getLogger(__name__)

_ROUND_SECS: Final = 0.5
"""How long what moves is counted before the connections are thought over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """Hold what the runs of a process share, on whatever loops they are."""

    connections: Pool
    memory: Pool
    rate: RateLimit


class Budget:
    """Lease connections and memory, first come first served; make one for all transfers of a run.

    For one loop; what it leases is leased from what the process shares, too.

    Nothing here can lock up as long as every holder keeps to one order: a connection first (of the
    run, then of the process), then at most one lease of memory (likewise). Who holds memory then
    waits for nothing but time, so it ends; and the front of a queue is never overtaken, so it has
    its turn. No connection and no memory is held while a request waits to be sent again.
    """

    def __init__(
        self,
        *,
        connections: int,
        memory_bytes: int,
        least_connections: int | None = None,
        rate: RateLimit | None = None,
        shared: Shared | None = None,
        name: str = "the store",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Bound the requests that move bytes, and the bytes held for them.

        With `least_connections` (None: as many as `connections`) their number adapts between the two.
        `rate` is the run's own limit, `shared` what it has a share in. `name` is for the log.

        Raises:
            InvalidOptionError: a bound below 1, or bounds in the wrong order.
        """
        least = connections if least_connections is None else least_connections
        if connections < 1 or memory_bytes < 1 or not 1 <= least <= connections:
            raise InvalidOptionError(
                "budget: expected at least 1 connection and 1 byte, got "
                f"{least} to {connections} and {memory_bytes}"
            )
        self.blocks = BlockPool(keep=4 * connections)
        self._name = name
        self._concurrency = Concurrency.start(lower=least, upper=connections)
        pool = Pool(self._concurrency.level)
        self._adapts = least < connections
        self._connections = pool
        self._memory = Pool(memory_bytes)
        pools, memories, rates = [pool], [self._memory], [] if rate is None else [rate]
        if shared is not None:
            pools, memories = [*pools, shared.connections], [*memories, shared.memory]
            rates = [*rates, shared.rate]
        self._pools = pools
        self._of_connections = [each.open() for each in pools]
        self._of_memory = [each.open() for each in memories]
        self._rates = rates
        self._clock = clock
        self._lowered = clock()
        self._begun = clock()
        self._was_wanted = False
        self._moved = 0

    @property
    def connections(self) -> int:
        """Return how many connections there may be at most."""
        return self._concurrency.upper

    @property
    def level(self) -> int:
        """Return how many connections may be used now, as far as nobody else has them."""
        return min(self._concurrency.level, *(each.capacity for each in self._pools))

    @property
    def memory_in_use(self) -> int:
        """Return the bytes leased now."""
        return self._memory.used

    @property
    def connections_in_use(self) -> int:
        """Return the connections leased now."""
        return self._connections.used

    @property
    def limited(self) -> bool:
        """Tell whether `travel` may wait."""
        return any(rate.limited for rate in self._rates)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[None]:
        """Hold one connection for one request inside `async with`; waits for its turn.

        A request that the store refuses for their number makes it fewer from then on.
        """
        own, *shared = self._of_connections
        await own.take(1)
        try:
            for account in shared:
                await account.take(1)
            try:
                begun = self._clock()
                yield
            except TransientError as error:
                if isinstance(error, ThrottledError) or error.retry_after_secs:
                    self._refused(begun)
                raise
            finally:
                for account in shared:
                    account.give(1)
        finally:
            own.give(1)

    def memory(self, size: int) -> AbstractAsyncContextManager[None]:
        """Hold `size` bytes of memory inside `async with`; more than the whole budget is granted alone."""
        return self._lease_memory(size)

    async def take_memory(self, size: int) -> None:
        """Lease `size` bytes until `give_memory`, for holders that are no block of code."""
        own, *shared = self._of_memory
        await own.take(size)
        try:
            for account in shared:
                await account.take(size)
        except BaseException:
            own.give(size)
            raise

    def give_memory(self, size: int) -> None:
        """Give back what `take_memory` leased."""
        for account in self._of_memory:
            account.give(size)

    async def travel(self, size: int) -> None:
        """Wait until `size` bytes may travel, by the run's own limit and by that of the process."""
        for rate in self._rates:
            await rate.take(size)

    def moved(self, size: int) -> None:
        """Take note of bytes that have moved."""
        self._moved += size
        if self._adapts and self._clock() - self._begun >= _ROUND_SECS:
            self._end_round()

    def close(self) -> None:
        """Give back all that is held of what the process shares; idempotent."""
        for account in (*self._of_connections[1:], *self._of_memory[1:]):
            account.close()

    @asynccontextmanager
    async def _lease_memory(self, size: int) -> AsyncIterator[None]:
        await self.take_memory(size)
        try:
            yield
        finally:
            self.give_memory(size)

    def _end_round(self) -> None:
        now, wanted = self._clock(), self._connections.wanted
        secs = now - self._begun
        # Only what was wanted throughout, without a pause, tells what the connections can carry.
        if wanted and self._was_wanted and secs < 2 * _ROUND_SECS:
            decided = self._concurrency.after_round(self._moved / secs)
            grows = decided.level > self._concurrency.level
            self._set(decided, "more may carry more" if grows else "more did not carry more")
        self._begun, self._moved, self._was_wanted = now, 0, wanted

    def _refused(self, begun: float) -> None:
        """Use fewer, unless the request was under way when that was decided last."""
        if self._adapts and begun >= self._lowered:
            self._lowered = self._clock()
            self._set(self._concurrency.after_refusal(), "the store asks for fewer")

    def _set(self, concurrency: Concurrency, why: str) -> None:
        before, self._concurrency = self._concurrency.level, concurrency
        if concurrency.level != before:
            self._connections.capacity = concurrency.level
            _logger.debug(
                "%s: %d connections at a time, %d before: %s", self._name, concurrency.level, before, why
            )
