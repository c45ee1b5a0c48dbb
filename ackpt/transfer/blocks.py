"""Buffers of one block, used again and again: fresh ones cost page faults and cold caches."""

from __future__ import annotations

from typing import Final

from ackpt.options import KiB

BLOCK_BYTES: Final = 128 * KiB
"""The size of a block: smaller costs system calls, larger falls out of the cache (TLS doubles)."""


class BlockPool:
    """Lend buffers of `BLOCK_BYTES`; one that anybody still has a view of is not lent again.

    That rule makes reuse safe with any transport. From Python 3.12 an asyncio transport keeps
    views of what it has not sent yet (before, it copied), and a TLS or uvloop transport has rules
    of its own. How many blocks back that reaches depends on the transport's write limits, so a
    ring of fixed length is only ever probably long enough. A `bytearray` with an exported buffer
    refuses to be resized (https://docs.python.org/3/c-api/bytearray.html, BufferError), and asking
    it is as good as free. Whoever is done lets go of their view; nothing is to be released by hand.
    """

    __slots__ = ("_idle", "_keep")

    def __init__(self, *, keep: int) -> None:
        """Keep at most `keep` idle buffers."""
        self._keep = keep
        self._idle: list[bytearray] = []

    def take(self) -> bytearray:
        """Lend the buffer that came back last (it is warm in the cache), or a fresh one."""
        for place in range(len(self._idle) - 1, -1, -1):
            if _unseen(self._idle[place]):
                return self._idle.pop(place)
        return bytearray(BLOCK_BYTES)

    def give(self, block: bytearray) -> None:
        """Take a buffer back; views of it may still be about."""
        if len(self._idle) >= self._keep:
            del self._idle[0]
        self._idle.append(block)


def _unseen(block: bytearray) -> bool:
    """Tell whether nobody has a view of `block`; changes nothing."""
    try:
        block.append(block.pop())
    except BufferError:
        return False
    return True
