"""CRC-64/NVME: by the book, to hold a library to, and by that library, for megabytes.

https://reveng.sourceforge.io/crc-catalogue/17plus.htm#crc.cat.crc-64-nvme
"""

from __future__ import annotations

import base64

from awscrt.checksums import crc64nvme

_POLYNOMIAL = 0x9A6C9329AC4BC9B5  # 0xad93d23594c93659, the bits reflected
_ALL = (1 << 64) - 1


def by_the_book(data: bytes) -> int:
    """Return the CRC-64 of bytes, bit by bit."""
    value = _ALL
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
    return value ^ _ALL


def header(data: bytes) -> str:
    """Write the CRC-64 of bytes as `x-ms-content-crc64` has it."""
    return base64.b64encode(crc64nvme(data).to_bytes(8, "little")).decode()
