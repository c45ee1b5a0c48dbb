"""The root folder: temporary files in it, objects published from them durably, and looked up. Blocking."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Final

from ackpt.backends._file.locks import locked, try_lock, unlock
from ackpt.backends._file.place import HOME, PUT, Place
from ackpt.backends._file.request import Request
from ackpt.backends._file.stamp import describe, stamp
from ackpt.backends._file.sweep import remove, sweep
from ackpt.backends.base import Condition, IfAbsent, ObjectInfo, check_condition
from ackpt.errors import (
    AlreadyExistsError,
    BucketNotFoundError,
    PermissionDeniedError,
    StorageError,
    UnsupportedError,
)

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK})
_NO_FSYNC: Final = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})


class Root:
    """Be the root folder; made, with the folders that lead to it, by the first write.

    Folders below it are walked with descriptors and without following symbolic links, so nothing
    leads out of it, even when somebody swaps a folder for a link meanwhile.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.home = os.path.join(path, HOME)
        self._swept = False

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock of all writers below this root, of this process and others on this host."""
        with locked(os.path.join(self.home, "lock"), self.path):
            yield

    # Temporary files

    def temporary(self, stack: ExitStack) -> tuple[int, str]:
        """Open a new file in our own folder; `stack` closes it and removes what is left of its name.

        It is locked while its writer lives, so that `sweep`, called once, can tell those of processes
        that were killed.
        """
        while True:
            path = os.path.join(self.home, PUT + secrets.token_hex(8))
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            try:
                descriptor = os.open(path, flags, 0o666)
            except (FileNotFoundError, NotADirectoryError):
                self.make_home()
                descriptor = os.open(path, flags, 0o666)
            stack.callback(os.close, descriptor)
            stack.callback(remove, path)
            # A sweep may come between the opening and the locking.
            if try_lock(descriptor) and os.fstat(descriptor).st_nlink:
                stack.callback(unlock, descriptor)
                break
        if not self._swept:
            self._swept = True
            sweep(self.home)
        return descriptor, path

    def make_home(self) -> None:
        """Make our own folder, the root and what leads to it, durably.

        Raises:
            BucketNotFoundError: the root, or something that leads to it, is a file.
        """
        try:
            _make_folders(self.home)
        except (FileExistsError, NotADirectoryError) as error:
            raise self.no_folder() from error

    def no_folder(self) -> BucketNotFoundError:
        """Make the error of a root that is a file."""
        return BucketNotFoundError(
            f"{self.path}: it, or something on the way to it, is not a folder; "
            "expected a folder, or a path where one can be made"
        )

    # Objects

    def publish(
        self,
        request: Request,
        descriptor: int,
        path: str,
        key: str,
        crc32c: int,
        condition: Condition | None,
    ) -> ObjectInfo:
        """Make the finished file at `path`, open as `descriptor`, the object `key`, durably.

        Bytes, time and checksum are on the disk before the name is, and the name before this
        returns (fsync of the file, rename, fsync of the folders). Conditions are checked under the
        lock that every writer takes. A request that has been given up meanwhile is not published.

        Raises:
            AlreadyExistsError, ConditionFailedError: `condition` does not hold; nothing changed.
            UnsupportedError: the key is a folder, or leads through an object.
            OSError: as the system says; nothing changed.
        """
        place = Place.of(key)
        stamp(descriptor, crc32c)
        os.fsync(descriptor)
        with ExitStack() as stack:
            with self.lock():
                self.check(key, condition)
                if request.given_up:
                    raise StorageError(f"{key}: the request was cancelled", key=key)
                folders = self._walk(stack, key, place, make=True)
                self._rename(path, key, place, folders[-1], condition)
                status = os.fstat(descriptor)
            for folder in reversed(folders):
                _fsync_folder(folder)
        return describe(key, status, crc32c)

    def check(self, key: str, condition: Condition | None) -> None:
        """Check a condition, and that a file can be there at all.

        Raises:
            AlreadyExistsError, ConditionFailedError: `condition` does not hold.
            UnsupportedError: the key is a folder.
        """
        found = self.status(key)
        if found is not None and stat.S_ISDIR(found.st_mode):
            raise UnsupportedError(f"key {key!r} cannot be a file: there is a folder of that name", key=key)
        version = None if found is None else describe(key, found, None).version
        check_condition(condition, key, version)

    def status(self, key: str) -> os.stat_result | None:
        """Look a key up; None where there is nothing. Symbolic links are not followed."""
        place = Place.of(key)
        with ExitStack() as stack:
            try:
                folders = self._walk(stack, key, place)
                return os.stat(place.name, dir_fd=folders[-1], follow_symlinks=False)
            except FileNotFoundError:
                return None

    def open(self, stack: ExitStack, key: str) -> int | None:
        """Open an object for reading, to be closed by `stack`; None where there is none.

        Raises:
            PermissionDeniedError: it, or a folder on the way, is a symbolic link.
        """
        place = Place.of(key)
        # Not blocking: opening a pipe that somebody left there would wait for its other end.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        with ExitStack() as walk:
            try:
                folders = self._walk(walk, key, place)
                descriptor = os.open(place.name, flags, dir_fd=folders[-1])
            except (FileNotFoundError, UnsupportedError):
                return None
        stack.callback(os.close, descriptor)
        return descriptor if stat.S_ISREG(os.fstat(descriptor).st_mode) else None

    def remove(self, key: str) -> None:
        """Delete an object, and the folders on the way that this leaves empty; absent is success."""
        place = Place.of(key)
        if not os.path.lexists(self.path):
            return
        with ExitStack() as stack:
            self.make_home()
            with self.lock():
                try:
                    folders = self._walk(stack, key, place)
                    found = os.stat(place.name, dir_fd=folders[-1], follow_symlinks=False)
                    if stat.S_ISDIR(found.st_mode):
                        return
                    os.unlink(place.name, dir_fd=folders[-1])
                except (FileNotFoundError, UnsupportedError):
                    return
                left = self._prune(place, folders)
            _fsync_folder(left)

    def _prune(self, place: Place, folders: list[int]) -> int:
        """Remove the folders that are empty now, from the deepest up; return the first that is left."""
        for depth in range(len(place.folders), 0, -1):
            try:
                os.rmdir(place.folders[depth - 1], dir_fd=folders[depth - 1])
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY, errno.EACCES, errno.EPERM):
                    raise
                return folders[depth]
        return folders[0]

    def _walk(self, stack: ExitStack, key: str, place: Place, *, make: bool = False) -> list[int]:
        """Open the root and the folders that lead to a place, the root first; `stack` closes them.

        Raises:
            FileNotFoundError: one is not there, and `make` is off.
            UnsupportedError: one is an object.
            PermissionDeniedError: one is a symbolic link.
            BucketNotFoundError: the root is a file.
        """
        try:
            folders = [os.open(self.path, _FOLDER)]
        except NotADirectoryError as error:
            raise self.no_folder() from error
        stack.callback(os.close, folders[0])
        for name in place.folders:
            above = folders[-1]
            if make:
                with suppress(FileExistsError):
                    os.mkdir(name, dir_fd=above)
            try:
                folder = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=above)
            except NotADirectoryError as error:
                if stat.S_ISLNK(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode):
                    raise PermissionDeniedError(
                        f"key {key!r} leads through the symbolic link {name!r}, which is not followed",
                        key=key,
                    ) from error
                raise UnsupportedError(
                    f"key {key!r} cannot be a file: {name!r} is one already, not a folder", key=key
                ) from error
            stack.callback(os.close, folder)
            folders.append(folder)
        return folders

    def _rename(self, path: str, key: str, place: Place, folder: int, condition: Condition | None) -> None:
        if isinstance(condition, IfAbsent):
            try:
                # Fails where there is a file, also one that somebody made without our lock.
                os.link(path, place.name, dst_dir_fd=folder, follow_symlinks=False)
            except FileExistsError as error:
                raise AlreadyExistsError(f"{key}: expected no object, found one", key=key) from error
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                # A file system without hard links: our own lock has to do.
            else:
                os.unlink(path)
                return
        os.rename(path, place.name, dst_dir_fd=folder)


def _make_folders(path: str) -> None:
    """Make a folder and what leads to it; those made are durable when this returns."""
    try:
        os.mkdir(path)
    except FileExistsError:
        if not os.path.isdir(path):
            raise
        return
    except FileNotFoundError:
        _make_folders(os.path.dirname(path))
        with suppress(FileExistsError):
            os.mkdir(path)
    above = os.open(os.path.dirname(path), _FOLDER)
    try:
        _fsync_folder(above)
    finally:
        os.close(above)


def _fsync_folder(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network and FUSE file systems have no fsync for folders; they order names themselves.
        if error.errno not in _NO_FSYNC:
            raise
