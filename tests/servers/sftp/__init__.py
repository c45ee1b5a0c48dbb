"""An SFTP server on a free port: asyncssh's, over a folder, in a thread with a loop of its own.

https://asyncssh.readthedocs.io/en/latest/#sftp-server. It is another implementation than the client
of fsspec, which is paramiko's.
"""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

import asyncssh

USER, PASSWORD = "trainer", "a password of the test's"
_WAIT_SECS = 30.0


class SFTPServer:
    """Be a running server; use it as a context manager."""

    port: int

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._connections: list[asyncssh.SSHServerConnection] = []
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sftp-server", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._started.wait(_WAIT_SECS):
            raise TimeoutError("the server did not start")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_WAIT_SECS)

    def stall_connections(self) -> None:
        """Read no more from any connection, and leave it open; new ones are served."""

        async def stall() -> None:
            for connection in self._connections:
                if connection._transport is not None:  # it is closed
                    connection._transport.pause_reading()

        asyncio.run_coroutine_threadsafe(stall(), self._loop).result(_WAIT_SECS)

    def drop_connections(self) -> None:
        """Break off all connections; new ones are taken."""

        async def drop() -> None:
            for connection in self._connections:
                connection.abort()
            await asyncio.gather(*(connection.wait_closed() for connection in self._connections))
            self._connections.clear()

        asyncio.run_coroutine_threadsafe(drop(), self._loop).result(_WAIT_SECS)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._main())
        finally:
            self._loop.close()

    async def _main(self) -> None:
        root = str(self._folder).encode()
        listener = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_factory=lambda: _OnePassword(self._connections),
            server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
            sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=root),
        )
        self.port = listener.get_port()
        self._started.set()
        await self._stop.wait()
        listener.close()
        await listener.wait_closed()
        for connection in self._connections:
            connection.abort()
        await asyncio.gather(*(connection.wait_closed() for connection in self._connections))


class _OnePassword(asyncssh.SSHServer):
    """Let in whoever knows the password."""

    def __init__(self, connections: list[asyncssh.SSHServerConnection]) -> None:
        self._connections = connections

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connections.append(conn)

    def begin_auth(self, username: str) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return (username, password) == (USER, PASSWORD)
