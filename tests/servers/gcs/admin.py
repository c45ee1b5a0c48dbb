"""What tests do to the server behind its back, over HTTP, for when it runs in a process of its own.

| request | does |
|---|---|
| `POST /_admin/faults` (a fault, or a list of them; see `faults.py`) | lines faults up |
| `DELETE /_admin/faults` | forgets them |
| `GET /_admin/log`, `DELETE /_admin/log` | tells, or forgets, the requests so far |
| `GET /_admin/uploads` | tells what unfinished uploads there are |
| `POST /_admin/expire` | ends all unfinished uploads |
| `PUT /_admin/tokens` (a list, or null) | takes only these bearer tokens |
| `PUT /_admin/most` (a number, or null) | answers 503 to more requests with bytes at a time |
| `PUT /_admin/rate` (a number, or null) | limits the bytes per second |
| `PUT /_admin/clock` (a number) | has the server's clock so many seconds ahead of the machine's |
"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING

from aiohttp import web

from tests.servers.gcs.faults import Fault

if TYPE_CHECKING:
    from tests.servers.gcs.app import GCSApp


class Admin:
    """Answer `/_admin/…`."""

    def __init__(self, app: GCSApp) -> None:
        self._app = app

    async def handle(self, request: web.Request) -> web.Response:
        """Do one thing, and say how things are then."""
        app = self._app
        try:
            given = json.loads(await request.read() or b"null")
            match request.method, request.match_info["what"]:
                case "POST", "faults":
                    for each in given if isinstance(given, list) else [given]:
                        app.faults.add(Fault.of(each))
                case "DELETE", "faults":
                    app.faults.clear()
                case "GET", "log":
                    return web.json_response([asdict(entry) for entry in app.log])
                case "DELETE", "log":
                    app.log.clear()
                case "GET", "uploads":
                    return web.json_response(self.uploads())
                case "POST", "expire":
                    app.resumable.expire()
                    app.multipart.expire()
                    app.rewrites.expire()
                case "PUT", "tokens":
                    app.tokens = None if given is None else set(given)
                case "PUT", "most":
                    app.most = None if given is None else int(given)
                case "PUT", "rate":
                    app.pace.rate = None if given is None else float(given)
                case "PUT", "clock":
                    app.catalog.clock_ahead = timedelta(seconds=float(given))
                case _:
                    raise web.HTTPNotFound
        except (ValueError, TypeError, AttributeError) as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        return web.json_response({})

    def uploads(self) -> dict[str, list[str]]:
        """Return the names of the objects with unfinished uploads, by kind."""
        return {
            "multipart": self._app.multipart.open_uploads(),
            "resumable": self._app.resumable.open_sessions(),
        }
