"""CRC-32C (Castagnoli; RFC 3720, appendix B.4): of bytes, of files, and of parts put together."""

from __future__ import annotations

import os


def crc32c(data: bytes | bytearray | memoryview, value: int = 0) -> int:
    """Return the CRC-32C of `data`, going on from `value`; lets go of the GIL for large buffers."""
    raise NotImplementedError


def combine(crc_a: int, crc_b: int, length_b: int) -> int:
    """Return the CRC-32C of `a + b` from the checksums of both and the length of `b` in bytes.

    Costs O(log length_b).
    """
    raise NotImplementedError


def crc32c_of_file(path: str | os.PathLike[str], start: int = 0, stop: int | None = None) -> int:
    """Return the CRC-32C of a file's bytes `start` to `stop` (None: to the end); blocks, so for a worker.

    Raises:
        StagingError: the file cannot be read, or ends before `stop`.
    """
    raise NotImplementedError
