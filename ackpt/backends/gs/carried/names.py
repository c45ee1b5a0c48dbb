"""The names of what an upload by composition leaves in the bucket until it ends: pure.

An upload has a name aside (`aside.py`). The object of that name, without bytes, says that it is open.
Its parts are objects of their own: `<aside>.part-00001`. What is put together of more than 32 of
them on the way is `<aside>.join-1-00001`. None of these is listed as an object.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, TypeVar

from ackpt.backends.gs.aside import aside

T = TypeVar("T")

MAX_PARTS: Final = 10_000
LONGEST: Final = ".join-1-00001"
"""What stands behind the name aside at most."""

_ID: Final = re.compile(r"composed:([0-9a-f]{16})")
_PART: Final = re.compile(r"\.part-([0-9]{5})")


def part(key: str, mark: str, number: int) -> str:
    """Return the name of a part."""
    return f"{aside(key, mark)}.part-{number:05d}"


def join(key: str, mark: str, level: int, number: int) -> str:
    """Return the name of what is put together of some."""
    return f"{aside(key, mark)}.join-{level}-{number:05d}"


def part_number(name: str, aside: str) -> int | None:
    """Return the number of the part that has this name; None for any other object of the upload."""
    match = _PART.fullmatch(name.removeprefix(aside))
    return None if match is None else int(match.group(1))


def upload_id(mark: str) -> str:
    """Return the id of an upload."""
    return f"composed:{mark}"


def parse_id(text: str) -> str | None:
    """Return the mark that an id holds; None for an id of another kind."""
    match = _ID.fullmatch(text)
    return None if match is None else match.group(1)


def groups(items: Sequence[T], limit: int) -> list[Sequence[T]]:
    """Cut a sequence into groups of at most `limit`."""
    return [items[start : start + limit] for start in range(0, len(items), limit)]
