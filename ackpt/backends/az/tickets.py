"""Tickets: empty blobs that say which uploads are under way, since Azure itself keeps no record of them.

A ticket lies beside its key, as `<key>.ackpt-upload-<16 hex digits>`; the digits are the mark in the
ids of the upload's blocks. It is made before the first block, and deleted when the upload ends.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from ackpt.backends.az.blobs import Blobs
from ackpt.backends.base import UploadInfo
from ackpt.errors import NotFoundError, UnsupportedError

_MAX_NAME_CHARS: Final = 1024
"""https://learn.microsoft.com/rest/api/storageservices/naming-and-referencing-containers--blobs--and-metadata#blob-names"""

_INFIX: Final = ".ackpt-upload-"
_MARK: Final = re.compile(r"[0-9a-f]{16}")
_NAME: Final = re.compile(rf"(?s)(.+){re.escape(_INFIX)}([0-9a-f]{{16}})")


def split_ticket(key: str) -> tuple[str, str] | None:
    """Return the key and the mark that a ticket's name is made of, None for any other name."""
    match = _NAME.fullmatch(key)
    return None if match is None else (match.group(1), match.group(2))


class Tickets:
    """Make, find and delete the tickets of one container."""

    def __init__(self, blobs: Blobs, base: str) -> None:
        self._blobs = blobs
        self._base = base

    async def make(self, key: str, mark: str) -> None:
        """Make one.

        Raises:
            UnsupportedError: the key leaves no room for it.
        """
        room = _MAX_NAME_CHARS - len(_name("", mark))
        if len(self._base + key) > room:
            raise UnsupportedError(
                f"{key}: an upload's name may have {room} characters, this one has {len(self._base + key)}",
                key=key,
            )
        await self._blobs.put_empty(_name(key, mark))

    async def check(self, key: str, mark: str) -> None:
        """Look for one.

        Raises:
            NotFoundError: there is none: its upload has ended, or never began.
        """
        gone = NotFoundError(f"{key}: the upload was completed, aborted or has expired", key=key)
        if _MARK.fullmatch(mark) is None:
            raise gone
        try:
            await self._blobs.head(_name(key, mark))
        except NotFoundError as error:
            raise gone from error

    async def delete(self, key: str, mark: str) -> None:
        """Delete one; absent is success."""
        await self._blobs.delete(_name(key, mark))

    async def others(self, key: str, mark: str) -> bool:
        """Tell whether another upload to the same key is under way."""
        async with aclosing(self._blobs.list(_name(key, ""))) as infos:
            async for info in infos:
                if split_ticket(info.key) not in (None, (key, mark)):
                    return True
        return False

    async def list(self, prefix: str) -> AsyncGenerator[UploadInfo, None]:
        """Iterate over those to keys that begin with `prefix`."""
        async with aclosing(self._blobs.list(prefix)) as infos:
            async for info in infos:
                found = split_ticket(info.key)
                if found is not None and found[0].startswith(prefix):
                    yield UploadInfo(key=found[0], upload_id=found[1], created=info.modified)


def _name(key: str, mark: str) -> str:
    return f"{key}{_INFIX}{mark}"
