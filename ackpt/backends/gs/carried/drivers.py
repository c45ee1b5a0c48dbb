"""Which library a driver's name stands for, and the package that it needs."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from ackpt.backends.base import Backend
from ackpt.backends.gs.carried.backend import CarriedBackend
from ackpt.backends.gs.carried.carrier import Carrier
from ackpt.backends.gs.options import GSOptions
from ackpt.errors import InvalidOptionError, MissingDependencyError
from ackpt.url import StorageURL

_CARRIERS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "gcsfs": ("gcsfs", "GcsfsCarrier"),
        "google-cloud-storage": ("google_cloud_storage", "CloudStorageCarrier"),
    }
)


def open_carried(url: StorageURL, driver: str, options: GSOptions) -> Backend:
    """Make the backend on the library that `driver` names; imports it.

    Raises:
        MissingDependencyError: it is not installed.
        InvalidOptionError: an option that it cannot honour.
    """
    if options.upload is not None:
        raise InvalidOptionError(
            f"option 'upload': driver={driver} sends large objects in parts that the store composes; "
            "leave 'upload' away, or the driver"
        )
    module, name = _CARRIERS[driver]
    try:
        found = importlib.import_module(f"ackpt.backends.gs.carried.{module}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == __name__.partition(".")[0]:
            raise
        raise MissingDependencyError(
            f"gs://…?driver={driver} needs the package {error.name!r}, which is not installed; "
            f"run: pip install 'ackpt[{driver}]'"
        ) from error
    carrier: Callable[[str, GSOptions], Carrier] = getattr(found, name)
    return CarriedBackend(url.bucket, url.path, carrier(url.bucket, options))
