"""The names aside, of what an upload leaves in the bucket until it ends: pure, and one for all drivers.

An upload to `<key>` has the name aside `<key>.ackpt-upload-<16 hex digits>`; other objects of it have
names that begin with that. None of these is listed as an object, or taken for a key.
"""

from __future__ import annotations

import re
import secrets
from typing import Final

from ackpt.errors import UnsupportedError

_MAX_NAME_BYTES: Final = 1024  # https://cloud.google.com/storage/docs/objects#naming
_SUFFIX: Final = re.compile(r"(?s)(.+)\.ackpt-upload-([0-9a-f]{16})(?:\.(?:part|join)-[0-9-]+)?")
"""Names aside, and those of the parts that another driver makes an object of (`carried/names.py`)."""


def new_mark() -> str:
    """Make what tells one upload from all others."""
    return secrets.token_hex(8)


def aside(key: str, mark: str) -> str:
    """Return the name aside."""
    return f"{key}.ackpt-upload-{mark}"


def split_aside(key: str) -> tuple[str, str] | None:
    """Return the key and the mark that a name aside is made of, None for any other name."""
    match = _SUFFIX.fullmatch(key)
    return None if match is None else (match.group(1), match.group(2))


def check_key(key: str) -> None:
    """Check that an object may have this key.

    Raises:
        UnsupportedError: it is empty, or a name kept for uploads.
    """
    if not key:
        raise UnsupportedError("an object needs a name; got an empty key", key=key)
    if split_aside(key) is not None:
        raise UnsupportedError(f"{key}: names that end like this are kept for uploads", key=key)


def check_room(name: str, key: str, *, behind: str = "") -> None:
    """Check that an upload to `name` leaves room for a name aside, and for what stands `behind` that.

    Raises:
        UnsupportedError: it does not.
    """
    room = _MAX_NAME_BYTES - len(aside("", new_mark()) + behind)
    if len(name.encode()) > room:
        raise UnsupportedError(
            f"{key}: an upload's name may have {room} bytes, this one has {len(name.encode())}", key=key
        )
