"""What goes with every object that is written or read: encryption, storage class, who pays."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from ackpt.backends.s3.options import S3Options
from ackpt.errors import InvalidOptionError

_KEY_BYTES = 32
_SSE = "x-amz-server-side-encryption"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectSettings:
    """Hold headers by the requests they go with.

    `writing` goes with what makes an object (PutObject, CreateMultipartUpload, CopyObject),
    `key` (a key of the caller's own) with every request for bytes or checksums, `source_key` is
    that key for what is copied, `always` goes with every request.
    """

    writing: Mapping[str, str]
    key: Mapping[str, str] = field(repr=False)
    source_key: Mapping[str, str] = field(repr=False)
    always: Mapping[str, str]

    @classmethod
    def of(cls, options: S3Options) -> Self:
        """Read the options, and the key's environment variable.

        https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html

        Raises:
            InvalidOptionError: the variable is not set, or holds no key; its value is not told.
        """
        sse = options.sse or ("aws:kms" if options.kms_key else None)
        writing = {
            _SSE: sse,
            f"{_SSE}-aws-kms-key-id": options.kms_key,
            "x-amz-storage-class": options.storage_class,
        }
        key = {} if options.encryption_key_env is None else _read_key(options.encryption_key_env)
        return cls(
            writing={name: value for name, value in writing.items() if value is not None},
            key={f"{_SSE}-customer-{name}": value for name, value in key.items()},
            source_key={f"x-amz-copy-source-server-side-encryption-customer-{n}": v for n, v in key.items()},
            # https://docs.aws.amazon.com/AmazonS3/latest/userguide/ObjectsinRequesterPaysBuckets.html
            always={"x-amz-request-payer": "requester"} if options.requester_pays else {},
        )


def _read_key(variable: str) -> dict[str, str]:
    """Return the ends of the headers' names, with their values.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/ServerSideEncryptionCustomerKeys.html
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
        "algorithm": "AES256",
        "key": base64.b64encode(key).decode(),
        "key-md5": base64.b64encode(hashlib.md5(key, usedforsecurity=False).digest()).decode(),
    }
