"""How many bytes a second may travel: a token bucket that can be changed while it is in use."""

from __future__ import annotations


class RateLimit:
    """Let bytes through at `bytes_per_sec`, None for no limit; one for all that share a link."""

    def __init__(self, bytes_per_sec: float | None = None) -> None:
        self.bytes_per_sec = bytes_per_sec

    async def take(self, size: int) -> None:
        """Wait until `size` bytes may travel."""
        raise NotImplementedError
