"""Google Cloud Storage, `gs://bucket/path`, spoken over HTTP; needs the extra `ackpt[gs]`."""

from __future__ import annotations

from ackpt.errors import MissingDependencyError

try:
    from ackpt.backends.gs.backend import GSBackend
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] == __name__.partition(".")[0]:
        raise
    raise MissingDependencyError(
        f"gs:// needs the package {error.name!r}, which is not installed; run: pip install 'ackpt[gs]'"
    ) from error

__all__ = ["GSBackend"]
