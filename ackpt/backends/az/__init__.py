"""Azure Blob Storage, `az://container/path`, spoken over HTTP; needs the extra `ackpt[az]`."""

from __future__ import annotations

from ackpt.errors import MissingDependencyError

try:
    from ackpt.backends.az.backend import AzBackend
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] == __name__.partition(".")[0]:
        raise
    raise MissingDependencyError(
        f"az:// needs the package {error.name!r}, which is not installed; run: pip install 'ackpt[az]'"
    ) from error

__all__ = ["AzBackend"]
