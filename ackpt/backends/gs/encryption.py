"""A customer-supplied encryption key: from an environment variable into three headers."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Mapping

from ackpt.errors import InvalidOptionError

_KEY_BYTES = 32
_OF_TARGET = "x-goog-encryption-"
_OF_SOURCE = "x-goog-copy-source-encryption-"


def key_headers(variable: str | None) -> Mapping[str, str]:
    """Return the headers that go with every request for an object's bytes or checksum.

    https://cloud.google.com/storage/docs/encryption/customer-supplied-keys#request_headers

    Raises:
        InvalidOptionError: the variable is not set, or holds no key; its value is not told.
    """
    if variable is None:
        return {}
    text = os.environ.get(variable)
    if text is None:
        raise InvalidOptionError(
            f"option 'encryption_key_env': the environment variable {variable!r} is not set"
        )
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != _KEY_BYTES:
        raise InvalidOptionError(
            f"option 'encryption_key_env': expected the base64 of {_KEY_BYTES} bytes in {variable!r}; "
            "make one with: head -c 32 /dev/urandom | base64"
        )
    return {
        "x-goog-encryption-algorithm": "AES256",
        "x-goog-encryption-key": base64.b64encode(key).decode(),
        "x-goog-encryption-key-sha256": base64.b64encode(hashlib.sha256(key).digest()).decode(),
    }


def source_key_headers(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return `key_headers` as a copy wants them about the object that it reads, which has the same key.

    https://cloud.google.com/storage/docs/encryption/customer-supplied-keys#request_headers
    """
    return {_OF_SOURCE + name.removeprefix(_OF_TARGET): value for name, value in headers.items()}
