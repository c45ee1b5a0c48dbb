"""A disk that can lose power: it follows the files below a folder, and forgets what was not synced."""

from __future__ import annotations

import builtins
import copy
import io
import itertools
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests.crash.machine import Machine

_WRITING = frozenset("wax+")


class Disk:
    """Watch everything that changes files below `root`, on one thread.

    Each operation passes two moments, one before its effect and one after it; a write has a third,
    with half of it done. A file's bytes are durable when it was synced, its name when its folder
    was: that is all POSIX promises, and `lose` and `hollow` leave no more than that. Nothing is
    really synced while it is watched.
    """

    def __init__(self, root: Path, machine: Machine) -> None:
        self.root = Path(os.path.realpath(root))
        self.root.mkdir(exist_ok=True)
        self._machine = machine
        self._base = f"{self.root}/"
        self._ids = itertools.count(1)
        self._live: dict[str, int] = {str(self.root): 0}
        self._contents: dict[int, bytes] = {}
        self._names: dict[int, dict[str, int]] = {0: {}}
        self._open: dict[int, str] = {}

    def lose(self) -> bool:
        """Lose power: only what was synced is still there; tell whether anything was not."""
        before = self._tree()
        self._live = {str(self.root): 0, **dict(self._durable(str(self.root), 0))}
        after = {p: None if n in self._names else self._contents.get(n, b"") for p, n in self._live.items()}
        self._write(after)
        return after != before

    def hollow(self) -> bool:
        """Lose power when all names and sizes were on the disk, and of the bytes only what was synced."""
        before = self._tree()
        after = dict(before)
        for place, data in before.items():
            if data is not None:
                synced = self._contents.get(self._live[place], b"")[: len(data)]
                after[place] = synced + bytes(len(data) - len(synced))
        self._write(after)
        return after != before

    def keep(self) -> Callable[[], None]:
        """Return what makes the disk again what it is now, as often as it is called."""
        live, contents, names = dict(self._live), dict(self._contents), copy.deepcopy(self._names)
        tree = self._tree()

        def bring_back() -> None:
            self._live, self._contents, self._names = dict(live), dict(contents), copy.deepcopy(names)
            self._write(tree)

        return bring_back

    def _tree(self) -> dict[str, bytes | None]:
        """Return the bytes of every file, and None for every folder, by place."""
        return {p: None if n in self._names else Path(p).read_bytes() for p, n in self._live.items()}

    def _write(self, tree: Mapping[str, bytes | None]) -> None:
        shutil.rmtree(self.root)
        for place in sorted(tree):
            data = tree[place]
            if data is None:
                os.mkdir(place, 0o700)
            else:
                Path(place).write_bytes(data)

    def reap(self) -> None:
        """Close what the process that ended had open here, as the kernel does."""
        for fd, place in self._open.items():
            try:
                if os.readlink(f"/proc/self/fd/{fd}").removesuffix(" (deleted)") == place:
                    os.close(fd)
            except FileNotFoundError:
                continue  # the process closed it
        self._open.clear()

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Follow what happens inside."""
        calls = {
            "open": self._os_open,
            "write": self._os_write,
            "ftruncate": self._os_ftruncate,
            "fsync": self._os_fsync,
            "mkdir": self._os_mkdir,
            "unlink": self._os_unlink,
            "rmdir": self._os_rmdir,
        }
        self._real = {name: getattr(os, name) for name in calls}
        with patch.multiple(os, **calls), patch.object(io, "open", self._io_open):
            yield

    def _os_open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        place = self._below(path, dir_fd)
        if place is None:
            fd: int = self._real["open"](path, flags, mode, dir_fd=dir_fd)
            return fd
        if not flags & os.O_CREAT or place in self._live:
            fd = self._real["open"](path, flags, mode, dir_fd=dir_fd)
            self._open[fd] = place
            return fd
        with self._moments("create", place):
            fd = self._real["open"](path, flags, mode, dir_fd=dir_fd)
            self._open[fd] = place
            self._live[place] = next(self._ids)
        return fd

    def _io_open(self, file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        place = self._below(file, None) if _WRITING & set(mode) and not isinstance(file, int) else None
        if place is None:
            return builtins.open(file, mode, *args, **kwargs)
        with ExitStack() as on_death:
            with self._moments("create", place):
                opened = on_death.enter_context(builtins.open(file, mode, *args, **kwargs))
                self._live.setdefault(place, next(self._ids))
            on_death.pop_all()
        return opened

    def _os_write(self, fd: int, data: Any) -> int:
        place = self._of(fd)
        if place is None:
            written: int = self._real["write"](fd, data)
            return written
        half = len(data) // 2
        with self._moments("write", place):
            written = self._real["write"](fd, data[:half])
            self._machine.moment(f"half of write {place}", changed="disk")
            written += self._real["write"](fd, data[half:])
        return written

    def _os_ftruncate(self, fd: int, length: int) -> None:
        place = self._of(fd)
        if place is None or os.fstat(fd).st_size == length:
            self._real["ftruncate"](fd, length)
            return
        with self._moments("truncate", place):
            self._real["ftruncate"](fd, length)

    def _os_fsync(self, fd: int) -> None:
        place = self._of(fd)
        if place is None:
            return
        with self._moments("sync", place):
            number = self._live[place]
            if number in self._names:
                children = ((os.path.split(path), child) for path, child in self._live.items())
                self._names[number] = {name: child for (folder, name), child in children if folder == place}
            else:
                self._contents[number] = Path(place).read_bytes()

    def _os_mkdir(self, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        place = self._below(path, dir_fd)
        if place is None or place in self._live:
            self._real["mkdir"](path, mode, dir_fd=dir_fd)
            return
        with self._moments("mkdir", place):
            self._real["mkdir"](path, mode, dir_fd=dir_fd)
            number = self._live[place] = next(self._ids)
            self._names[number] = {}

    def _os_unlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        self._remove("unlink", path, dir_fd)

    def _os_rmdir(self, path: Any, *, dir_fd: int | None = None) -> None:
        self._remove("rmdir", path, dir_fd)

    def _remove(self, operation: str, path: Any, dir_fd: int | None) -> None:
        place = self._below(path, dir_fd)
        if place is None or place not in self._live:
            self._real[operation](path, dir_fd=dir_fd)
            return
        with self._moments(operation, place):
            self._real[operation](path, dir_fd=dir_fd)
            del self._live[place]

    @contextmanager
    def _moments(self, operation: str, place: str) -> Iterator[None]:
        self._machine.moment(f"before {operation} {place}")
        yield
        changed = "durable" if operation == "sync" else "disk"
        self._machine.moment(f"after {operation} {place}", changed=changed)

    def _below(self, path: Any, dir_fd: int | None) -> str | None:
        folder = os.getcwd() if dir_fd is None else os.readlink(f"/proc/self/fd/{dir_fd}")
        place = os.path.normpath(os.path.join(folder, os.fspath(path)))
        return place if place.startswith(self._base) else None

    def _of(self, fd: int) -> str | None:
        place = os.readlink(f"/proc/self/fd/{fd}")
        return place if place in self._live else None

    def _durable(self, folder: str, number: int) -> Iterator[tuple[str, int]]:
        for name, child in self._names[number].items():
            place = f"{folder}/{name}"
            yield place, child
            if child in self._names:
                yield from self._durable(place, child)
