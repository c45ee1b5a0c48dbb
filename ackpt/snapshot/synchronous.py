"""A snapshot by the saver itself: what is left for savers whose graph does not tell what they write.

The V1 format, a `save` of the user's own, a builder with other ops: the saver writes to a private
local folder while the trainer waits, and the files are taken over from there.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf

from ackpt.checkpoint.staged import StagedFile
from ackpt.errors import SnapshotError
from ackpt.snapshot.base import Snapshot
from ackpt.snapshot.tensorflow_errors import translate

_NAME = "ckpt"
_PREFIX = re.compile(rf"^{_NAME}-\d+")  # a saver with pad_step_number writes 00001000 for 1000


class SavedSnapshot(Snapshot):
    """Hold the private folder that a saver wrote one step to."""

    def __init__(self, folder: Path, *, step: int) -> None:
        self.step = step
        self._folder = folder

    @classmethod
    def make(
        cls,
        saver: tf.compat.v1.train.Saver,
        session: tf.compat.v1.Session,
        *,
        step: int,
        write_meta_graph: bool,
        scratch_dir: Path | None,
    ) -> SavedSnapshot:
        """Let `saver` write the state as it is now; on the trainer thread, which waits for it.

        The saver neither writes a state file nor deletes what it wrote before. The folder is made
        in `scratch_dir`, or where temporary files go.

        Raises:
            SnapshotError: the saver wrote nothing; or what it raised itself.
        """
        if scratch_dir is not None:
            scratch_dir.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="ackpt-", dir=scratch_dir))
        try:
            saver.save(
                session,
                str(folder / _NAME),
                global_step=step,
                write_meta_graph=write_meta_graph,
                write_state=False,
            )
            if not any(_PREFIX.match(path.name) for path in folder.iterdir()):
                raise SnapshotError(
                    f"{type(saver).__qualname__}.save() wrote no file for step {step} "
                    f"(expected {_NAME}-{step}…); a saver without variables cannot be used",
                    step=step,
                )
        except BaseException:
            shutil.rmtree(folder)
            raise
        return cls(folder, step=step)

    def stage(self, folder: Path, prefix: str) -> Iterator[StagedFile]:
        """Move the files over, the data first, then the index, then the meta graph."""
        try:
            for path in sorted(self._folder.iterdir(), key=_visibility):
                name, ours = _PREFIX.subn(prefix, path.name)
                if not ours:
                    continue
                final = folder / name
                shutil.move(path, final)
                yield StagedFile(key=name, path=final, size=final.stat().st_size)
        except OSError as error:
            raise translate(error, step=self.step, doing="staging") from error

    def release(self) -> None:
        """Remove the private folder."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _visibility(path: Path) -> tuple[int, str]:
    return {".index": 1, ".meta": 2}.get(path.suffix, 0), path.name
