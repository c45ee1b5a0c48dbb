"""CRC-32C in S3's headers and documents, and what a store has shown of its own checksums.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final
from xml.etree import ElementTree as ET

from ackpt.backends.http import xml
from ackpt.backends.http.crc32c import decode

_log = logging.getLogger(__name__)

CRC32C_HEADER: Final = "x-amz-checksum-crc32c"
TYPE_HEADER: Final = "x-amz-checksum-type"
ALGORITHM_HEADER: Final = "x-amz-checksum-algorithm"
FULL_OBJECT: Final = "FULL_OBJECT"
COMPOSITE: Final = "COMPOSITE"


def from_headers(headers: Mapping[str, str]) -> int | None:
    """Read the CRC-32C of all the bytes; None where it is that of the parts' checksums."""
    if headers.get(TYPE_HEADER, FULL_OBJECT) != FULL_OBJECT:
        return None
    return decode(headers.get(CRC32C_HEADER, ""))


def from_document(element: ET.Element) -> int | None:
    """Read the CRC-32C of all the bytes of the object or part that a document's element describes."""
    if (xml.text(element, "ChecksumType") or FULL_OBJECT) != FULL_OBJECT:
        return None
    return decode(xml.text(element, "ChecksumCRC32C") or "")


class Abilities:
    """Remember what a store has refused, so that it is told once and not asked again.

    `checksums`: it takes an object's checksum in a header. `upload_kinds`: what an upload may be
    asked to keep, the best first: a checksum of all bytes, one of the parts' checksums, none.
    `trailers`: it takes a part's checksum behind the part; None as long as it has neither taken nor
    refused one.
    """

    def __init__(self, host: str) -> None:
        self.checksums = True
        self.upload_kinds: tuple[str | None, ...] = (FULL_OBJECT, COMPOSITE, None)
        self.trailers: bool | None = None
        self._host = host
        self._told = False

    def give_up_checksums(self) -> None:
        """Send none from now on."""
        self.checksums = False
        self.tell_none()

    def give_up_trailers(self) -> None:
        """Send the checksums of parts in front from now on, which costs a pass over each."""
        self.trailers = False
        _log.info("%s takes no checksum behind a part: it goes in front, after a pass of its own", self._host)

    def tell_none(self) -> None:
        """Tell, once, that nothing compares bytes on their way but TLS."""
        if not self._told:
            self._told = True
            _log.warning("%s keeps no crc32c: what arrives there is compared by size alone", self._host)
