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

from ackpt.backends.base import Backend
from ackpt.backends.gs.options import GSOptions
from ackpt.options import read_options
from ackpt.url import StorageURL


def open_gs(url: StorageURL) -> Backend:
    """Make the backend for a `gs://` URL, by the driver that it asks for.

    Raises:
        InvalidOptionError: an option is wrong, or the driver cannot honour it.
        MissingDependencyError: the driver's library is not installed.
    """
    options = read_options(GSOptions, url.options, where=str(url))
    if options.driver is None:
        return GSBackend(url.bucket, url.path, options)
    from ackpt.backends.gs.carried import open_carried

    return open_carried(url, options.driver, options)


__all__ = ["GSBackend", "open_gs"]
