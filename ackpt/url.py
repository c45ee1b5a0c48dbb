"""A storage URL, taken apart: `scheme://bucket/path?option=value`; nothing here knows a scheme."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from ackpt.errors import InvalidURLError

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageURL:
    """Hold the parts of a storage URL.

    `scheme` is lower case; `bucket` is the authority (empty for `file:`);
    `path` is percent-decoded, has no trailing slash, and is absolute for `file:` and without a
    leading slash elsewhere; `options` are the query's, each name once.
    """

    scheme: str
    bucket: str
    path: str
    options: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def parse(cls, text: str | os.PathLike[str]) -> StorageURL:
        """Take a URL or a plain local path apart.

        A text without `scheme://` is a local path, taken literally (no options, no escapes).
        In a URL the path may be percent-encoded, and must be where it holds `%`, `?` or `#`
        (RFC 3986, section 2.4).

        Raises:
            InvalidURLError: empty, a fragment, an option twice, or a user name or password in it.
        """
        text = os.fspath(text)
        match = _SCHEME.match(text)
        if match is None:
            if not text:
                raise InvalidURLError("empty storage URL; expected scheme://bucket/path or a local path")
            return cls(scheme="file", bucket="", path=os.path.abspath(os.path.expanduser(text)))
        scheme = match.group(1).lower()
        split = urlsplit(text)
        if "@" in split.netloc:
            raise InvalidURLError(
                f"a {scheme} URL has a user name or password in it; take it out and give credentials "
                "the way the store's own tools find them (environment or configuration files)"
            )
        if split.fragment:
            raise InvalidURLError(
                f"a {scheme} URL has a fragment ('#…'); write '#' in a path as '%23'"
            )
        path = unquote(split.path).rstrip("/")
        if scheme == "file":
            return cls(scheme=scheme, bucket="", path=_file_path(split.netloc, path), options=_options(split.query, scheme))
        if scheme != "memory" and not split.netloc:
            raise InvalidURLError(f"no bucket in a {scheme} URL; expected {scheme}://bucket/path")
        return cls(scheme=scheme, bucket=unquote(split.netloc), path=path.removeprefix("/"), options=_options(split.query, scheme))

    def without_options(self) -> StorageURL:
        """Return the same place with no options: what names a run, whoever tunes it."""
        return StorageURL(scheme=self.scheme, bucket=self.bucket, path=self.path)

    def __str__(self) -> str:
        """Write the URL without its options, which may be private."""
        separator = "/" if self.path and self.scheme != "file" else ""
        return f"{self.scheme}://{self.bucket}{separator}{quote(self.path)}"


def _file_path(netloc: str, path: str) -> str:
    if netloc not in ("", "localhost"):
        raise InvalidURLError(
            f"a file URL names the host {netloc!r}; expected three slashes: file:///{netloc}{path}"
        )
    if not path.startswith("/"):
        return "/"
    return os.path.normpath(path)


def _options(query: str, scheme: str) -> Mapping[str, str]:
    options: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in options:
            raise InvalidURLError(f"option {name!r} comes twice in a {scheme} URL; give it once")
        options[name] = value
    return MappingProxyType(options)
