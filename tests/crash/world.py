"""A world for crash tests: one run in one store, one staging folder on one disk, and processes that train."""

from __future__ import annotations

import copy
import os
import shutil
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ackpt import Checkpointer, KeepLast, Queue
from ackpt.checkpoint.restore import restore_checkpoint
from ackpt.checkpoint.staged import StagedFile
from ackpt.checkpoint.sweep import find_orphans, remove_orphans
from ackpt.events import Committed, Event, Staged
from ackpt.options import TransferOptions
from ackpt.snapshot.base import Snapshot
from ackpt.testing import inject
from ackpt.transfer.context import Transfer
from tests.crash.disk import Disk
from tests.crash.machine import Machine, Moments
from tests.crash.promises import BrokenPromise, Promises, check_staging
from tests.engine.runs import Run

PART_BYTES = 1024


def content(step: int) -> dict[str, bytes]:
    """Make the files of the checkpoint of `step`: one of three parts, and three small ones."""
    mark = b"%08d" % step
    return {
        "data-00000-of-00002": mark * (PART_BYTES // 4 + 64),
        "data-00001-of-00002": mark * 8,
        "index": b"index " + mark,
        "meta": b"graph",
    }


class World:
    """Hold what outlives a process, the store and the disk, and what was promised to whoever trains.

    Retention keeps one checkpoint, so that every commit but the first is followed by a deletion.
    """

    def __init__(self, root: Path) -> None:
        root.mkdir()
        self._root = root
        self.machine = Machine()
        self.disk = Disk(root / "disk", self.machine)
        self.run = Run()
        self.store = self.run.store
        self.store.delete_limit = 1  # a store may die in the middle of a longer deletion, too
        self._promises = Promises(self._objects, content)
        self._staged: set[int] = set()
        self._sent: Counter[str] = Counter()
        self._lives = 0
        self._broken: BrokenPromise | None = None

    def train(self, goal: int, *, kill_at: int | None = None) -> bool:
        """Run a process that saves what is missing up to step `goal`; tell whether it was killed.

        Raises:
            BrokenPromise: a reader would have seen something torn; what was staged before is not
                committed when the process has started; or a save does not end committed.
        """
        due = max((step for step in self._staged if step > self._promises.newest), default=0)
        self.run.script = Moments(self.machine, self._look)
        checkpointer = Checkpointer(
            f"{self.run.url.partition('?')[0]}?part_size={PART_BYTES}&concurrency=1",
            retention=KeepLast(1),
            overlap=Queue(1),
            staging_dir=self.disk.root,
        )
        checkpointer.subscribe(self._take_note)

        async def life() -> None:
            async with checkpointer:
                if self._promises.newest < due:
                    raise BrokenPromise(f"step {due} was staged, and the next start did not commit it")
                self._promises.check_state()
                for step in range(self._promises.newest + 1, goal + 1):
                    outcome = await (await checkpointer.submit(OnDisk(step)))
                    if not isinstance(outcome, Committed):
                        raise BrokenPromise(f"step {step} was not saved: {outcome}")
                await checkpointer.wait()

        try:
            return self._live(life, kill_at)
        finally:
            checkpointer._staging.unlock()  # as the kernel does when a process dies
            self.disk.reap()

    def sweep(self, *, kill_at: int | None = None) -> bool:
        """Run a process that sweeps what nobody has touched for a day; tell whether it was killed."""
        self.run.script = Moments(self.machine, self._look)

        async def life() -> None:
            backend = inject(self.store, self.run.script)
            tomorrow = datetime.now(UTC) + timedelta(days=1)
            found = await find_orphans(backend, older_than=timedelta(hours=1), now=tomorrow)
            await remove_orphans(backend, found)

        self._sent.clear()  # a sweep may take what a resume would have gone on with
        return self._live(life, kill_at)

    def check_restore(self) -> None:
        """Make sure that a reader gets the newest committed checkpoint, whole, or a clear nothing.

        Raises:
            BrokenPromise: it does not.
        """
        self._promises.check_readers()
        newest = self._promises.newest
        folder = self._root / "read"

        async def read() -> None:
            prefix = await restore_checkpoint(self.store, folder, Transfer.start(TransferOptions()))
            if (None if prefix is None else prefix.name) != (f"ckpt-{newest}" if newest else None):
                raise BrokenPromise(f"a reader restores {prefix}, and step {newest} is the newest")
            for name, data in content(newest).items() if prefix is not None else ():
                if Path(f"{prefix}.{name}").read_bytes() != data:
                    raise BrokenPromise(f"a reader gets other bytes for {prefix}.{name}")

        with self.disk.watch():
            Machine().run(read)

    def check_end(self, goal: int) -> None:
        """Make sure that all is saved, and that a sweep leaves nothing behind.

        Raises:
            BrokenPromise: it is not, or does.
        """
        (folder,) = self.disk.root.iterdir()
        check_staging(folder)
        self.sweep()
        self._promises.check_readers()
        if set(self._promises.committed()) != {goal}:
            raise BrokenPromise(f"committed are {sorted(self._promises.committed())}, expected {goal}")
        self._promises.check_swept(len(self.store.store.uploads))

    @property
    def staged(self) -> frozenset[int]:
        """Return the steps that whoever trains was told are staged."""
        return frozenset(self._staged)

    def keep(self) -> Callable[[], None]:
        """Return what makes the world again what it is now, as often as it is called."""
        store = self.store.store
        objects, uploads = dict(store.objects), copy.deepcopy(store.uploads)
        staged, sent, lives = set(self._staged), Counter(self._sent), self._lives
        bring_back_disk = self.disk.keep()

        def bring_back() -> None:
            store.objects, store.uploads = dict(objects), copy.deepcopy(uploads)
            self._staged, self._sent, self._lives = set(staged), Counter(sent), lives
            bring_back_disk()
            shutil.rmtree(self._root / "read", ignore_errors=True)

        return bring_back

    def _objects(self) -> dict[str, bytes]:
        """Return the run's objects as the store has them, by key."""
        base = self.store.name_of("x").removesuffix("x")
        return {name.removeprefix(base): each.data for name, each in self.store.store.objects.items()}

    def _live(self, life: Callable[[], Coroutine[Any, Any, None]], kill_at: int | None) -> bool:
        with self.disk.watch():
            killed = self.machine.run(life, kill_at=kill_at)
        if self._broken is not None:
            raise self._broken
        self._count()
        return killed

    def _look(self) -> None:
        """Be all readers, at once; what they find is raised when the process has ended."""
        try:
            self._promises.check_readers()
        except BrokenPromise as error:
            self._broken = self._broken or error

    def _count(self) -> None:
        """Make sure that of what was staged at most one part for each death is sent again."""
        self._lives += 1
        for request in self.run.script.requests("put*", "*.data-*"):
            self._sent[request.key] += 1
        for key in [key for key in self._sent if _step(key) not in self._staged]:
            del self._sent[key]  # its save was not promised yet, and begins anew
        for key, count in self._sent.items():
            parts = -(-len(content(_step(key))[key.partition(".")[2]]) // PART_BYTES)
            if count > parts + self._lives - 1:
                raise BrokenPromise(f"{key} has {parts} parts; {count} were sent in {self._lives} lives")

    def _take_note(self, event: Event) -> None:
        if isinstance(event, Staged) and not self.machine.dead:
            self._staged.add(event.step)


class OnDisk(Snapshot):
    """Be a snapshot whose files are written as a worker writes them: opened, written, closed."""

    def __init__(self, step: int) -> None:
        self.step = step

    def stage(self, folder: Path, prefix: str) -> Iterator[StagedFile]:
        """Write file after file."""
        for name, data in content(self.step).items():
            path = folder / f"{prefix}.{name}"
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                os.write(fd, data)
            finally:
                os.close(fd)
            yield StagedFile(key=path.name, path=path, size=len(data))

    def release(self) -> None:
        """Let go of nothing."""


def _step(key: str) -> int:
    return int(key.partition(".")[0].rpartition("-")[2])
