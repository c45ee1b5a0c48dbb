"""Several writers, readers, pins and sweeps on one run, against a model of a few dozen lines.

The model knows steps and contents, who holds the run, what is pinned, and how many a writer keeps.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import tempfile
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
)

from ackpt import Checkpointer, KeepLast, Queue, Tolerate
from ackpt.backends.memory import MemoryBackend
from ackpt.checkpoint import fence, state_file
from ackpt.checkpoint.hold import pin, pinned, unpin
from ackpt.checkpoint.manifest import SUFFIX, Manifest
from ackpt.checkpoint.restore import restore_checkpoint
from ackpt.checkpoint.staged import StagedFile
from ackpt.checkpoint.state_file import StateFile
from ackpt.checkpoint.sweep import find_orphans, remove_orphans
from ackpt.errors import FencedError, NotFoundError, StepConflictError
from ackpt.events import Committed, Failed
from ackpt.options import TransferOptions
from ackpt.snapshot.base import Snapshot
from ackpt.transfer.body import BytesBody
from ackpt.transfer.context import Transfer
from ackpt.url import StorageURL

T = TypeVar("T")

EXAMPLES = int(os.environ.get("ACKPT_MODEL_EXAMPLES", "60"))
"""More than these are drawn at random; these are the same every time."""


@dataclass(eq=False)
class Writer:
    """Be one writer, and what the model knows of it."""

    checkpointer: Checkpointer
    attempt: int
    keep: int
    own_newest: int | None = None


@dataclass
class Model:
    """Be what a run is thought to be."""

    committed: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Content and the writer's attempt, by step."""
    state: int | None = None
    holder: Writer | None = None
    pins: set[int] = field(default_factory=set)
    attempts: int = 0

    def save(self, writer: Writer, step: int, content: int) -> tuple[type[Exception], ...]:
        """Return the errors that a save may end with; where there are none it commits.

        A writer that was replaced does not know what was committed since, and may see either first.
        """
        if writer is not self.holder:
            return FencedError, StepConflictError
        there = self.committed.get(step)
        newest = max(self.committed, default=0)
        if writer.own_newest is None and step < newest and there is None:
            return (StepConflictError,)
        if there is not None and there[0] != content:
            return (StepConflictError,)
        self.committed.setdefault(step, (content, writer.attempt))
        self.state = max(step, self.state or 0)
        writer.own_newest = max(step, writer.own_newest or 0)
        mine = sorted(each for each in self.committed if each <= writer.own_newest)
        for each in mine[: -writer.keep]:
            if each not in self.pins:
                del self.committed[each]
        return ()


class Writers(RuleBasedStateMachine):
    """Do with a run what several programs may do, in any order."""

    writers: Bundle[Writer] = Bundle("writers")

    def __init__(self) -> None:
        super().__init__()
        logging.disable(logging.WARNING)
        self._loop = asyncio.new_event_loop()
        self._folder = Path(tempfile.mkdtemp(prefix="ackpt-model-"))
        self._model = Model()
        self._foreign: dict[str, bytes] = {}
        self._open: list[Writer] = []

    @initialize(number=st.integers(0, 1 << 60))
    def begin(self, number: int) -> None:
        """Begin with an empty run."""
        self._url = f"memory://model-{id(self)}-{number}/run"
        self._store = MemoryBackend.from_url(StorageURL.parse(self._url))
        self._store.store.objects.clear()

    @precondition(lambda self: len(self._open) < 3)
    @rule(target=writers, keep=st.integers(1, 3))
    def start(self, keep: int) -> Writer:
        """Let another writer take the run over, on another machine."""
        folder = self._folder / f"machine-{self._model.attempts}"
        checkpointer = Checkpointer(
            self._url,
            retention=KeepLast(keep),
            overlap=Queue(1),
            staging_dir=folder,
            failure=Tolerate(1000),
        )
        self._run(checkpointer.start())
        self._model.attempts += 1
        writer = Writer(checkpointer, self._model.attempts, keep)
        self._model.holder = writer
        self._open.append(writer)
        return writer

    @rule(writer=writers, ahead=st.integers(-3, 3), content=st.integers(0, 1))
    def save(self, writer: Writer, ahead: int, content: int) -> None:
        """Save a step near the newest one, and compare what comes of it."""
        self._save(writer, max(0, max(self._model.committed, default=0) + ahead), content)

    def _save(self, writer: Writer, step: int, content: int) -> None:

        async def save() -> object:
            outcome = await (await writer.checkpointer.submit(Text(step, content)))
            await writer.checkpointer.wait(30)
            return outcome

        already = self._model.committed.get(step, (None,))[0] == content
        expected = self._model.save(writer, step, content)
        outcome = self._run(save())
        if expected:
            assert isinstance(outcome, Failed), (outcome, expected)
            assert isinstance(outcome.error, expected), outcome.error
        else:
            assert isinstance(outcome, Committed), outcome
            assert outcome.already == already

    @precondition(lambda self: self._model.holder in self._open)
    @rule(steps=st.integers(1, 4))
    def train(self, steps: int) -> None:
        """Let the writer that holds the run save the next steps."""
        assert self._model.holder is not None
        for _ in range(steps):
            self._save(self._model.holder, max(self._model.committed, default=0) + 1, 0)

    @rule(writer=consumes(writers))
    def close(self, writer: Writer) -> None:
        """End a writer; the run stays its own until another takes it over."""
        self._open.remove(writer)
        self._run(writer.checkpointer.aclose())

    @precondition(lambda self: self._model.committed)
    @rule(number=st.integers(0, 4))
    def pin(self, number: int) -> None:
        """Pin a step that is there."""
        steps = sorted(self._model.committed)
        step = steps[number % len(steps)]
        self._run(pin(self._store, step))
        self._model.pins.add(step)

    @rule(step=st.integers(0, 9))
    def pin_what_is_not_there(self, step: int) -> None:
        """Fail to pin a step that is not there."""
        if step not in self._model.committed:
            with pytest.raises(NotFoundError):
                self._run(pin(self._store, step))

    @rule(step=st.integers(0, 9))
    def unpin(self, step: int) -> None:
        """Take a pin back, where there is one."""
        assert bool(self._run(unpin(self._store, step))) == (step in self._model.pins)
        self._model.pins.discard(step)

    @rule(name=st.sampled_from(["notes.txt", "ckpt-x", "other-3.index", "ckpt-3", "ckpt-30.index"]))
    def put_foreign(self, name: str) -> None:
        """Put something of somebody else's beside the checkpoints."""
        self._foreign[name] = b"theirs"
        self._run(self._store.put(name, BytesBody(b"theirs")))

    @rule()
    def sweep(self) -> None:
        """Sweep: there is nothing that a dead writer has left."""
        found = self._run(find_orphans(self._store, older_than=timedelta(0)))
        self._run(remove_orphans(self._store, found))

    @rule()
    def restore(self) -> None:
        """Restore as a reader does that knows nothing."""
        transfer = Transfer.start(TransferOptions())
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            prefix = self._run(restore_checkpoint(self._store, Path(folder), transfer))
            newest = max(self._model.committed, default=None)
            assert (prefix.name if prefix is not None else None) == (
                f"ckpt-{newest}" if newest is not None else None
            )
            if prefix is not None and newest is not None:
                content = self._model.committed[newest][0]
                assert Path(f"{prefix}.index").read_bytes() == text(newest, content)

    @invariant()
    def what_is_committed_is_what_the_model_says(self) -> None:
        """Compare the run with the model."""
        if not hasattr(self, "_store"):
            return
        objects = {n.removeprefix("run/"): o.data for n, o in self._store.store.objects.items()}
        manifests = [Manifest.from_json(objects[k], key=k) for k in objects if k.endswith(SUFFIX)]
        found = {
            each.step: (int(objects[f"{each.prefix}.index"].rpartition(b" ")[2]), each.attempt)
            for each in manifests
        }
        assert found == self._model.committed
        for step, (content, _) in self._model.committed.items():
            assert objects[f"ckpt-{step}.index"] == text(step, content)
            assert objects[f"ckpt-{step}.data-00000-of-00001"] == text(step, content) * 10
        state = StateFile.from_text(objects.get(state_file.KEY, b""))
        assert (None if state is None else state.step) == self._model.state
        assert self._model.state is None or self._model.state in found, "the state file names what is gone"
        assert {key: objects.get(key) for key in self._foreign} == self._foreign
        assert set(self._run(pinned(self._store))) == {f"ckpt-{step}" for step in self._model.pins}
        claim = self._run(fence.read_claim(self._store))
        assert (0 if claim is None else claim.attempt) == self._model.attempts

    def teardown(self) -> None:
        """Close what is open."""
        for writer in self._open:
            self._run(writer.checkpointer.aclose())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()
        shutil.rmtree(self._folder)
        logging.disable(logging.NOTSET)

    def _run(self, work: Awaitable[T]) -> T:
        async def limited() -> T:
            async with asyncio.timeout(30):
                return await work

        return self._loop.run_until_complete(limited())


class Text(Snapshot):
    """Be a small checkpoint of a step, in one of two versions."""

    def __init__(self, step: int, content: int) -> None:
        self.step = step
        self._content = content

    def stage(self, folder: Path, prefix: str) -> Iterator[StagedFile]:
        """Write file after file."""
        data = text(self.step, self._content)
        for name, written in {"data-00000-of-00001": data * 10, "index": data}.items():
            path = folder / f"{prefix}.{name}"
            path.write_bytes(written)
            yield StagedFile(key=path.name, path=path, size=len(written))

    def release(self) -> None:
        """Let go of nothing."""


def text(step: int, content: int) -> bytes:
    """Make the bytes of a step, in one of two versions."""
    return b"step %d, version %d" % (step, content)


TestWriters = Writers.TestCase
TestWriters.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=30,
    deadline=None,
    derandomize="ACKPT_MODEL_EXAMPLES" not in os.environ,
    suppress_health_check=list(HealthCheck),
)
