"""CRC-32C (Castagnoli; RFC 3720, appendix B.4): of bytes, of files, and of parts put together."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Final

import crc32c as _crc32c

from ackpt.errors import LocalFileError
from ackpt.options import KiB
from ackpt.transfer.local import local_errors

_POLYNOMIAL: Final = 0x82F63B78  # x^32 + x^28 + … + 1, the bits reflected: x^0 is the highest
_ONE: Final = 1 << 31
_READ_BYTES: Final = 256 * KiB


def crc32c(data: bytes | bytearray | memoryview, value: int = 0) -> int:
    """Return the CRC-32C of `data`, going on from `value`; lets go of the GIL for large buffers."""
    return _crc32c.crc32c(data, value)


def combine(crc_a: int, crc_b: int, length_b: int) -> int:
    """Return the CRC-32C of `a + b` from the checksums of both and the length of `b` in bytes.

    Costs O(log length_b). The method is that of zlib's `crc32_combine` (since 1.2.12, `crc32.c`,
    https://github.com/madler/zlib/blob/v1.3.1/crc32.c): appending n zero bytes multiplies a CRC
    by x^(8n) modulo the polynomial over GF(2), and the powers x^(2^k) are computed once.
    """
    return _multiply(_shift(length_b), crc_a) ^ crc_b


def crc32c_of_file(path: str | os.PathLike[str], start: int = 0, stop: int | None = None) -> int:
    """Return the CRC-32C of a file's bytes `start` to `stop` (None: to the end); blocks, so for a worker.

    Raises:
        LocalFileError: the file cannot be read, or ends before `stop`.
    """
    view = memoryview(bytearray(_READ_BYTES))
    value, position = 0, start
    with local_errors(path), open(path, "rb", buffering=0) as file:
        file.seek(start)
        while stop is None or position < stop:
            wanted = _READ_BYTES if stop is None else min(_READ_BYTES, stop - position)
            got = file.readinto(view[:wanted])
            if not got:
                break
            value = crc32c(view[:got], value)
            position += got
    if stop is not None and position < stop:
        raise LocalFileError(f"{os.fspath(path)}: expected at least {stop} bytes, found {position}")
    return value


def _multiply(a: int, b: int) -> int:
    """Multiply two reflected polynomials over GF(2), modulo the CRC's (zlib's `multmodp`)."""
    product, bit = 0, _ONE
    while a:
        if a & bit:
            product ^= b
            a ^= bit
        bit >>= 1
        b = b >> 1 ^ _POLYNOMIAL if b & 1 else b >> 1
    return product


def _powers(count: int) -> tuple[int, ...]:
    """Return x^(2^k) for k below `count` (zlib's `x2n_table`)."""
    powers = [_ONE >> 1]
    while len(powers) < count:
        powers.append(_multiply(powers[-1], powers[-1]))
    return tuple(powers)


_POWERS: Final = _powers(67)  # x^(8n) for every n below 2^64


@lru_cache(maxsize=256)
def _shift(length: int) -> int:
    """Return x^(8 * length): the operator that appends `length` zero bytes (zlib's `x2nmodp`).

    Kept, since all parts of an object but the last have one length.
    """
    operator, power = _ONE, 3
    while length:
        if length & 1:
            operator = _multiply(_POWERS[power], operator)
        length >>= 1
        power += 1
    return operator
