"""Which backend a URL's scheme names: built in, registered by a call, or by an entry point."""

from __future__ import annotations

import difflib
import importlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from ackpt.backends.base import Backend
from ackpt.errors import MissingDependencyError, UnknownSchemeError
from ackpt.options import TransferOptions, option_names, read_options
from ackpt.url import StorageURL

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints

GROUP = "ackpt.backends"
"""The entry-point group: the name is a scheme, the value a `Backend` class or a factory."""

Factory = Callable[[StorageURL], Backend]

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class _BuiltIn:
    """Say where a backend of ours, or what makes one, is; imported when its scheme is first used."""

    module: str
    name: str
    extra: str | None = None

    def load(self, scheme: str) -> Factory:
        try:
            found: object = getattr(importlib.import_module(self.module), self.name)
        except ModuleNotFoundError as error:
            missing = error.name or ""
            if self.extra is None or missing.partition(".")[0] == __name__.partition(".")[0]:
                raise
            raise MissingDependencyError(
                f"{scheme}:// needs the package {missing!r}, which is not installed; "
                f"run: pip install 'ackpt[{self.extra}]'"
            ) from error
        return _factory_of(found)


_BUILT_IN: Mapping[str, _BuiltIn] = MappingProxyType(
    {
        "az": _BuiltIn(module="ackpt.backends.az", name="AzBackend", extra="az"),
        "file": _BuiltIn(module="ackpt.backends.file", name="FileBackend"),
        "fsspec+": _BuiltIn(module="ackpt.backends.fsspec", name="FsspecBackend", extra="fsspec"),
        "gs": _BuiltIn(module="ackpt.backends.gs", name="open_gs", extra="gs"),
        "memory": _BuiltIn(module="ackpt.backends.memory", name="MemoryBackend"),
        "s3": _BuiltIn(module="ackpt.backends.s3", name="S3Backend", extra="s3"),
    }
)

# The one thing here that changes: what a program registers is meant for the whole process, so that
# a URL means the same to a hook, a callback and a command. Only `register_backend` writes to it.
_registered: dict[str, Factory] = {}


def register_backend(scheme: str, factory: type[Backend] | Factory) -> None:
    """Make URLs of `scheme` open what `factory` makes of them, in this process.

    `factory` is a `Backend` class (its `from_url` is called) or a callable that takes the
    `StorageURL`, without the transfer options. A scheme that ends in `+` stands for a family:
    `fsspec+` takes `fsspec+sftp://…` and all others that begin so. Registering the same factory
    again does nothing.

    Raises:
        ValueError: `scheme` is malformed, or is taken already.
        TypeError: `factory` is not a `Backend` class and cannot be called either.
    """
    if _SCHEME.fullmatch(scheme) is None:
        raise ValueError(
            f"scheme {scheme!r}: expected lower-case letters, digits, '+', '-' and '.', a letter first"
        )
    make = _factory_of(factory)
    if scheme in _BUILT_IN or _registered.get(scheme, make) != make:
        raise ValueError(f"scheme {scheme!r} is taken already; choose another")
    _registered[scheme] = make


def known_schemes() -> tuple[str, ...]:
    """Return the schemes that can be opened, in alphabetical order; installed plug-ins are not loaded."""
    return tuple(sorted({*_BUILT_IN, *_registered, *_plug_ins().names}))


def open_backend(url: str | os.PathLike[str] | StorageURL) -> Backend:
    """Make the backend that `url` names, without any I/O.

    Raises:
        InvalidURLError: the URL cannot be understood.
        UnknownSchemeError: no backend is known for its scheme.
        InvalidOptionError: an option that is unknown, or whose value is out of range.
        MissingDependencyError: the backend needs a package that is not installed.
    """
    return open_target(url)[0]


def open_target(url: str | os.PathLike[str] | StorageURL) -> tuple[Backend, TransferOptions]:
    """Make the backend that `url` names, and read how bytes are to travel; raises as `open_backend`."""
    place, options = split_options(url)
    backend: object = _find(place)(place)
    if not isinstance(backend, Backend):
        raise TypeError(
            f"the factory of scheme {place.scheme!r} made a {type(backend).__name__}, not a Backend"
        )
    return backend, options


def split_options(url: str | os.PathLike[str] | StorageURL) -> tuple[StorageURL, TransferOptions]:
    """Take the transfer options out of a URL, and leave the backend's own.

    Raises:
        InvalidURLError: the URL cannot be understood.
        InvalidOptionError: a transfer option has a value out of range.
    """
    place = url if isinstance(url, StorageURL) else StorageURL.parse(url)
    ours = option_names(TransferOptions)
    taken = {name: value for name, value in place.options.items() if name in ours}
    left = {name: value for name, value in place.options.items() if name not in ours}
    options = read_options(TransferOptions, taken, where=str(place))
    return replace(place, options=MappingProxyType(left)), options


def _find(url: StorageURL) -> Factory:
    """Return the factory for the scheme, or for the family that it belongs to."""
    family, plus, _ = url.scheme.partition("+")
    for name in (url.scheme, family + plus) if plus else (url.scheme,):
        if name in _registered:
            return _registered[name]
        if name in _BUILT_IN:
            return _BUILT_IN[name].load(url.scheme)
        plug_ins = _plug_ins().select(name=name)
        if plug_ins:
            return _load(plug_ins, url)
    known = known_schemes()
    close = difflib.get_close_matches(url.scheme, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise UnknownSchemeError(
        f"no backend for scheme {url.scheme!r} in {str(url)!r}; known schemes: {', '.join(known)}{hint}"
    )


def _plug_ins() -> EntryPoints:
    # Imported here: it costs more than all the rest, and built-in schemes do not need it.
    from importlib.metadata import entry_points

    return entry_points(group=GROUP)


def _load(plug_ins: EntryPoints, url: StorageURL) -> Factory:
    """Load the plug-in for a scheme; two that claim it are refused rather than one picked by chance."""
    values = sorted({point.value for point in plug_ins})
    if len(values) > 1:
        raise UnknownSchemeError(
            f"more than one plug-in for scheme {url.scheme!r} in {str(url)!r}: {', '.join(values)}; "
            "uninstall all but one"
        )
    try:
        factory: object = next(iter(plug_ins)).load()
    except (ImportError, AttributeError) as error:
        raise MissingDependencyError(
            f"the plug-in {values[0]} for scheme {url.scheme!r} cannot be imported: {error}"
        ) from error
    return _factory_of(factory)


def _factory_of(given: object) -> Factory:
    if isinstance(given, type) and issubclass(given, Backend):
        return given.from_url
    if not callable(given):
        raise TypeError(f"expected a Backend class or a callable that makes one, got {given!r}")
    return given
