"""Run the server on a free port, in a thread with a loop of its own."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from aiohttp import web

from tests.servers.gcs.app import Entry, GCSApp
from tests.servers.gcs.faults import Fault

T = TypeVar("T")
_WAIT_SECS = 30.0


async def serve(
    app: GCSApp, host: str, port: int, tls: ssl.SSLContext | None = None, *, keep_alive: bool = True
) -> tuple[web.AppRunner, str]:
    """Start to listen in the running loop; return what to clean up, and the URL.

    Without `keep_alive` every connection is closed after an answer, which says so.
    """
    application = app.application()
    if not keep_alive:
        application.on_response_prepare.append(_close)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, host, port, ssl_context=tls).start()
    scheme = "http" if tls is None else "https"
    return runner, f"{scheme}://{host}:{runner.addresses[0][1]}"


async def _close(request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Connection"] = "close"
    response.force_close()


class GCSServer:
    """Be a running server; use it as a context manager. Its methods are called from any thread."""

    url: str

    def __init__(
        self,
        folder: Path | None = None,
        *,
        rate: float | None = None,
        tls: ssl.SSLContext | None = None,
        keep_alive: bool = True,
    ) -> None:
        self._temporary = None if folder is not None else tempfile.TemporaryDirectory(prefix="gcs-")
        self._folder = folder if folder is not None else Path(self._temporary.name)  # type: ignore[union-attr]
        self._rate = rate
        self._tls = tls
        self._keep_alive = keep_alive
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gcs-server", daemon=True)

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
        if self._temporary is not None:
            self._temporary.cleanup()

    def create_bucket(self, name: str, **fields: Any) -> str:
        """Make a bucket with these fields of its resource, and return its name."""
        self._call(lambda: self._app.catalog.create_bucket({"name": name, **fields}))
        return name

    def fault(self, operation: str, action: str, **fields: Any) -> None:
        """Line up a fault (`faults.py`)."""
        fault = Fault.of({"operation": operation, "action": action, **fields})
        self._call(lambda: self._app.faults.add(fault))

    def log(self, operation: str = "*") -> list[Entry]:
        """Return the requests so far of one operation (a trailing `*` stands for anything)."""
        wanted = Fault(operation=operation, action="")
        return self._call(lambda: [entry for entry in self._app.log if wanted.matches(entry.operation)])

    def under_way(self, operation: str = "*") -> list[int]:
        """Return the bytes received so far by each request that is not answered yet."""
        wanted = Fault(operation=operation, action="")
        return self._call(
            lambda: [each.received for each in self._app.under_way if wanted.matches(each.operation)]
        )

    def clear_log(self) -> None:
        """Forget the requests so far."""
        self._call(lambda: self._app.log.clear())

    def reset(self) -> None:
        """Forget log and faults, take any request, know all APIs, keep no pace; objects stay."""

        def change() -> None:
            self._app.log.clear()
            self._app.faults.clear()
            self._app.tokens = None
            self._app.most = None
            self._app.speaks_xml = True
            self._app.speaks_batches = True
            self._app.pace.rate = self._rate

        self._call(change)

    def require(self, *tokens: str) -> None:
        """Take only these bearer tokens from now on; none: take any request."""

        def change() -> None:
            self._app.tokens = set(tokens) or None

        self._call(change)

    def take_at_most(self, most: int | None) -> None:
        """Answer 503 to more requests with objects' bytes at a time."""

        def change() -> None:
            self._app.most = most

        self._call(change)

    def speak_xml(self, on: bool) -> None:
        """Know the XML API, or be an endpoint that does not."""

        def change() -> None:
            self._app.speaks_xml = on

        self._call(change)

    def speak_batches(self, on: bool) -> None:
        """Know batches of requests, or be an endpoint that does not."""

        def change() -> None:
            self._app.speaks_batches = on

        self._call(change)

    @contextmanager
    def limited(self, rate: float) -> Iterator[None]:
        """Take only so many bytes per second for a while."""

        def change(value: float | None) -> None:
            self._app.pace.rate = value

        self._call(lambda: change(rate))
        try:
            yield
        finally:
            self._call(lambda: change(self._rate))

    def expire_uploads(self) -> int:
        """End all unfinished uploads; return how many there were."""
        return self._call(lambda: self._app.resumable.expire() + self._app.multipart.expire())

    def open_uploads(self, bucket: str) -> list[str]:
        """Return the names of a bucket's objects with an unfinished upload."""
        return self._call(
            lambda: self._app.multipart.open_uploads(bucket) + self._app.resumable.open_sessions(bucket)
        )

    def expire_rewrites(self) -> int:
        """Let all rewrite tokens be too old; return how many there were."""
        return self._call(lambda: self._app.rewrites.expire())

    def names(self, bucket: str) -> list[str]:
        """Return the names of all objects."""
        return self._call(lambda: list(self._app.catalog.names(bucket, "", "")))

    def resource(self, bucket: str, name: str) -> dict[str, Any]:
        """Return what the server keeps of an object's metadata."""
        return self._call(lambda: self._app.catalog.get(bucket, name).metadata)

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
        self._app = GCSApp(self._folder, rate=self._rate)
        runner, self.url = await serve(self._app, "127.0.0.1", 0, self._tls, keep_alive=self._keep_alive)
        self._started.set()
        await self._stop.wait()
        await runner.cleanup()
