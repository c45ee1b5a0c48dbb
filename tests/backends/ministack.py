"""The emulator ministack, run as a process on a free port: an independent server of S3's API."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Its own CRC-32C is a loop over the bytes, in Python: a minute for the conformance suite.
_MAIN = """
import crc32c
import ministack.services.s3 as s3
from ministack.app import main
s3._crc32c = crc32c.crc32c
main()
"""


@contextmanager
def running(home: Path) -> Iterator[str]:
    """Run the emulator, and give its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "SERVICES": "s3",
        "IOT_MTLS_ENABLED": "0",
        "HOME": str(home),
    }
    process = subprocess.Popen(
        [sys.executable, "-c", _MAIN], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 30
        while not _answers(url):
            assert process.poll() is None, "ministack ended"
            assert time.monotonic() < until, "ministack did not start"
            time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(10)


def make_bucket(url: str, name: str) -> None:
    """Make a bucket in the emulator."""
    urllib.request.urlopen(urllib.request.Request(f"{url}/{name}", method="PUT"), timeout=10).close()


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(f"{url}/", timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True
