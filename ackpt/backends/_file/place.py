"""Where an object's file is: keys as paths, checked so that no key leads out of the root; no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ackpt.errors import UnsupportedError

HOME: Final = ".ackpt-tmp"
"""The folder below the root for what is not an object yet; no key may name it, no listing shows it."""

PUT: Final = "put-"
"""How temporary files of puts begin."""

UPLOAD: Final = "upload-"
"""How folders of uploads begin."""

JOURNAL: Final = "journal"
"""The file of an upload's folder that makes it an upload."""


@dataclass(frozen=True, slots=True)
class Place:
    """Name a file below the root: the folders that lead to it, and its own name."""

    folders: tuple[str, ...]
    name: str

    @classmethod
    def of(cls, key: str) -> Place:
        """Take a key apart.

        Raises:
            UnsupportedError: it is empty or absolute, has an empty segment, `.`, `..` or the name of
                our own folder in it, or cannot be a file's name at all.
        """
        segments = key.split("/")
        for segment in segments:
            if segment in ("", ".", "..", HOME):
                raise UnsupportedError(
                    f"key {key!r} cannot be a file: {segment!r} between slashes; expected names as in 'a/b'",
                    key=key,
                )
        if not is_name(key):
            raise UnsupportedError(
                f"key {key!r} cannot be a file: it has a NUL, or is not valid text", key=key
            )
        return cls(tuple(segments[:-1]), segments[-1])


def is_name(text: str) -> bool:
    """Tell whether a text can be a key: no NUL, and valid UTF-8 (no lone surrogates)."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False
