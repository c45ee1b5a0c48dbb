"""`fsspec+<protocol>://…`: whatever fsspec has a filesystem for, as far as it can promise anything."""

from __future__ import annotations

from ackpt.backends.fsspec.backend import FsspecBackend

__all__ = ["FsspecBackend"]
