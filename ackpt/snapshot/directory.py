"""A snapshot of files on the local disk: any framework's checkpoint, as it wrote it."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ackpt.checkpoint.manifest import read_step
from ackpt.checkpoint.staged import StagedFile
from ackpt.errors import SnapshotError, StorageFullError
from ackpt.snapshot.base import Snapshot

Source = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    name: str
    size: int
    mtime_ns: int


class DirectorySnapshot(Snapshot):
    """Hold the names, sizes and times of the files of a folder, or of a list of files.

    Made in any thread; reads no contents. The files must stay as they are until they have been
    staged: a change in the meantime is noticed by size or modification time, and fails the save.
    """

    def __init__(self, source: Source, *, step: int) -> None:
        """Take note of the files of `source`: a folder (with all below it), a file, or several files.

        Raises:
            InvalidOptionError: `step` is no whole number from 0 up.
            SnapshotError: nothing there, no files in it, two files of one name, or something that is
                neither a file nor a folder (a link, a socket).
        """
        self.step = read_step(step)
        self._files = _list_files(source, self.step)

    def stage(self, folder: Path, prefix: str) -> Iterator[StagedFile]:
        """Copy the files to `folder/prefix/…`, in order of their names."""
        for file in self._files:
            key = f"{prefix}/{file.name}"
            path = folder / key
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file.path, path, follow_symlinks=False)
                after = file.path.lstat()
            except OSError as error:
                raise self._translate(error, file) from error
            if (after.st_size, after.st_mtime_ns) != (file.size, file.mtime_ns):
                raise SnapshotError(
                    f"{file.path} changed while step {self.step} was being staged "
                    f"(expected {file.size} bytes of the time of the save); leave the files as they are "
                    "until the save is staged",
                    step=self.step,
                )
            yield StagedFile(key=key, path=path, size=file.size)

    def release(self) -> None:
        """Let go of nothing: the files are the caller's."""

    def _translate(self, error: OSError, file: _File) -> Exception:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return StorageFullError(
                f"no room left to stage step {self.step} (at {file.name}, {file.size} bytes); "
                "make room in the staging folder or choose another with staging_dir"
            )
        return SnapshotError(
            f"{file.path} could not be staged for step {self.step}: {error.strerror}", step=self.step
        )


def _list_files(source: Source, step: int) -> list[_File]:
    sources = [source] if isinstance(source, str | os.PathLike) else list(source)
    found: dict[str, _File] = {}
    for each in sources:
        root = Path(each)
        below = sorted(_walk(root, step)) if root.is_dir() else [root]
        for path in below:
            name = path.relative_to(root).as_posix() if path != root else root.name
            if name in found:
                raise SnapshotError(
                    f"step {step} has two files called {name!r}: {found[name].path} and {path}; "
                    "expected each name once",
                    step=step,
                )
            found[name] = _describe(path, name, step)
    if not found:
        raise SnapshotError(
            f"no files to save for step {step} in {source!r}; expected at least one", step=step
        )
    return [found[name] for name in sorted(found)]


def _walk(root: Path, step: int) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        raise SnapshotError(
            f"{error.filename} cannot be read for step {step}: {error.strerror}", step=step
        ) from error

    for folder, folders, names in os.walk(root, onerror=fail):
        yield from (Path(folder, name) for name in names)
        # os.walk lists links to folders and does not enter them: make them show up, and be refused
        yield from (Path(folder, name) for name in folders if Path(folder, name).is_symlink())


def _describe(path: Path, name: str, step: int) -> _File:
    try:
        stat = path.lstat()
    except OSError as error:
        raise SnapshotError(
            f"{path} cannot be saved as part of step {step}: {error.strerror}", step=step
        ) from error
    if not os.path.isfile(path) or os.path.islink(path):
        raise SnapshotError(f"{path} is not a plain file; step {step} can hold plain files only", step=step)
    return _File(path, name, stat.st_size, stat.st_mtime_ns)
