"""An S3 server for tests, over a real socket, strict where the service is strict.

Written from Amazon's public documentation, which each behaviour cites. In a test:

    with S3Server() as server:
        server.create_bucket("bucket")
        backend = open_backend(f"s3://bucket/run?endpoint={server.url}")

with the environment's keys being `server.key`'s.
"""

from tests.servers.s3.runner import S3Server

__all__ = ["S3Server"]
