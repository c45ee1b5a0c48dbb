"""The header in which Cloud Storage tells checksums.

https://cloud.google.com/storage/docs/xml-api/reference-headers#xgooghash
"""

from __future__ import annotations

from collections.abc import Iterable

from ackpt.backends.http.crc32c import decode

HASH_HEADER = "x-goog-hash"


def from_headers(lines: Iterable[str]) -> int | None:
    """Find the CRC-32C in `x-goog-hash` headers: one a line, or several in one line."""
    for item in ",".join(lines).split(","):
        algorithm, _, value = item.strip().partition("=")
        if algorithm == "crc32c":
            return decode(value)
    return None
