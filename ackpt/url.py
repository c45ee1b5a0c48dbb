"""A storage URL, taken apart: `scheme://bucket/path?option=value`; nothing here knows a store.

Only `file` (a path, no bucket), `memory` and `fsspec+…` (the bucket may be empty) are read differently.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import quote, unquote, urlsplit

from ackpt.errors import InvalidURLError

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
# What is left of a URL after `pathlib.Path`, or a slip of the finger: `gs:/bucket/run`.
# Two letters at least: `C:/` is a drive.
_ONE_SLASH = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+):/(?!/)")
# A plain path that somebody gave options: a folder is hardly ever called so.
_QUERY = re.compile(r"\?[a-z_]+=")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NO_OPTIONS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageURL:
    """Hold the parts of a storage URL.

    `scheme` is lower case; `bucket` is the authority (empty for `file:`);
    `path` is percent-decoded, has no trailing slash, and is absolute for `file:` and without the
    slash after the bucket elsewhere; `options` are the query's, each name once, percent-decoded
    (`+` stays a plus). They may be private: `str` and `repr` leave them out.
    """

    scheme: str
    bucket: str
    path: str
    options: Mapping[str, str] = field(default_factory=lambda: _NO_OPTIONS, repr=False, hash=False)

    @classmethod
    def parse(cls, text: str | os.PathLike[str]) -> StorageURL:
        """Take a URL or a plain local path apart.

        A text without `scheme://` is a local path, taken literally (no escapes; `~` is the home
        folder); one that ends like options is refused, since it takes none, and so is one with `://`
        behind what is no scheme, unless it begins as a path does (`/`, `.`, `~`).
        In a URL the path may be percent-encoded, and must be where it holds `%`, `?` or `#`
        (RFC 3986, section 2.4).

        Raises:
            InvalidURLError: empty, malformed, no scheme before `://`, a single slash after it, a
                fragment, an option twice or without a value, or a user name or password in it.
        """
        text = os.fspath(text)
        match = _SCHEME.match(text)
        if match is None:
            return cls(scheme="file", bucket="", path=_local_path(text))
        scheme = match.group(1).lower()
        if _CONTROL.search(text):
            # `urlsplit` would drop them silently, and so name another object.
            raise InvalidURLError(f"the {scheme} URL has a control character in it; write it as %XX")
        try:
            split = urlsplit(text)
        except ValueError:
            # Without Python's own words: they repeat the host, with a password that may be in it.
            raise InvalidURLError(f"the {scheme} URL has a malformed bucket or host") from None
        if "@" in split.netloc:
            raise InvalidURLError(
                f"the {scheme} URL has a user name or password in it; take it out and give credentials "
                "the way the store's own tools find them (environment or configuration files)"
            )
        if split.fragment or text.endswith("#"):
            raise InvalidURLError(f"the {scheme} URL has a fragment ('#…'); write '#' in a path as '%23'")
        options = _options(split.query, scheme)
        if scheme == "file":
            path = _file_path(split.netloc, split.path)
            return cls(scheme=scheme, bucket="", path=path, options=options)
        if scheme != "memory" and not scheme.startswith("fsspec+") and not split.netloc:
            raise InvalidURLError(f"no bucket in the {scheme} URL; expected {scheme}://bucket/path")
        path = _decode(split.path, scheme).removeprefix("/").rstrip("/")
        return cls(scheme=scheme, bucket=_decode(split.netloc, scheme), path=path, options=options)

    def without_options(self) -> StorageURL:
        """Return the same place with no options: what names a run, whoever tunes it."""
        return StorageURL(scheme=self.scheme, bucket=self.bucket, path=self.path)

    def __str__(self) -> str:
        """Write the URL without its options, which may be private; `parse` reads it back."""
        separator = "/" if self.path and self.scheme != "file" else ""
        bucket = quote(self.bucket, safe=":")
        return f"{self.scheme}://{bucket}{separator}{quote(os.fsencode(self.path))}"


def _local_path(text: str) -> str:
    if not text:
        raise InvalidURLError("empty storage URL; expected scheme://bucket/path or a local path")
    match = _ONE_SLASH.match(text)
    if match is not None:
        scheme = match.group(1)
        raise InvalidURLError(
            f"one slash after '{scheme}:'; expected '{scheme}://…' "
            f"(pathlib.Path drops the second one: pass a str), or './{scheme}:…' for a local path"
        )
    if "://" in text and not text.startswith(("/", ".", "~")):
        # A blank before a pasted URL, or a chain of fsspec's: it would be a folder here, and nobody notices.
        # Not repeated in the message: it may be a connection string.
        raise InvalidURLError(
            "what comes before '://' is no scheme (a letter, then letters, digits, '+', '-' and '.'); "
            "expected scheme://bucket/path without a blank, or './…' for a local path"
        )
    if "\0" in text:
        raise InvalidURLError("a local path has a NUL character in it")
    if _QUERY.search(text):
        raise InvalidURLError(
            "a plain path takes no options; write 'file:///path?option=value', or, for a folder that is "
            "called so, 'file:///path%3F…'"
        )
    return _normal(os.path.abspath(os.path.expanduser(text)))


def _file_path(netloc: str, path: str) -> str:
    if netloc not in ("", "localhost"):
        raise InvalidURLError(
            f"the file URL names the host {netloc!r}; expected three slashes: file:///{netloc}{path}"
        )
    if not path:
        raise InvalidURLError("no path in the file URL; expected file:///path")
    decoded = unquote(path, errors="surrogateescape")
    if "\0" in decoded:
        raise InvalidURLError("the file URL has a NUL character in it")
    return _normal(decoded)


def _normal(path: str) -> str:
    # POSIX lets exactly two leading slashes mean something else; Linux does not.
    return os.path.normpath("/" + path.lstrip("/"))


def _decode(text: str, scheme: str) -> str:
    try:
        decoded = unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise InvalidURLError(
            f"the {scheme} URL has escapes that are not UTF-8; write them as UTF-8"
        ) from None
    if "\0" in decoded:
        raise InvalidURLError(f"the {scheme} URL has a NUL character in it")
    return decoded


def _options(query: str, scheme: str) -> Mapping[str, str]:
    options: dict[str, str] = {}
    for pair in query.split("&"):
        if not pair:
            continue
        name, equals, value = pair.partition("=")
        if not name or not equals:
            # Not repeated in the message: it may be a token that went astray.
            raise InvalidURLError(
                f"an option in the {scheme} URL has no name or no value; expected ?name=value"
            )
        name = _decode(name, scheme)
        if name in options:
            raise InvalidURLError(f"option {name!r} comes twice in the {scheme} URL; give it once")
        options[name] = _decode(value, scheme)
    return MappingProxyType(options) if options else _NO_OPTIONS
