"""The journal of one save in the staging folder: what a later process needs to finish it.

Append-only, one JSON object a line, each fsynced before it counts; a torn last line is ignored.
A record is written after what it speaks of is on the disk.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ackpt.checkpoint.fence import Claim
from ackpt.checkpoint.manifest import check_key, make_prefix, split_prefix
from ackpt.checkpoint.staged import StagedFile

_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalState:
    """Say what a journal tells: the save, its finished files, its open uploads, how far it came."""

    step: int
    prefix: str
    metrics: Mapping[str, float]
    files: tuple[StagedFile, ...] = ()
    uploads: Mapping[str, str] = field(default_factory=dict)
    claim: Claim | None = None
    staged: bool = False


class Journal:
    """Append to the journal of one save; blocking, one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def begin(self, *, step: int, prefix: str, metrics: Mapping[str, float], claim: Claim) -> None:
        """Record which checkpoint this is, and whose; the first record."""
        self._append(
            {"record": "begin", "version": _VERSION, "step": step, "prefix": prefix, "metrics": dict(metrics)}
        )
        self.add_claim(claim)

    def add_claim(self, claim: Claim) -> None:
        """Record under which claim on the run the checkpoint may be committed; the last one counts."""
        self._append({"record": "claim", **claim.to_document()})

    def add_file(self, file: StagedFile) -> None:
        """Make a finished file durable, then record it."""
        fsync_path(file.path)
        self._append({"record": "file", "key": file.key, "size": file.size})

    def mark_staged(self, folder: Path) -> None:
        """Make the names in `folder` durable, then record that all files are there."""
        fsync_path(folder)
        self._append({"record": "staged"})

    def add_upload(self, key: str, upload_id: str) -> None:
        """Record an upload that was begun, so that a later process can go on with it."""
        self._append({"record": "upload", "key": key, "id": upload_id})

    def close(self) -> None:
        """Close the file; idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _append(self, record: Mapping[str, object]) -> None:
        line = json.dumps(record, ensure_ascii=True).encode() + b"\n"
        while line:  # a short write only happens when the disk is full, and the next one then raises
            line = line[os.write(self._fd, line) :]
        os.fsync(self._fd)


def read_journal(path: Path, files: Path) -> JournalState | None:
    """Return what the journal at `path` tells; None where it does not even tell which save it is.

    `files` is the folder with the staged files. A record that names anything outside of it, or a
    file that is not there in the recorded size, makes the save count as not staged.
    """
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return None
    state: JournalState | None = None
    found: list[StagedFile] = []
    uploads: dict[str, str] = {}
    claim: Claim | None = None
    staged = False
    try:
        for line in lines:
            record = json.loads(line)
            match record["record"]:
                case "begin" if record["version"] == _VERSION:
                    make_prefix(*split_prefix(record["prefix"]))
                    state = JournalState(
                        step=int(record["step"]), prefix=record["prefix"], metrics=record["metrics"]
                    )
                case "file" if state is not None:
                    check_key(record["key"], state.prefix)
                    file = StagedFile(key=record["key"], path=files / record["key"], size=record["size"])
                    if file.path.is_symlink() or file.path.stat().st_size != file.size:
                        break
                    found.append(file)
                case "claim":
                    claim = Claim.from_document(record)
                case "upload":
                    uploads[record["key"]] = record["id"]
                case "staged":
                    staged = True
                case _:
                    break
    except (ValueError, KeyError, TypeError, AttributeError, OSError):
        # Written by another version, or damaged: what was read so far is true, the rest is not used.
        staged = False
    if state is None:
        return None
    return JournalState(
        step=state.step,
        prefix=state.prefix,
        metrics=state.metrics,
        files=tuple(found),
        uploads=uploads,
        claim=claim,
        staged=staged,
    )


def fsync_path(path: Path) -> None:
    """Make a file's bytes, or a folder's names, survive a crash of the machine."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
