"""What all transfers share and none may exceed: connections, memory, and bytes per second."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from ackpt.transfer.rate import RateLimit


class Budget:
    """Lease connections and memory, first come first served; make one for all transfers on a loop."""

    def __init__(self, *, connections: int, memory_bytes: int, rate: RateLimit | None = None) -> None:
        raise NotImplementedError

    def connection(self) -> AbstractAsyncContextManager[None]:
        """Hold one connection inside `async with`; waits for its turn."""
        raise NotImplementedError

    def memory(self, size: int) -> AbstractAsyncContextManager[None]:
        """Hold `size` bytes of memory inside `async with`; more than the whole budget is granted alone."""
        raise NotImplementedError
