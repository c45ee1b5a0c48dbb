"""Where the demo saves to: a URL of the user's, or a local Google Cloud Storage server in a process."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_BUCKET = "demo"
_STOP_SECS = 10.0


def new_run(url: str) -> str:
    """Return a URL below `url`, with its options, where no run has been yet."""
    place, question, options = url.partition("?")
    return f"{place.rstrip('/')}/{uuid.uuid4().hex[:8]}{question}{options}"


@contextmanager
def gcs_server(folder: Path) -> Iterator[str]:
    """Serve a bucket from `folder` on a free port for a while; give the server's address."""
    command = [sys.executable, "-m", "tests.servers.gcs", "--bucket", _BUCKET, "--folder", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        address = process.stdout.readline().strip()
        if not address:
            raise RuntimeError(f"the storage server did not start: exit code {process.wait(_STOP_SECS)}")
        yield address
    finally:
        process.terminate()
        process.wait(_STOP_SECS)


def bucket_url() -> str:
    """Return the URL of the server's bucket."""
    return f"gs://{_BUCKET}"
