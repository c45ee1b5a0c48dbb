"""What the tests of troubles share: checkpoints to be saved, and a look at what came of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

from ackpt.backends.base import Backend
from ackpt.checkpoint.catalog import read_object
from ackpt.checkpoint.staged import StagedFile
from ackpt.options import KiB
from ackpt.snapshot.base import Snapshot
from tests.crash.promises import Promises


class State(Snapshot):
    """Be state of a step; `size` is that of its data file."""

    def __init__(self, step: int, size: int = 300 * KiB) -> None:
        self.step = step
        self._size = size

    def stage(self, folder: Path, prefix: str) -> Iterator[StagedFile]:
        """Write file after file."""
        for name, data in content(self.step, self._size).items():
            path = folder / f"{prefix}.{name}"
            path.write_bytes(data)
            yield StagedFile(key=path.name, path=path, size=len(data))

    def release(self) -> None:
        """Let go of nothing."""


def content(step: int, size: int = 300 * KiB) -> dict[str, bytes]:
    """Make the files of the checkpoint of `step`."""
    mark = b"%08d" % step
    return {"data-00000-of-00001": mark * (size // 8), "index": mark * 4}


async def check_whole(backend: Backend, *, newest: int, size: int = 300 * KiB) -> None:
    """Make sure that what is committed is whole, TensorFlow's state file is true, and `newest` is there."""
    async with aclosing(backend.list()) as objects:
        keys = [info.key async for info in objects]
    stored = {key: await read_object(backend, key) for key in keys}
    promises = Promises(lambda: stored, lambda step: content(step, size))
    promises.check_readers()
    promises.check_state()
    assert promises.newest == newest
