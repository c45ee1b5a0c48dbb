"""The `gs://` backend carried by a library of others: `?driver=google-cloud-storage`, `?driver=gcsfs`."""

from __future__ import annotations

from ackpt.backends.gs.carried.drivers import open_carried

__all__ = ["open_carried"]
