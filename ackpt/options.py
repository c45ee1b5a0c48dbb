"""Options in URLs: a frozen dataclass says which there are, and this reads them by type.

A backend (or the core) declares its options as fields made with `option(name, parse, default)`;
`read_options` fills the dataclass from a URL and complains about what it does not know.
`TransferOptions` are those that every URL takes; they are read by the core alone.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol, TypeVar

from ackpt.errors import InvalidOptionError

T = TypeVar("T")

KiB = 1 << 10
MiB = 1 << 20
GiB = 1 << 30

# 18 digits hold any size and any time, and keep `int` and `float` from refusing or overflowing.
_SIZE = re.compile(r"([0-9]{1,18})\s*(B|KiB|MiB|GiB|TiB|kB|MB|GB|TB)?")
_SIZE_UNITS = {
    None: 1, "B": 1, "KiB": KiB, "MiB": MiB, "GiB": GiB, "TiB": 1 << 40,
    "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
}  # fmt: skip
_DURATION = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)\s*(ms|s|m|min|h)?")
_DURATION_UNITS = {None: 1.0, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
# What clients of stores call their keys, tokens and signatures, in any case.
_CREDENTIAL = re.compile(
    r"secret|token|passw|passphrase|signature|(access|account|api|private)_?key|connection_?string|^(key|sig)$",
    re.IGNORECASE,
)


class DataclassInstance(Protocol):
    """Stand for an instance of a dataclass (PEP 557)."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


D = TypeVar("D", bound=DataclassInstance)


def size(text: str) -> int:
    """Read a number of bytes: `33554432`, `32MiB`, `32 MB`."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError("a size such as 33554432, 32MiB or 1GB")
    return int(match.group(1)) * _SIZE_UNITS[match.group(2)]


def written_size(size: int) -> str:
    """Write a number of bytes for people: `32.0 MiB`."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def duration(text: str) -> float:
    """Read a duration in seconds: `30`, `30s`, `1.5m`, `250ms`, `2h`."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError("a duration such as 30s, 250ms, 5min or 2h")
    return float(match.group(1)) * _DURATION_UNITS[match.group(2)]


def count(text: str) -> int:
    """Read a whole number from 1 up."""
    if re.fullmatch(r"0*[1-9][0-9]{0,17}", text) is None:
        raise ValueError("a whole number from 1 up")
    return int(text)


def flag(text: str) -> bool:
    """Read `true` or `false`."""
    if text not in ("true", "false"):
        raise ValueError("true or false")
    return text == "true"


def choice(*names: str) -> Callable[[str], str]:
    """Make a reader that takes one of `names`."""

    def read(text: str) -> str:
        if text not in names:
            raise ValueError("one of " + ", ".join(names))
        return text

    return read


def option(name: str, parse: Callable[[str], T], default: T, *, private: bool = False) -> T:
    """Declare a dataclass field as the URL option `name`, read by `parse`.

    `parse` raises ValueError with what it expected, as a noun phrase ("a size such as 32MiB").
    A `private` value (a key, a token) is left out of errors and of the dataclass's `repr`.
    """
    field: T = dataclasses.field(
        default=default,
        repr=not private,
        metadata={"option": name, "parse": parse, "private": private},
    )
    return field


def option_names(kind: type[DataclassInstance]) -> frozenset[str]:
    """Return the names of the URL options that the dataclass `kind` declares."""
    return frozenset(f.metadata["option"] for f in dataclasses.fields(kind) if "option" in f.metadata)


def read_options(kind: type[D], given: Mapping[str, str], *, where: str) -> D:
    """Fill the dataclass `kind` from a URL's options; `where` names the URL in errors.

    The transfer options, which every URL takes, are passed over unless `kind` declares them: they
    are the core's to read, and an error about an unknown option lists them with `kind`'s own.

    Raises:
        InvalidOptionError: an option that `kind` does not declare, or a value it cannot read.
    """
    fields = {f.metadata["option"]: f for f in dataclasses.fields(kind) if "option" in f.metadata}
    values: dict[str, Any] = {}
    for name, text in given.items():
        field = fields.get(name)
        if field is not None:
            values[field.name] = _read(field, name, text, where)
        elif name not in option_names(TransferOptions):
            raise InvalidOptionError(_unknown(name, {*fields, *option_names(TransferOptions)}, where))
    try:
        return kind(**values)
    except InvalidOptionError as error:
        raise InvalidOptionError(f"{error} (in {where})") from None


def _read(field: dataclasses.Field[Any], name: str, text: str, where: str) -> object:
    try:
        return field.metadata["parse"](text)
    except ValueError as error:
        got = "" if field.metadata["private"] else f", got {text!r}"
        raise InvalidOptionError(f"option {name!r} for {where}: expected {error}{got}") from None


def _unknown(name: str, known: set[str], where: str) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    if _CREDENTIAL.search(name):
        hint = (
            "; credentials do not belong in a URL: give them the way the store's own tools find them "
            "(environment or configuration files)"
        )
    return f"unknown option {name!r} for {where}; valid options: {', '.join(sorted(known))}{hint}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TransferOptions:
    """Say how bytes travel; every URL takes these options, whatever its scheme.

    `part_bytes` is the size of one part (and of one ranged read), bent to the store's limits.
    `connections` bounds the requests that move bytes at one time; it begins with 8, uses more where
    they carry more, and fewer when the store asks for fewer (HTTP 429 or 503), down to
    `least_connections`: as many as `connections` turns that off.
    `memory_bytes` bounds the bytes held in memory for them, whatever the checkpoint's size.
    `max_bytes_per_sec` bounds the bytes a second that travel (0: no bound of its own).
    These bounds are the run's own; `ackpt.Limits` bounds all runs of a process together.
    `attempts` and `retry_secs` end the retries of one request, whichever comes first; any
    progress of the save renews `retry_secs`.
    `stall_secs` ends an attempt of which no byte moves: it is tried again on a new connection.
    `save_secs` ends a save, counted from its first request, whatever progress it makes (0: never).
    `copy_unchanged` has a data file that the last committed checkpoint holds already copied inside
    the store, where that is possible, rather than sent again.
    """

    part_bytes: int = option("part_size", size, 32 * MiB)
    connections: int = option("concurrency", count, 32)
    least_connections: int = option("min_concurrency", count, 1)
    memory_bytes: int = option("memory", size, 256 * MiB)
    max_bytes_per_sec: int = option("max_bytes_per_sec", size, 0)
    attempts: int = option("attempts", count, 8)
    retry_secs: float = option("retry_timeout", duration, 300.0)
    stall_secs: float = option("stall_timeout", duration, 60.0)
    save_secs: float = option("save_timeout", duration, 0.0)
    copy_unchanged: bool = option("copy_unchanged", flag, True)

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            InvalidOptionError: a size or a count below 1, or a time that is negative or not finite.
        """
        whole = {
            "part_size": self.part_bytes,
            "concurrency": self.connections,
            "min_concurrency": self.least_connections,
            "memory": self.memory_bytes,
            "attempts": self.attempts,
        }
        for name, value in whole.items():
            if value < 1:
                raise InvalidOptionError(f"option {name!r}: expected at least 1, got {value}")
        if self.least_connections > self.connections:
            raise InvalidOptionError(
                f"option 'min_concurrency': expected at most concurrency={self.connections}, got "
                f"{self.least_connections}"
            )
        if self.max_bytes_per_sec < 0:
            raise InvalidOptionError(
                f"option 'max_bytes_per_sec': expected a size from 0 up, got {self.max_bytes_per_sec}"
            )
        for name, secs in {"retry_timeout": self.retry_secs, "save_timeout": self.save_secs}.items():
            if not math.isfinite(secs) or secs < 0:
                raise InvalidOptionError(f"option {name!r}: expected a time from 0 s up, got {secs}")
        if not math.isfinite(self.stall_secs) or self.stall_secs <= 0:
            raise InvalidOptionError(
                f"option 'stall_timeout': expected a time of more than 0 s, got {self.stall_secs}"
            )
