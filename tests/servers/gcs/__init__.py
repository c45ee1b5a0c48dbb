"""A Google Cloud Storage server for tests, over a real socket, strict where the service is strict.

Written from Google's public documentation, which each behaviour cites. In a test:

    with GCSServer() as server:
        server.create_bucket("bucket")
        backend = GSBackend.from_url(StorageURL.parse(f"gs://bucket/run?endpoint={server.url}"))

As a process: `python -m tests.servers.gcs --bucket demo --folder /tmp/store` prints its URL.
"""

from tests.servers.gcs.runner import GCSServer

__all__ = ["GCSServer"]
