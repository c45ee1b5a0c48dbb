"""A Google Cloud Storage server in a process of its own, behind a link of a limited rate."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUCKET = "bench"


@contextmanager
def server(rate_bytes: int | None, *, most: int | None = None) -> Iterator[str]:
    """Run one, its objects in memory where there is such a filesystem, and give its endpoint.

    It answers 503 to more than `most` requests with bytes at a time.
    """
    where = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(prefix="ackpt-link-", dir=where) as folder:
        rate = [] if rate_bytes is None else ["--rate", str(rate_bytes)]
        rate += [] if most is None else ["--most", str(most)]
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.servers.gcs", "--bucket", BUCKET, "--folder", folder, *rate],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()
            process.communicate(timeout=30)


def run_url(endpoint: str, path: str) -> str:
    """Name a run on the server whose endpoint is given."""
    return f"gs://{BUCKET}/{path}?endpoint={endpoint}&anonymous=true"
