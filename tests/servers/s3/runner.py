"""Run the server on a free port, in a thread with a loop of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar

from aiohttp import web

from tests.servers.s3.app import Entry, S3App
from tests.servers.s3.faults import Action, Fault
from tests.servers.s3.records import Bucket, Key, Stored

T = TypeVar("T")
_WAIT_SECS = 30.0


class S3Server:
    """Be a running server; use it as a context manager. Its methods are called from any thread."""

    url: str

    def __init__(self, region: str = "us-east-1") -> None:
        self.app = S3App(region)
        self.key = self.new_key()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="s3-server", daemon=True)

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

    def create_bucket(self, name: str, **fields: Any) -> str:
        """Make a bucket (`records.Bucket`), and return its name."""
        self.app.buckets[name] = Bucket(name=name, **{"region": self.app.region, **fields})
        return name

    def new_key(self, **fields: Any) -> Key:
        """Make an access key (`Key.new`) that is known here."""
        key = Key.new(**fields)
        self.app.keys[key.access_key] = key
        return key

    def fault(self, operation: str, action: Action, **fields: Any) -> None:
        """Line up a fault (`faults.py`)."""
        fault = Fault(operation=operation, action=action, **fields)
        self._call(lambda: self.app.faults.add(fault))

    def change(self, **features: Any) -> None:
        """Take features away, or give them back (`features.py`)."""

        def change() -> None:
            for name, value in features.items():
                assert hasattr(self.app.features, name), name
                setattr(self.app.features, name, value)

        self._call(change)

    def log(self, *operations: str) -> list[Entry]:
        """Return the requests so far, or those of some operations."""
        return self._call(
            lambda: [entry for entry in self.app.log if not operations or entry.operation in operations]
        )

    def clear_log(self) -> None:
        """Forget the requests so far."""
        self._call(self.app.log.clear)

    def stored(self, bucket: str, name: str) -> Stored:
        """Return an object."""
        return self._call(lambda: self.app.buckets[bucket].objects[name])

    def names(self, bucket: str) -> list[str]:
        """Return the names of all objects."""
        return self._call(lambda: sorted(self.app.buckets[bucket].objects))

    def open_uploads(self, bucket: str) -> list[str]:
        """Return the names of objects with an unfinished upload."""
        return self._call(lambda: sorted(upload.name for upload in self.app.buckets[bucket].uploads.values()))

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
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._started.set()
        await self._stop.wait()
        await runner.cleanup()
