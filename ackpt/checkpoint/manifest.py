"""The manifest: the small JSON object whose presence makes a checkpoint committed.

Written once, only if absent, after every object it names; never changed afterwards.
What it names is not trusted: a key outside the checkpoint's own prefix is refused.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType

from ackpt.checkpoint.metrics import to_json
from ackpt.errors import CorruptCheckpointError, InvalidOptionError

FORMAT = "ackpt.manifest/1"
SUFFIX = ".manifest.json"

BOOK_KEEPING = (SUFFIX, ".sending.json", ".deleted.json")
"""What may follow a prefix and is never an object of the checkpoint: manifest, intent, tombstone."""

_NAME = re.compile(r"[^/\\\x00-\x1f.-][^/\\\x00-\x1f]*")
_PREFIX = re.compile(r"(?P<name>[^/]+)-(?P<step>0|[1-9][0-9]*)")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_CRC32C = re.compile(r"[0-9a-f]{8}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestObject:
    """Name one object of a checkpoint: key below the run, size in bytes, CRC-32C, store version.

    One that is `adopted` was there before, with the same bytes: it is somebody else's, and outlives
    the checkpoint. `digest` is the SHA-256 of its bytes, None where none was taken.
    """

    key: str
    size: int
    crc32c: int
    version: str
    adopted: bool = False
    digest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Describe one committed checkpoint, whole.

    `prefix` is `<name>-<step>`; every object's key is `prefix` followed by `.` or `/` and more.
    `run`, `attempt` and `writer` are the claim on the run that it was committed under; `created`
    is in UTC; `metrics` are the caller's, for retention by the best.
    """

    step: int
    prefix: str
    created: datetime
    run: str
    attempt: int
    writer: str
    objects: tuple[ManifestObject, ...]
    metrics: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def key(self) -> str:
        """Return the key of the manifest itself."""
        return self.prefix + SUFFIX

    @property
    def size(self) -> int:
        """Return the bytes of all objects together."""
        return sum(each.size for each in self.objects)

    @property
    def is_tensorflow(self) -> bool:
        """Tell whether the objects are a TensorFlow checkpoint, readable by its prefix."""
        return any(each.key == f"{self.prefix}.index" for each in self.objects)

    def to_json(self) -> bytes:
        """Write the manifest as JSON, in UTF-8."""
        document = {
            "format": FORMAT,
            "step": self.step,
            "prefix": self.prefix,
            "created": self.created.astimezone(UTC).isoformat(),
            "run": self.run,
            "attempt": self.attempt,
            "writer": self.writer,
            "metrics": to_json(self.metrics),
            "objects": [_to_document(each) for each in self.objects],
        }
        return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False).encode()

    @classmethod
    def from_json(cls, data: bytes, *, key: str) -> Manifest:
        """Read the manifest that was stored under `key`.

        Raises:
            CorruptCheckpointError: not a manifest of a format known here, not the one that belongs
                under `key`, or naming anything outside its own prefix.
        """
        try:
            document = json.loads(data)
            if document["format"] != FORMAT:
                raise ValueError(f"format {document['format']!r}, expected {FORMAT!r}")
            manifest = cls(
                step=_natural(document["step"]),
                prefix=str(document["prefix"]),
                created=datetime.fromisoformat(document["created"]),
                run=str(document["run"]),
                attempt=_natural(document["attempt"]),
                writer=str(document["writer"]),
                metrics=MappingProxyType({str(k): float(v) for k, v in document["metrics"].items()}),
                objects=tuple(
                    ManifestObject(
                        key=str(each["key"]),
                        size=_size(each["size"]),
                        crc32c=read_crc32c(each["crc32c"]),
                        version=str(each["version"]),
                        adopted=each.get("adopted", False) is True,
                        digest=_read_digest(each.get("sha256")),
                    )
                    for each in document["objects"]
                ),
            )
            manifest._check(key)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise CorruptCheckpointError(
                f"{key} is not a manifest that can be trusted ({type(error).__name__}: {error}); "
                "restore an older step, or move the object away and look at it"
            ) from error
        return manifest

    def same_content(self, objects: Mapping[str, tuple[int, int]]) -> bool:
        """Tell whether `objects` (key to size and CRC-32C) hold the same state.

        A graph description (`.meta`) does not count: it may differ where the variables do not.
        """
        mine = {each.key: (each.size, each.crc32c) for each in self.objects}
        graph = f"{self.prefix}.meta"
        return {k: v for k, v in mine.items() if k != graph} == {
            k: v for k, v in objects.items() if k != graph
        }

    def _check(self, key: str) -> None:
        if self.key != key:
            raise ValueError(f"it says it is {self.key!r}")
        if split_prefix(self.prefix)[1] != self.step:
            raise ValueError(f"step {self.step} under the prefix {self.prefix!r}")
        if self.created.tzinfo is None:
            raise ValueError("a time without its zone")
        self.created.astimezone(UTC)  # what could not be written again could not be deleted: see `to_json`
        "".join((self.run, self.writer, *self.metrics, *(each.version for each in self.objects))).encode()
        if not self.objects:
            raise ValueError("no objects")
        for each in self.objects:
            check_key(each.key, self.prefix)
        if len({each.key for each in self.objects}) != len(self.objects):
            raise ValueError("an object twice")


def make_prefix(name: str, step: int) -> str:
    """Return the prefix of a checkpoint's keys: `<name>-<step>`.

    Raises:
        InvalidOptionError: a negative step, or a name that is empty or not one plain path segment.
    """
    step = read_step(step)
    if not _NAME.fullmatch(name):
        raise InvalidOptionError(
            f"checkpoint name: expected one path segment without slashes that does not start with "
            f"'.' or '-', got {name!r}"
        )
    return f"{name}-{step}"


def read_step(step: object) -> int:
    """Return `step` as an int; NumPy's whole numbers are some, too, and True is none.

    Raises:
        InvalidOptionError: no whole number, or a negative one.
    """
    try:
        number = -1 if isinstance(step, bool) else operator.index(step)  # type: ignore[arg-type]
    except TypeError:
        number = -1
    if number < 0:
        raise InvalidOptionError(f"step: expected a whole number from 0 up, got {step!r}")
    return number


def split_prefix(prefix: str) -> tuple[str, int]:
    """Return the name and the step of a prefix.

    Raises:
        ValueError: not `<name>-<step>`.
    """
    match = _PREFIX.fullmatch(prefix)
    if match is None:
        raise ValueError(f"expected <name>-<step>, got {prefix!r}")
    return match["name"], int(match["step"])


def is_named(prefix: str, name: str) -> bool:
    """Tell whether `prefix` is `<name>-<step>`, of this name and no longer one."""
    try:
        return split_prefix(prefix)[0] == name
    except ValueError:
        return False


def check_key(key: str, prefix: str) -> None:
    """Make sure that `key` lies below `prefix`, in this run and nowhere else.

    Raises:
        ValueError: it does not, is of our own book-keeping, or holds `..`, a backslash, an empty
            segment, a control character or what is not UTF-8.
    """
    rest = key.removeprefix(prefix)
    if rest == key or rest[:1] not in (".", "/") or len(rest) < 2:
        raise ValueError(f"key {key!r} is not below {prefix!r}")
    if "\\" in key or any(ord(c) < 32 for c in key) or any(s in ("", ".", "..") for s in key.split("/")):
        raise ValueError(
            f"key {key!r} is not a plain path; expected one without a backslash, a control character, and an "
            "empty, '.' or '..' segment"
        )
    if rest in BOOK_KEEPING:
        raise ValueError(f"key {key!r} is not a checkpoint's own: ackpt keeps its books there")
    try:
        key.encode()
    except UnicodeEncodeError:
        raise ValueError(f"key {key!r} is not UTF-8") from None


def _to_document(each: ManifestObject) -> dict[str, object]:
    document: dict[str, object] = {
        "key": each.key,
        "size": each.size,
        "crc32c": f"{each.crc32c:08x}",
        "version": each.version,
    }
    if each.adopted:
        document["adopted"] = True
    if each.digest is not None:
        document["sha256"] = each.digest
    return document


def _read_digest(value: object) -> str | None:
    if value is not None and (not isinstance(value, str) or not _DIGEST.fullmatch(value)):
        raise ValueError(f"expected a sha256 of 64 hexadecimal digits, got {value!r}")
    return value


def _natural(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"expected a whole number from 0 up, got {value!r}")
    return value


def _size(value: object) -> int:
    """Read a size; one that no file could have is none (off_t has 64 bits)."""
    if _natural(value) >> 63:
        raise ValueError(f"expected a size of less than 2**63 bytes, got one of {len(str(value))} digits")
    return _natural(value)


def read_crc32c(value: object) -> int:
    """Read a CRC-32C of eight hexadecimal digits.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, str) or not _CRC32C.fullmatch(value):
        raise ValueError(f"expected a crc32c of eight hexadecimal digits, got {value!r}")
    return int(value, 16)
