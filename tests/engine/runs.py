"""Runs for engine tests: a memory store behind scripted faults, and snapshots that count their uses."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ackpt.backends import register_backend
from ackpt.backends.base import Backend
from ackpt.backends.memory import MemoryBackend
from ackpt.checkpoint.staged import StagedFile
from ackpt.errors import SnapshotError
from ackpt.events import Event
from ackpt.snapshot.base import Snapshot
from ackpt.testing import FaultScript, Script, inject
from ackpt.url import StorageURL

_scripts: dict[str, Script] = {}
_numbers = itertools.count()


def _open(url: StorageURL) -> Backend:
    inner = MemoryBackend.from_url(StorageURL(scheme="memory", bucket=url.bucket, path=url.path))
    return inject(inner, _scripts[url.bucket])


register_backend("scripted", _open)


class Run:
    """Be one run in memory, whose store does what `script` says."""

    def __init__(self, script: Script | None = None) -> None:
        self._name = f"run-{next(_numbers)}"
        self.script = script or FaultScript()

    @property
    def script(self) -> Script:
        return _scripts[self._name]

    @script.setter
    def script(self, script: Script) -> None:
        _scripts[self._name] = script

    @property
    def url(self) -> str:
        return f"scripted://{self._name}/run?part_size=64KiB&attempts=3&retry_timeout=20s"

    @property
    def store(self) -> MemoryBackend:
        """Return the store as it is, with no faults in between."""
        return MemoryBackend.from_url(StorageURL(scheme="memory", bucket=self._name, path="run"))

    async def keys(self) -> list[str]:
        return sorted([info.key async for info in self.store.list()])

    async def committed(self) -> list[int]:
        suffix = ".manifest.json"
        return sorted(
            int(k.removesuffix(suffix).rsplit("-")[-1]) for k in await self.keys() if k.endswith(suffix)
        )


class Pinned(Snapshot):
    """Be a snapshot with a TensorFlow checkpoint's file names."""

    def __init__(
        self,
        step: int,
        files: Mapping[str, bytes] | None = None,
        *,
        error: Exception | None = None,
    ) -> None:
        self.step = step
        self.files = files if files is not None else content(step)
        self.error = error
        self.staged = 0
        self.released = 0

    def stage(self, folder: Path, prefix: str) -> Iterator[StagedFile]:
        self.staged += 1
        for name, data in self.files.items():
            path = folder / f"{prefix}.{name}"
            path.write_bytes(data)
            yield StagedFile(key=f"{prefix}.{name}", path=path, size=len(data))
            if self.error is not None:
                raise self.error

    def release(self) -> None:
        self.released += 1


def content(step: int) -> dict[str, bytes]:
    """Make the files of a checkpoint; the data is more than a part long."""
    return {
        "data-00000-of-00001": (b"%08d" % step) * 25_000,
        "index": b"index of %d" % step,
        "meta": b"graph",
    }


def cannot_be_written(step: int) -> SnapshotError:
    return SnapshotError(f"step {step} cannot be written", step=step)


class Recorder:
    """Keep every event."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type[Event]) -> list[Event]:
        return [each for each in self.events if isinstance(each, kind)]


async def until(condition: Callable[[], object]) -> None:
    """Wait until `condition` holds; the test's own time limit is the limit."""
    while not condition():  # noqa: ASYNC110 - what is waited for happens in worker threads, too
        await asyncio.sleep(0.001)
