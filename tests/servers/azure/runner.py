"""Run the server on a free port, in a thread with a loop of its own."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

from aiohttp import web

from tests.servers.azure.app import Action, AzureApp, Entry, Fault
from tests.servers.azure.records import Blob, Container

T = TypeVar("T")
_WAIT_SECS = 30.0


class AzureServer:
    """Be a running server; use it as a context manager. Its methods are called from any thread."""

    url: str
    """Where the account's Blob service is."""

    def __init__(self, account: str = "teststore") -> None:
        self.account = account
        self.app = AzureApp(account)
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="azure-server", daemon=True)

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

    @property
    def key(self) -> str:
        """Return the account's key."""
        return base64.b64encode(self.app.credentials.key).decode()

    def create_container(self, name: str, **fields: Any) -> str:
        """Make a container (`records.Container`), and return its name."""
        self.app.containers[name] = Container(name=name, **fields)
        return name

    def new_token(self, token: str, *, life: timedelta = timedelta(hours=1), read_only: bool = False) -> str:
        """Make a token known, and return it."""
        self.app.credentials.tokens[token] = datetime.now(UTC) + life
        if read_only:
            self.app.credentials.readers.add(token)
        return token

    def sas(self, permissions: str = "rwdlc", *, life: timedelta = timedelta(hours=1)) -> str:
        """Make a shared access signature for the account."""
        return self.app.credentials.account_sas(permissions, life)

    def fault(self, operation: str, action: Action, **fields: Any) -> None:
        """Line up a fault (`app.Fault`)."""
        self._call(lambda: self.app.faults.append(Fault(operation=operation, action=action, **fields)))

    def change(self, **features: Any) -> None:
        """Take features away, or give them back (`records.Features`)."""
        for name, value in features.items():
            assert hasattr(self.app.features, name), name
            setattr(self.app.features, name, value)

    def log(self, *operations: str) -> list[Entry]:
        """Return the requests so far, or those of some operations."""
        return self._call(
            lambda: [entry for entry in self.app.log if not operations or entry.operation in operations]
        )

    def clear_log(self) -> None:
        """Forget the requests so far."""
        self._call(self.app.log.clear)

    def blob(self, container: str, name: str) -> Blob:
        """Return a blob."""
        return self._call(lambda: self.app.containers[container].blobs[name])

    def put(self, container: str, name: str, blob: Blob) -> None:
        """Put a blob there, as another tool would."""
        self._call(lambda: self.app.containers[container].commit(name, blob))

    def names(self, container: str) -> list[str]:
        """Return the names of all blobs."""
        return self._call(lambda: sorted(self.app.containers[container].blobs))

    def staged(self, container: str) -> dict[str, int]:
        """Return how many blocks are staged, by name."""
        return self._call(
            lambda: {name: len(blocks) for name, blocks in self.app.containers[container].blocks.items()}
        )

    def stage(self, container: str, name: str, block: str, data: bytes) -> None:
        """Stage a block, as another tool would."""
        self._call(lambda: self.app.containers[container].blocks.setdefault(name, {}).update({block: data}))

    def _call(self, function: Callable[[], T]) -> T:
        async def run() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(_WAIT_SECS)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._main())
        finally:
            self._loop.close()

    async def _main(self) -> None:
        runner = web.AppRunner(self.app.application(), access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/{self.account}"
        self._started.set()
        await self._stop.wait()
        await runner.cleanup()
