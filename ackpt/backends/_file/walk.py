"""The listing of objects below the root, as a generator that blocks."""

from __future__ import annotations

import os
from collections.abc import Generator

from ackpt.backends._file.place import HOME, is_name
from ackpt.backends._file.stamp import describe, kept_crc32c
from ackpt.backends.base import ObjectInfo


def walk(root: str, prefix: str) -> Generator[ObjectInfo, None, None]:
    """Describe the regular files below `root` whose key starts with `prefix`, folder by folder.

    Symbolic links, other kinds of files, names that are not valid text, and what vanishes meanwhile
    are passed over; folders that cannot lead to a match are not opened.

    Raises:
        OSError: a folder cannot be read.
    """
    pending = [(root, "")]
    while pending:
        folder, above = pending.pop()
        try:
            entries = os.scandir(folder)
        except FileNotFoundError:
            continue
        except NotADirectoryError:
            if folder == root:
                raise
            continue
        with entries:
            for entry in entries:
                key = above + entry.name
                if entry.name == HOME or not is_name(key):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    if _may_match(key + "/", prefix):
                        pending.append((entry.path, key + "/"))
                elif key.startswith(prefix) and entry.is_file(follow_symlinks=False):
                    info = _describe(key, entry)
                    if info is not None:
                        yield info


def _may_match(folder: str, prefix: str) -> bool:
    return folder.startswith(prefix) or prefix.startswith(folder)


def _describe(key: str, entry: os.DirEntry[str]) -> ObjectInfo | None:
    try:
        status = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
    return describe(key, status, kept_crc32c(entry.path, status))
