"""A rehearsal: one run on an author's store, saved through scripted faults, and what has to hold after."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from ackpt.backends.base import Backend, MultipartBackend, SequentialUpload
from ackpt.backends.registry import register_backend
from ackpt.checkpoint import fence, state_file
from ackpt.checkpoint.catalog import entries_among, load_manifest
from ackpt.checkpoint.retention import KeepLast
from ackpt.checkpoint.staged import StagedFile
from ackpt.checkpoint.state_file import StateFile
from ackpt.checkpoint.sweep import find_orphans, remove_orphans
from ackpt.engine.checkpointer import Checkpointer
from ackpt.errors import AckptError, explain
from ackpt.events import Committed, Event, Failed, Outcome
from ackpt.options import KiB
from ackpt.snapshot.base import Snapshot
from ackpt.testing.faulty import inject
from ackpt.testing.law import MakeBackend, read, same
from ackpt.testing.script import FaultScript, On
from ackpt.transfer.clock import Clock, clock
from ackpt.url import StorageURL

SMALL_BYTES: Final = 3000
ATTEMPTS: Final = 5
_STALL_SECS: Final = 60.0
_NAME: Final = "rehearsal"
_DATA: Final = "data-00000-of-00001"


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """Say what came of one process that saved a step, or that only finished what lay staged.

    `outcome` is None where there was none: nothing lay staged, or the process could not even start
    (then `error` says why). `waited_secs` is the time it waited before retries, simulated.
    """

    outcome: Outcome | None
    error: Exception | None
    script: FaultScript
    waited_secs: float

    @property
    def said(self) -> str:
        """Return what a person is told of the failure, all of it; nothing where there was none."""
        error = self.outcome.error if isinstance(self.outcome, Failed) else self.error
        return "" if error is None else explain(error)


class Rehearsal:
    """Be one run, whose checkpoints have TensorFlow's files: data, of any size, and an index.

    Each `save` and each `start` is a process of its own, one after another, with one request at a
    time, and keeps one checkpoint. The clock of retries is simulated.
    """

    def __init__(self, make_backend: MakeBackend) -> None:
        self._make = make_backend
        self._stack = AsyncExitStack()
        self._sizes: dict[int, int] = {}
        self.backend = make_backend()
        self._stack.push_async_callback(self.backend.aclose)
        folder = tempfile.TemporaryDirectory(prefix="ackpt-rehearsal-")
        self._folder = Path(self._stack.enter_context(folder))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    @property
    def in_parts(self) -> bool:
        """Tell whether large files go in parts."""
        return isinstance(self.backend, MultipartBackend)

    @property
    def part_bytes(self) -> int:
        """Return the size of a part: as small as the store takes it, or all of a large file."""
        if not isinstance(self.backend, MultipartBackend):
            return self.large_bytes
        limits = self.backend.limits
        grain = limits.granularity_bytes
        return -(-max(limits.min_part_bytes, 64 * KiB) // grain) * grain

    @property
    def large_bytes(self) -> int:
        """Return the size of a file of two parts and a bit."""
        return 2 * self.part_bytes + 17 if self.in_parts else 200 * KiB + 17

    def key(self, step: int) -> str:
        """Return the key of the data file of a step."""
        return f"{_NAME}-{step}.{_DATA}"

    async def save(
        self, *lines: On, size: int = SMALL_BYTES, stall_secs: float = _STALL_SECS, step: int | None = None
    ) -> Take:
        """Save a new step, whose data file has `size` bytes, with faults by `lines`."""
        step = max(self._sizes, default=0) + 1 if step is None else step
        self._sizes[step] = size
        return await self._run(lines, stall_secs=stall_secs, snapshot=_Files(step, _content(step, size)))

    async def start(self, *lines: On) -> Take:
        """Start a process that finishes what lies staged, and ends."""
        return await self._run(lines, stall_secs=_STALL_SECS, snapshot=None)

    async def _run(self, lines: tuple[On, ...], *, stall_secs: float, snapshot: Snapshot | None) -> Take:
        """Run a process in a context of its own, in which the backend is the faulty one."""
        script, time = FaultScript(*lines), _SimulatedClock()
        register_backend(_NAME, _open)
        context = copy_context()
        context.run(clock.set, time)
        context.run(_backend.set, inject(self._make(), script))
        target = (
            f"{_NAME}://store/run?part_size={self.part_bytes}&concurrency=1&attempts={ATTEMPTS}"
            f"&stall_timeout={stall_secs * 1000:.0f}ms"
        )
        process = self._process(target, snapshot)
        outcome, error = await asyncio.create_task(process, context=context)
        return Take(outcome=outcome, error=error, script=script, waited_secs=time.now)

    async def _process(
        self, target: str, snapshot: Snapshot | None
    ) -> tuple[Outcome | None, Exception | None]:
        checkpointer = Checkpointer(
            target, name=_NAME, staging_dir=self._folder / "staging", retention=KeepLast(1)
        )
        outcomes: list[Outcome] = []

        def note(event: Event) -> None:
            if isinstance(event, Outcome):
                outcomes.append(event)

        checkpointer.subscribe(note)
        error: Exception | None = None
        try:
            await checkpointer.start()
            if snapshot is not None:
                await (await checkpointer.submit(snapshot))
        except AckptError as raised:
            error = raised
        finally:
            await checkpointer.aclose()
        return outcomes[-1] if outcomes else None, error

    async def committed(self, take: Take, *, damaged: bool = False, forgotten: bool = False) -> None:
        """Check that a save is committed, whole, having sent no more again than its faults explain.

        Each fault, and each failure that came of one, explains one part; a store that has `forgotten`
        an upload explains all of it, and so does a `damaged` part where parts go in order: a session
        takes none back.
        """
        assert isinstance(take.outcome, Committed), f"not committed: {take.said or take.outcome}"
        assert take.script.unused == [], "a fault found no request"
        await self.whole()
        names = [f"{_NAME}-{take.outcome.step}.{name}" for name in (_DATA, "index")]
        sends = [request for name in names for request in take.script.requests("put*", name)]
        size = sum(map(len, _content(take.outcome.step, self._sizes[take.outcome.step]).values()))
        again = sum(request.size for request in sends) - size
        in_order = any(isinstance(request.upload, SequentialUpload) for request in sends)
        faults = max(
            sum(request.fault is not None for request in take.script.log),
            sum(request.outcome != "done" for request in sends),
        )
        allowed = faults * self.part_bytes + (size if forgotten or (damaged and in_order) else 0)
        assert again <= allowed, f"{again} bytes were sent again for {faults} faults; expected {allowed}"

    async def whole(self) -> None:
        """Sweep; check that what is committed is whole, byte for byte, and that nothing else is left."""
        keys = await self.sweep()
        entries = entries_among(keys)
        kept = {fence.KEY, state_file.KEY}
        for entry in entries:
            manifest = await load_manifest(self.backend, entry)
            kept |= {manifest.key, *(each.key for each in manifest.objects)}
            for name, data in _content(entry.step, self._sizes[entry.step]).items():
                key = f"{entry.prefix}.{name}"
                assert same(await read(self.backend, key), data), f"{key} holds other bytes than were saved"
        assert keys <= kept, f"left after the sweep: {sorted(keys - kept)}"
        if state_file.KEY in keys:
            state = StateFile.from_text(await read(self.backend, state_file.KEY))
            committed = {entry.prefix for entry in entries}
            assert state is not None, "the state file cannot be read"
            assert {state.latest, *state.all} <= committed, f"the state file names {state.all}"

    async def sweep(self) -> set[str]:
        """Sweep, as of tomorrow; return the keys that are there after it, and expect no open upload."""
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        found = await find_orphans(self.backend, older_than=timedelta(0), now=tomorrow)
        await remove_orphans(self.backend, found)
        if isinstance(self.backend, MultipartBackend):
            uploads = [info.key async for info in self.backend.list_uploads()]
            assert uploads == [], f"uploads are open after the sweep: {uploads}"
        return {info.key async for info in self.backend.list()}

    async def parts_told(self) -> set[int]:
        """Return the numbers of the parts of open uploads that the store has."""
        numbers: set[int] = set()
        if isinstance(self.backend, MultipartBackend):
            async for info in self.backend.list_uploads():
                upload = await self.backend.open_upload(info.key, info.upload_id)
                numbers |= {part.number for part in await upload.parts()}
        return numbers

    async def steps(self) -> list[int]:
        """Return the committed steps."""
        return [entry.step for entry in entries_among([info.key async for info in self.backend.list()])]


class _SimulatedClock(Clock):
    """Be a time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def time(self) -> float:
        """Return the time slept so far."""
        return self.now

    async def sleep(self, secs: float) -> None:
        """Let it pass at once."""
        self.now += secs
        await asyncio.sleep(0)


_backend: ContextVar[Backend] = ContextVar("_backend")


def _open(url: StorageURL) -> Backend:
    """Open what the rehearsal in this context saves to."""
    return _backend.get()


class _Files(Snapshot):
    """Be a snapshot of files in memory, by what follows the prefix and a dot."""

    def __init__(self, step: int, files: Mapping[str, bytes]) -> None:
        self.step = step
        self._files = files

    def stage(self, folder: Path, prefix: str) -> Iterator[StagedFile]:
        """Write them."""
        for name, data in self._files.items():
            path = folder / f"{prefix}.{name}"
            path.write_bytes(data)
            yield StagedFile(key=path.name, path=path, size=len(data))

    def release(self) -> None:
        """Let go of nothing."""


def _content(step: int, size: int) -> dict[str, bytes]:
    """Make the files of a step; no two blocks are alike."""
    return {_DATA: random.Random(step).randbytes(size), "index": b"index of %d" % step}
