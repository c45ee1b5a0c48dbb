"""Checksums: the CRC-64 that Azure computes of what arrives, and the CRC-32C that we keep of it.

Azure knows no CRC-32C. It computes a CRC-64 of every body, compares it with the one that a request
announces, and tells it in the answer. What it has so confirmed is also what our CRC-32C, made of
the same blocks in the same pass, is of; that is kept in the blob's metadata. Where a store confirms
nothing, nothing is kept.
"""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Final

from awscrt.checksums import crc64nvme
from crc32c import crc32c

from ackpt.backends.base import Body
from ackpt.backends.http.message import Content
from ackpt.errors import ChecksumMismatchError

_log = logging.getLogger(__name__)

CRC64_HEADER: Final = "x-ms-content-crc64"
METADATA: Final = "ackptcrc32c"
METADATA_HEADER: Final = f"x-ms-meta-{METADATA}"


class Measured:
    """Be a body on its way, both checksums computed of the blocks that are handed to the connection."""

    def __init__(self, body: Body) -> None:
        self.content = Content(blocks=self._blocks, size=body.size)
        self._body = body
        self._crc64 = self._crc32c = 0

    async def check(self, headers: Mapping[str, str], what: str, key: str) -> int | None:
        """Compare with what the store says it got; return the CRC-32C, None where it says nothing.

        Raises:
            ChecksumMismatchError: it got other bytes, or other ones were sent than announced.
        """
        await check_announced(self._body, self._crc32c, what, key)
        stored = decode_crc64(headers.get(CRC64_HEADER, ""))
        if stored is None:
            return None
        if stored != self._crc64:
            raise ChecksumMismatchError(
                f"{key}: {what} arrived damaged: sent with crc64 {self._crc64:016x}, "
                f"stored with {stored:016x}",
                key=key,
            )
        return self._crc32c

    async def _blocks(self) -> AsyncGenerator[bytes | memoryview, None]:
        self._crc64 = self._crc32c = 0
        async with aclosing(self._body.__aiter__()) as blocks:
            async for block in blocks:
                self._crc64 = crc64nvme(block, self._crc64)
                self._crc32c = crc32c(block, self._crc32c)
                yield block


async def check_announced(body: Body, sent: int, what: str, key: str) -> None:
    """Compare the bytes that a body gave with the checksum that it announces.

    Raises:
        ChecksumMismatchError: they differ.
    """
    announced = await body.crc32c()
    if sent != announced:
        raise ChecksumMismatchError(
            f"{key}: {what} was read with crc32c {sent:08x}, expected {announced:08x}", key=key
        )


def encode_crc64(data: bytes) -> str:
    """Return the CRC-64 of bytes, as the header has it: eight bytes, the lowest first, in base64.

    It is CRC-64/NVME (https://reveng.sourceforge.io/crc-catalogue/17plus.htm#crc.cat.crc-64-nvme), as
    in Microsoft's own: Azure/azure-sdk-for-python, sdk/storage/azure-storage-extensions.
    """
    return base64.b64encode(crc64nvme(data).to_bytes(8, "little")).decode()


def decode_crc64(text: str) -> int | None:
    """Read a CRC-64; None for what is none."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return int.from_bytes(raw, "little") if len(raw) == 8 else None


def metadata_headers(value: int | None) -> dict[str, str]:
    """Return the metadata that keeps a CRC-32C."""
    return {} if value is None else {METADATA_HEADER: f"{value:08x}"}


def decode_metadata(text: str | None) -> int | None:
    """Read a CRC-32C that was kept; None for what is none."""
    if text is None or len(text) != 8 or not set(text) <= set("0123456789abcdef"):
        return None
    return int(text, 16)


class Abilities:
    """Remember whether a store has confirmed a CRC-64, or refused one; None as long as it did neither."""

    def __init__(self, where: str) -> None:
        self.confirms: bool | None = None
        self._where = where

    def see(self, headers: Mapping[str, str]) -> None:
        """Learn from an answer to a request that brought bytes."""
        if CRC64_HEADER in headers:
            self.confirms = True
        elif self.confirms is None:
            self.give_up()

    def give_up(self) -> None:
        """Announce none from now on, and tell so once."""
        if self.confirms is not False:
            _log.warning(
                "%s confirms no checksums: what arrives there is compared by size alone", self._where
            )
        self.confirms = False
