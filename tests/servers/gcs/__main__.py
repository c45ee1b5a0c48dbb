"""Run the server as a command: `python -m tests.servers.gcs --port 0 --bucket demo`.

Prints its URL as the first line, and serves until it is told to end (SIGINT, SIGTERM).
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import tempfile
from pathlib import Path

from tests.servers.gcs.app import GCSApp
from tests.servers.gcs.runner import serve


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m tests.servers.gcs", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--folder", type=Path, help="keep everything here, also for a later start")
    parser.add_argument("--rate", type=float, help="bytes per second, of all bodies together")
    parser.add_argument("--most", type=int, help="answer 503 to more requests with bytes at a time")
    parser.add_argument("--bucket", action="append", default=[], help="make this bucket, if absent")
    parser.add_argument("--token", action="append", default=[], help="take only this bearer token")
    parser.add_argument("--no-xml", action="store_true", help="be an endpoint without the XML API")
    parser.add_argument("--verbose", action="store_true", help="log every request")
    options = parser.parse_args()
    logging.basicConfig(level=logging.DEBUG if options.verbose else logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="gcs-") as temporary:
        asyncio.run(_serve(options, options.folder or Path(temporary)))


async def _serve(options: argparse.Namespace, folder: Path) -> None:
    app = GCSApp(folder, rate=options.rate)
    app.most = options.most
    app.tokens = set(options.token) or None
    app.speaks_xml = not options.no_xml
    for name in options.bucket:
        if not app.catalog.has_bucket(name):
            app.catalog.create_bucket({"name": name})
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    runner, url = await serve(app, options.host, options.port)
    print(url, flush=True)
    await stop.wait()
    await runner.cleanup()


if __name__ == "__main__":
    main()
