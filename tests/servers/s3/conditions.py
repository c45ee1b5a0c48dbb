"""Conditions on writes and on the sources of copies, and keys of the caller's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from tests.servers.s3.problems import Problem, invalid, no_such_key
from tests.servers.s3.records import Stored

Conditions = Literal["heeded", "ignored", "refused"]

_KEY = "server-side-encryption-customer-key-md5"
_FAILED = "At least one of the pre-conditions you specified did not hold"


def check_write(headers: Mapping[str, str], there: Stored | None, conditions: Conditions) -> None:
    """Hold a write to its condition.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html

    Raises:
        Problem: it does not hold.
    """
    absent, version = headers.get("If-None-Match"), headers.get("If-Match")
    if absent is None and version is None:
        return
    if conditions == "refused":
        message = "A header you provided implies functionality that is not implemented"
        raise Problem(501, "NotImplemented", message, Header="If-None-Match")
    if conditions == "ignored":
        return
    if absent is not None:
        if absent != "*":
            raise Problem(501, "NotImplemented", "If-None-Match expects *")
        if there is not None:
            raise Problem(412, "PreconditionFailed", _FAILED, Condition="If-None-Match")
    if version is not None:
        if there is None:
            raise no_such_key()
        if version != f'"{there.etag}"':
            raise Problem(412, "PreconditionFailed", _FAILED, Condition="If-Match")


def check_source(headers: Mapping[str, str], source: Stored) -> None:
    """Hold what is copied to its version: x-amz-copy-source-if-match.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html
    """
    version = headers.get("x-amz-copy-source-if-match")
    if version is not None and version != f'"{source.etag}"':
        raise Problem(412, "PreconditionFailed", _FAILED, Condition="x-amz-copy-source-If-Match")


def key_of(headers: Mapping[str, str], *, source: bool = False) -> str | None:
    """Return the MD5 of the key that a request brings, None for none.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/ServerSideEncryptionCustomerKeys.html
    """
    return headers.get(f"x-amz-copy-source-{_KEY}" if source else f"x-amz-{_KEY}")


def check_key(given: str | None, kept: str | None) -> None:
    """Want the key that the object was stored with.

    Raises:
        Problem: it is absent, or another.
    """
    if kept is not None and given is None:
        raise invalid(
            "The object was stored using a form of Server Side Encryption. The correct parameters must be "
            "provided to retrieve the object."
        )
    if kept != given:
        raise Problem(403, "AccessDenied", "Access Denied because of the key provided")
