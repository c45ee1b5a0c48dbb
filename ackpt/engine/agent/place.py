"""Where a trainer and its uploader process meet: a socket in the staging folder, for its owner alone."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

NAME = "agent.sock"

_CREDENTIALS = struct.Struct("3i")
"""`struct ucred`: pid, uid, gid (https://man7.org/linux/man-pages/man7/unix.7.html, SO_PEERCRED)."""


def listen(folder: Path) -> socket.socket:
    """Listen in `folder` (mode 0700), in the place of a process that died; who listens holds its lock.

    Raises:
        OSError: the folder is not on a file system with sockets.
    """
    (folder / NAME).unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX)
    try:
        with _short(folder) as address:
            listening.bind(address)
        (folder / NAME).chmod(0o600)
        listening.listen()
    except BaseException:
        listening.close()
        raise
    return listening


def connect(folder: Path) -> socket.socket | None:
    """Connect to who listens in `folder`; None where nobody does, or somebody else's process."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        with _short(folder) as address:
            connection.connect(address)
        if is_own(connection):
            return connection
    except OSError:  # no socket, or one that nobody listens at
        pass
    except BaseException:
        connection.close()
        raise
    connection.close()
    return None


def is_own(connection: socket.socket) -> bool:
    """Tell whether a process of this user is at the other end."""
    return _credentials(connection)[1] == os.geteuid()


def pid_of(connection: socket.socket) -> int:
    """Return the process at the other end; 0 where it is not to be seen from here."""
    return _credentials(connection)[0]


def _credentials(connection: socket.socket) -> tuple[int, int, int]:
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(raw)
    return pid, uid, gid


@contextmanager
def _short(folder: Path) -> Generator[str, None, None]:
    """Name the socket by a path that fits into an address, which holds 107 bytes (unix(7), sun_path)."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{NAME}"
    finally:
        os.close(fd)
