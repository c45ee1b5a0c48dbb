"""A snapshot by the saver itself: what is left for savers whose graph does not tell what they write.

A `save` of the user's own, a builder with other ops: the saver writes to a private local folder
while the trainer waits, and the files are taken over from there.
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
_PREFIX = re.compile(rf"^{_NAME}-\d+(?=\.)")  # a saver with pad_step_number writes 00001000 for 1000


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
            SnapshotError: the saver wrote no checkpoint, or one in the V1 format, whose files cannot
                be told from other files of the run; or what the saver raised itself.
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
            written = sorted(path.name for path in folder.iterdir())
            if not written or not all(_PREFIX.match(name) for name in written):
                raise SnapshotError(
                    f"{type(saver).__qualname__}.save() did not write a checkpoint in the V2 format for "
                    f"step {step}: expected {_NAME}-{step}.index and its data files, got "
                    f"{', '.join(written) or 'nothing'}; give the hook a saver that has variables and "
                    "writes V2 (the default)",
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
                name = _PREFIX.sub(prefix, path.name)
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
