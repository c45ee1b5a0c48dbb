"""A snapshot in host memory: what is left where tensors cannot be pinned, as in a remote session.

One `session.run` fetches all tensors, so they are of one step; the trainer waits for the copy, and
host memory holds it until it is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from ackpt.checkpoint.staged import StagedFile
from ackpt.errors import SnapshotError
from ackpt.snapshot.base import Snapshot
from ackpt.snapshot.bundle import stage_bundle, stage_bytes
from ackpt.snapshot.saver_graph import SavedTensor
from ackpt.snapshot.shards import plan_shards
from ackpt.snapshot.tensorflow_errors import translate


class FetchedSnapshot(Snapshot):
    """Hold the values of one step's tensors in host memory."""

    def __init__(
        self,
        tensors: Sequence[SavedTensor],
        values: Sequence[np.ndarray[tuple[int, ...], np.dtype[np.generic]]],
        *,
        step: int,
        shard_bytes: int,
        meta_graph: bytes | None,
    ) -> None:
        self.step = step
        self._tensors = tensors
        self._values = dict(enumerate(values))
        self._shards = plan_shards([value.nbytes for value in values], shard_bytes)
        self._meta_graph = meta_graph
        self._session: tf.compat.v1.Session | None = None

    @property
    def shards(self) -> int:
        """Return how many data files there will be."""
        return len(self._shards)

    def stage(self, folder: Path, prefix: str) -> Iterator[StagedFile]:
        """Write the values through a small local session, each let go of before its file is yielded."""
        # a worker of a process with GPUs must not take their memory for this
        config = tf.compat.v1.ConfigProto(device_count={"GPU": 0})
        try:
            with tf.compat.v1.Session(graph=tf.Graph(), config=config) as session:
                self._session = session
                yield from stage_bundle(self, folder, prefix, step=self.step)
            if self._meta_graph is not None:
                yield stage_bytes(self._meta_graph, folder / f"{prefix}.meta")
        except Exception as error:
            raise translate(error, step=self.step, doing="staging") from error
        finally:
            self._session = None

    def write(self, shard: int, prefix: str) -> None:
        """Write a shard as a bundle at `prefix`, and let go of its values."""
        session = self._staging_in()
        indexes = self._shards[shard]
        mine = [self._tensors[index] for index in indexes]
        with session.graph.as_default():
            holders = [tf.compat.v1.placeholder(each.dtype, shape=None) for each in mine]
            save = tf.raw_ops.SaveV2(
                prefix=tf.constant(prefix),
                tensor_names=[each.name for each in mine],
                shape_and_slices=[each.slice_spec for each in mine],
                tensors=holders,
            )
        feed = {holder: self._values.pop(index) for holder, index in zip(holders, indexes, strict=True)}
        session.run(save, feed)

    def merge(self, prefixes: Sequence[str], prefix: str) -> None:
        """Join the bundles at `prefixes` into one at `prefix`."""
        session = self._staging_in()
        with session.graph.as_default():
            merge = tf.raw_ops.MergeV2Checkpoints(
                checkpoint_prefixes=list(prefixes), destination_prefix=prefix, delete_old_dirs=False
            )
        session.run(merge)

    def release(self) -> None:
        """Let go of the values that have not been written."""
        self._values.clear()

    def _staging_in(self) -> tf.compat.v1.Session:
        if self._session is None:
            raise SnapshotError(f"the snapshot of step {self.step} is not being staged", step=self.step)
        return self._session
