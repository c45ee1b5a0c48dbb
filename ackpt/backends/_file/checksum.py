"""The checksum of parts put together, from the checksums of the parts."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

_POLYNOMIAL: Final = 0x82F63B78  # of CRC-32C, bits reflected: x^0 is the highest bit
_ONE: Final = 1 << 31


def crc32c_of_parts(parts: Iterable[tuple[int, int]]) -> int:
    """Return the CRC-32C of parts in a row, each given by its CRC-32C and its size in bytes.

    To append n bytes multiplies the CRC so far by x^(8n) modulo the polynomial over GF(2), as in
    zlib's `crc32_combine` (https://github.com/madler/zlib/blob/v1.3.1/crc32.c).
    """
    value = 0
    for crc, size in parts:
        value = _times(_shift(size), value) ^ crc
    return value


@lru_cache(maxsize=16)
def _shift(size: int) -> int:
    """Return x^(8 * size); nearly all parts of an upload have one size."""
    result, power = _ONE, _ONE >> 8
    while size:
        if size & 1:
            result = _times(power, result)
        power = _times(power, power)
        size >>= 1
    return result


def _times(a: int, b: int) -> int:
    product = 0
    for bit in range(31, -1, -1):
        if a >> bit & 1:
            product ^= b
        b = b >> 1 ^ _POLYNOMIAL if b & 1 else b >> 1
    return product
