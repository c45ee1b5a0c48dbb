"""What a `fsspec+…` URL can say, and the filesystem that it names."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fsspec.core import url_to_fs
from fsspec.registry import available_protocols, get_filesystem_class

from ackpt.errors import InvalidOptionError, InvalidURLError, MissingDependencyError, UnknownSchemeError
from ackpt.options import flag, option, read_options
from ackpt.url import StorageURL

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

PREFIX = "fsspec+"
_ARGUMENT = "fs."

_SECRET = re.compile(
    r"(.*_)?(auth|connection_string|credentials?|p?key|pass(phrase|wd|word)|pwd|secret|token)", re.IGNORECASE
)
"""Arguments of filesystems that hold credentials; a URL ends in logs and in the shell's history."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FsspecOptions:
    """Say how a filesystem is used.

    `verify` reads every object back after it was written, and compares its CRC-32C: filesystems
    report none. Without it the size alone is compared.
    All options that begin with `fs.` go to the filesystem, without that: `fs.endpoint_url=…`;
    numbers, `true`, `false` and `null` are read as such.
    """

    verify: bool = option("verify", flag, True)


def read_fsspec_options(url: StorageURL) -> FsspecOptions:
    """Read the options that are not the filesystem's.

    Raises:
        InvalidOptionError: one that is unknown, or has a value of no use.
    """
    ours = {name: value for name, value in url.options.items() if not name.startswith(_ARGUMENT)}
    return read_options(FsspecOptions, ours, where=str(url))


Opener = Callable[[], "tuple[AbstractFileSystem, str]"]
"""Make a filesystem, and the root path on it; may connect, and so blocks."""


def filesystem_opener(url: StorageURL) -> Opener:
    """Return what makes the filesystem that `url` names; checks what can be known without a connection.

    Raises:
        InvalidURLError: no protocol is named.
        UnknownSchemeError: fsspec knows no such protocol.
        MissingDependencyError: the filesystem's package is not installed.
        InvalidOptionError: an `fs.` option that holds a credential.
    """
    protocol = url.scheme.removeprefix(PREFIX)
    if not protocol:
        # fsspec takes it for a local path.
        raise InvalidURLError(f"no protocol in {str(url)!r}; expected fsspec+<protocol>://…")
    arguments = _arguments(url)
    try:
        get_filesystem_class(protocol)
    except ImportError as error:
        raise MissingDependencyError(f"fsspec's filesystem for {protocol!r}: {error}") from error
    except ValueError as error:
        known = ", ".join(sorted(available_protocols()))
        raise UnknownSchemeError(
            f"fsspec has no filesystem for {protocol!r} in {str(url)!r}; it knows: {known}"
        ) from error

    def make() -> tuple[AbstractFileSystem, str]:
        try:
            filesystem, root = url_to_fs(
                f"{protocol}://{url.bucket}/{url.path}",
                skip_instance_cache=True,
                **arguments,
            )
        except (TypeError, ValueError) as error:
            raise InvalidOptionError(
                f"fsspec's filesystem for {protocol!r} refuses the options of {url}: {error}"
            ) from error
        # No listing may come from a cache: another process writes here, too. Not an argument: some
        # filesystems hand on all that they are given to a library that does not know it.
        filesystem.dircache.use_listings_cache = False
        return filesystem, root.rstrip("/")

    return make


def _arguments(url: StorageURL) -> dict[str, object]:
    arguments: dict[str, object] = {}
    for option_name, text in url.options.items():
        name = option_name.removeprefix(_ARGUMENT)
        if name == option_name:
            continue
        if _SECRET.fullmatch(name) is not None:
            raise InvalidOptionError(
                f"option {option_name!r} for {url}: credentials do not belong in a URL; put them into "
                "fsspec's configuration (https://filesystem-spec.readthedocs.io/en/latest/features.html#configuration)"
            )
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        arguments[name] = text if isinstance(value, list | dict) else value
    return arguments
