"""Amazon S3 and stores that speak its API, `s3://bucket/path`; needs the extra `ackpt[s3]`."""

from __future__ import annotations

from ackpt.errors import MissingDependencyError

try:
    from ackpt.backends.s3.backend import S3Backend
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] == __name__.partition(".")[0]:
        raise
    raise MissingDependencyError(
        f"s3:// needs the package {error.name!r}, which is not installed; run: pip install 'ackpt[s3]'"
    ) from error

__all__ = ["S3Backend"]
