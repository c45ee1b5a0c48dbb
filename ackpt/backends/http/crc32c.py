"""CRC-32C as object stores write it: base64 of the four bytes, the highest first."""

from __future__ import annotations

import base64
import binascii

from ackpt.errors import ChecksumMismatchError


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


def compare(what: str, *, sent: int, stored: int | None, key: str) -> None:
    """Compare what left with what arrived; a store that does not tell passes.

    Raises:
        ChecksumMismatchError: they differ.
    """
    if stored is not None and stored != sent:
        raise ChecksumMismatchError(
            f"{key}: {what} arrived damaged: sent with crc32c {sent:08x}, stored with {stored:08x}", key=key
        )
