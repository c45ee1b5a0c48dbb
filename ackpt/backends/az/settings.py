"""What goes with every blob that is written or read: tier, encryption scope, a key of the caller's own."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from ackpt.backends.az.options import AzOptions
from ackpt.errors import InvalidOptionError

_KEY_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobSettings:
    """Hold headers by the requests they go with.

    `making` goes with what makes a blob (Put Blob, Put Block List, Copy Blob From URL), `sealing`
    with what brings bytes (Put Blob, Put Block, and Put Block List), `key` (a key of the caller's
    own) also with every request for bytes or properties.
    """

    making: Mapping[str, str]
    sealing: Mapping[str, str] = field(repr=False)
    key: Mapping[str, str] = field(repr=False)

    @classmethod
    def of(cls, options: AzOptions) -> Self:
        """Read the options, and the key's environment variable.

        https://learn.microsoft.com/rest/api/storageservices/put-blob#request-headers-all-blob-types

        Raises:
            InvalidOptionError: the variable is not set, or holds no key; its value is not told.
        """
        key = {} if options.encryption_key_env is None else _key_headers(options.encryption_key_env)
        scope = (
            {} if options.encryption_scope is None else {"x-ms-encryption-scope": options.encryption_scope}
        )
        return cls(
            making={} if options.tier is None else {"x-ms-access-tier": options.tier},
            sealing={**key, **scope},
            key=key,
        )


def _key_headers(variable: str) -> dict[str, str]:
    """Return the headers of a customer-provided key.

    https://learn.microsoft.com/azure/storage/blobs/encryption-customer-provided-keys
    """
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
        "x-ms-encryption-algorithm": "AES256",
        "x-ms-encryption-key": base64.b64encode(key).decode(),
        "x-ms-encryption-key-sha256": base64.b64encode(hashlib.sha256(key).digest()).decode(),
    }
