"""Seals: a journal remembers the ids of open uploads, and does not tell them.

An upload's id may be an address at which anybody can write the object, such as the session URI of a
resumable upload (https://cloud.google.com/storage/docs/resumable-uploads#session-uris). So the disk
holds ids sealed, and the store holds the key: a process that may not read the run learns nothing.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

_KEY_BYTES = 32
_NONCE_BYTES = 16
_TAG_BYTES = 16


@dataclass(frozen=True, slots=True)
class Seal:
    """Seal texts, and open them, with one key.

    Encrypted by the output of SHAKE-256, an extendable-output function (FIPS 202), for a key and a
    nonce that no other text has, and authenticated by HMAC-SHA-256 (FIPS 198-1).
    """

    key: bytes = field(repr=False)

    @classmethod
    def new(cls) -> Seal:
        """Make one with a random key."""
        return cls(os.urandom(_KEY_BYTES))

    @classmethod
    def from_text(cls, text: object) -> Seal | None:
        """Read the key from what `to_text` wrote; None where that is no key."""
        try:
            key = bytes.fromhex(text) if isinstance(text, str) else b""
        except ValueError:
            return None
        return cls(key) if len(key) == _KEY_BYTES else None

    def to_text(self) -> str:
        """Write the key, for the store."""
        return self.key.hex()

    def close(self, text: str) -> str:
        """Seal `text`; the same text looks different each time."""
        nonce = os.urandom(_NONCE_BYTES)
        hidden = self._mix(text.encode(), nonce)
        return base64.urlsafe_b64encode(nonce + self._tag(nonce + hidden) + hidden).decode()

    def open(self, sealed: str) -> str | None:
        """Return the text; None where it was sealed with another key, or is damaged."""
        try:
            data = base64.urlsafe_b64decode(sealed.encode())
        except (ValueError, binascii.Error):
            return None
        nonce, tag = data[:_NONCE_BYTES], data[_NONCE_BYTES : _NONCE_BYTES + _TAG_BYTES]
        hidden = data[_NONCE_BYTES + _TAG_BYTES :]
        if not hmac.compare_digest(tag, self._tag(nonce + hidden)):
            return None
        return self._mix(hidden, nonce).decode()

    def open_all(self, sealed: Mapping[str, str]) -> dict[str, str]:
        """Open the values of `sealed`, and leave out those that this seal does not open."""
        opened = {name: self.open(text) for name, text in sealed.items()}
        return {name: text for name, text in opened.items() if text is not None}

    def _mix(self, data: bytes, nonce: bytes) -> bytes:
        stream = hashlib.shake_256(b"ids" + self.key + nonce).digest(len(data))
        return bytes(a ^ b for a, b in zip(data, stream, strict=True))

    def _tag(self, data: bytes) -> bytes:
        return hmac.digest(self.key, data, "sha256")[:_TAG_BYTES]
