"""CRC-32C as Cloud Storage writes it: base64 of the four bytes, the highest first.

https://cloud.google.com/storage/docs/json_api/v1/objects#crc32c and, for the header `x-goog-hash`,
https://cloud.google.com/storage/docs/xml-api/reference-headers#xgooghash
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable

from ackpt.errors import ChecksumMismatchError

HASH_HEADER = "x-goog-hash"


def encode(value: int) -> str:
    """Write a CRC-32C."""
    return base64.b64encode(value.to_bytes(4, "big")).decode()


def decode(text: str) -> int | None:
    """Read a CRC-32C; None for what is none."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return int.from_bytes(raw, "big") if len(raw) == 4 else None


def from_headers(lines: Iterable[str]) -> int | None:
    """Find the CRC-32C in `x-goog-hash` headers: one a line, or several in one line."""
    for item in ",".join(lines).split(","):
        algorithm, _, value = item.strip().partition("=")
        if algorithm == "crc32c":
            return decode(value)
    return None


def compare(what: str, *, sent: int, stored: int | None, key: str) -> None:
    """Compare what left with what arrived; a store that does not tell passes.

    Raises:
        ChecksumMismatchError: they differ.
    """
    if stored is not None and stored != sent:
        raise ChecksumMismatchError(
            f"{key}: {what} arrived damaged: sent with crc32c {sent:08x}, stored with {stored:08x}", key=key
        )
