"""A snapshot that copies nothing: session handles hold the tensors of one step until they are written.

Resource variables are copy-on-write: a read shares the variable's buffer, and the next update of a
variable whose buffer is shared goes to a fresh one. `GetSessionHandle` keeps such reads alive after
the `session.run` that made them; a worker writes them later with `SaveV2` on `GetSessionTensor`.
What is not copy-on-write is copied in memory first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from ackpt.checkpoint.staged import StagedFile
from ackpt.errors import SnapshotError
from ackpt.snapshot.base import Snapshot
from ackpt.snapshot.bundle import stage_bundle, stage_bytes
from ackpt.snapshot.meta_graph import SCOPE
from ackpt.snapshot.saver_graph import SavedTensor
from ackpt.snapshot.shards import plan_shards
from ackpt.snapshot.tensorflow_errors import translate

_log = logging.getLogger(__name__)

# Kernels run in the calling thread where the session has one device: pinning saves the hops, and a
# save does not occupy a thread of the pool that the training step needs. Documented at
# `RunOptions.inter_op_thread_pool`,
# https://github.com/tensorflow/tensorflow/blob/v2.15.1/tensorflow/core/protobuf/config.proto
_IN_CALLER = tf.compat.v1.RunOptions(inter_op_thread_pool=-1)

Pin = Callable[[], list[str]]
"""Pin the state as it is now, and return the handles; on the trainer thread."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Shard:
    """Hold the ops of one shard: `handles` and `prefix` are fed, `save` writes, `delete` lets go."""

    indexes: tuple[int, ...]
    handles: tf.Tensor
    prefix: tf.Tensor
    save: tf.Operation
    delete: tf.Operation


class PinningOps:
    """Be the ops that pin, write and let go of a saver's tensors; made once for a graph."""

    def __init__(self, graph: tf.Graph, tensors: Sequence[SavedTensor], *, shard_bytes: int) -> None:
        """Add the ops to `graph`, which is finalised again afterwards if it was before.

        No session of the graph loses anything by it. On the trainer thread.

        Raises:
            InvalidOptionError: `shard_bytes` is below 1.
        """
        with _reopened(graph):
            self._handles = [_add_handle(graph, each) for each in tensors]
            self._shards = [_add_shard(graph, tensors, indexes) for indexes in _group(tensors, shard_bytes)]
            with graph.device("/device:CPU:0"):
                self._parts = tf.compat.v1.placeholder(tf.string, [None], name="parts")
                self._merged = tf.compat.v1.placeholder(tf.string, [], name="merged")
                self._merge = tf.raw_ops.MergeV2Checkpoints(
                    checkpoint_prefixes=self._parts,
                    destination_prefix=self._merged,
                    delete_old_dirs=False,
                )

    @property
    def shards(self) -> int:
        """Return how many data files a checkpoint has."""
        return len(self._shards)

    def bind(self, session: tf.compat.v1.Session) -> Pin:
        """Return the function that pins in `session`; it keeps the session alive."""
        run = session.make_callable(self._handles, accept_options=True)

        def pin() -> list[str]:
            # `get_raw_handle` takes the handle away from TensorFlow's own garbage collection, which
            # would add an op to the finalised graph
            return [str(handle.get_raw_handle()) for handle in run(options=_IN_CALLER)]

        return pin

    def write(
        self, session: tf.compat.v1.Session, handles: Sequence[str | None], shard: int, prefix: str
    ) -> None:
        """Write a shard as a bundle at `prefix`; on a worker."""
        ops = self._shards[shard]
        feed = {ops.handles: [handles[index] for index in ops.indexes], ops.prefix: prefix}
        session.run(ops.save, feed, options=_IN_CALLER)

    def delete(self, session: tf.compat.v1.Session, handles: list[str | None], shard: int) -> None:
        """Let go of a shard's tensors, and forget their handles; on a worker. Again is nothing."""
        ops = self._shards[shard]
        mine = [handles[index] for index in ops.indexes]
        for index in ops.indexes:
            handles[index] = None
        if None not in mine:
            session.run(ops.delete, {ops.handles: mine}, options=_IN_CALLER)

    def merge(self, session: tf.compat.v1.Session, prefixes: Sequence[str], prefix: str) -> None:
        """Join the bundles at `prefixes` into one at `prefix`; on a worker."""
        session.run(self._merge, {self._parts: list(prefixes), self._merged: prefix}, options=_IN_CALLER)


class PinnedSnapshot(Snapshot):
    """Hold the handles of one step's tensors."""

    def __init__(
        self,
        ops: PinningOps,
        session: tf.compat.v1.Session,
        handles: Sequence[str],
        *,
        step: int,
        meta_graph: bytes | None,
    ) -> None:
        self.step = step
        self._ops = ops
        self._session: tf.compat.v1.Session | None = session
        self._handles: list[str | None] = list(handles)
        self._meta_graph = meta_graph

    @property
    def shards(self) -> int:
        """Return how many data files there will be."""
        return self._ops.shards

    @property
    def released(self) -> bool:
        """Tell whether the session is no longer needed; from any thread."""
        return self._session is None

    def stage(self, folder: Path, prefix: str) -> Iterator[StagedFile]:
        """Write the tensors shard by shard, each let go of before its file is yielded."""
        try:
            yield from stage_bundle(self, folder, prefix, step=self.step)
            if self._meta_graph is not None:
                yield stage_bytes(self._meta_graph, folder / f"{prefix}.meta")
        except Exception as error:
            raise translate(error, step=self.step, doing="staging") from error

    def write(self, shard: int, prefix: str) -> None:
        """Write a shard as a bundle at `prefix`, and let go of its tensors."""
        session = self._pinned_in()
        self._ops.write(session, self._handles, shard, prefix)
        self._ops.delete(session, self._handles, shard)

    def merge(self, prefixes: Sequence[str], prefix: str) -> None:
        """Join the bundles at `prefixes` into one at `prefix`."""
        self._ops.merge(self._pinned_in(), prefixes, prefix)

    def release(self) -> None:
        """Let go of the tensors that have not been written, and of the session."""
        session = self._session
        if session is None:
            return
        for shard in range(self._ops.shards):
            try:
                self._ops.delete(session, self._handles, shard)
            except Exception as error:
                # a closed session lets go of its tensors by itself; whatever else it is, nobody
                # can do anything about it, and a save must not fail of it
                _log.debug("tensors of step %d could not be let go of: %s", self.step, error)
        self._session = None

    def _pinned_in(self) -> tf.compat.v1.Session:
        if self._session is None:
            raise SnapshotError(f"the snapshot of step {self.step} has been released", step=self.step)
        return self._session


@contextmanager
def _reopened(graph: tf.Graph) -> Iterator[None]:
    """Let ops be added to `graph`, clear of whatever its user is in the middle of building."""
    finalized = graph.finalized
    graph._unsafe_unfinalize()
    try:
        with (
            graph.as_default(),
            graph.name_scope(f"{SCOPE}/"),
            graph.device(None),
            graph.control_dependencies(None),
        ):
            yield
    finally:
        if finalized:
            graph.finalize()


def _add_handle(graph: tf.Graph, saved: SavedTensor) -> tf.Tensor:
    tensor = saved.tensor
    if not saved.copy_on_write:
        with graph.device(tensor.op.device):
            tensor = tf.raw_ops.DeepCopy(x=tensor)
    with graph.device(saved.device):
        return tf.raw_ops.GetSessionHandle(value=tensor)


def _group(tensors: Sequence[SavedTensor], shard_bytes: int) -> Iterator[tuple[int, ...]]:
    """Plan the shards of each save op on its own: it is bound to a device, and so are its tensors.

    Frozen variables get shards apart, whose bytes are the same at every save.
    """
    by_op: dict[tuple[tf.Operation, bool], list[int]] = {}
    for index, each in enumerate(tensors):
        by_op.setdefault((each.save_op, each.frozen), []).append(index)
    for indexes in by_op.values():
        for shard in plan_shards([tensors[index].size for index in indexes], shard_bytes):
            yield tuple(indexes[each] for each in shard)


def _add_shard(graph: tf.Graph, tensors: Sequence[SavedTensor], indexes: tuple[int, ...]) -> _Shard:
    mine = [tensors[index] for index in indexes]
    with graph.device(mine[0].device):
        handles = tf.compat.v1.placeholder(tf.string, [len(mine)], name="handles")
        prefix = tf.compat.v1.placeholder(tf.string, [], name="prefix")
        each_handle = tf.unstack(handles, num=len(mine))
        save = tf.raw_ops.SaveV2(
            prefix=prefix,
            tensor_names=[each.name for each in mine],
            shape_and_slices=[each.slice_spec for each in mine],
            tensors=[
                tf.raw_ops.GetSessionTensor(handle=handle, dtype=each.dtype)
                for handle, each in zip(each_handle, mine, strict=True)
            ],
        )
        delete = tf.group(*[tf.raw_ops.DeleteSessionTensor(handle=handle) for handle in each_handle])
    return _Shard(indexes=indexes, handles=handles, prefix=prefix, save=save, delete=delete)
