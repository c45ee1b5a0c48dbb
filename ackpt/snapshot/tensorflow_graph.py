"""Snapshots of a TensorFlow graph session: pinned where that is possible, consistent everywhere."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from ackpt.options import MiB
from ackpt.snapshot.base import Snapshot
from ackpt.snapshot.fetched import FetchedSnapshot
from ackpt.snapshot.pinned import Pin, PinnedSnapshot, PinningOps
from ackpt.snapshot.saver_graph import SavedTensor, UnreadableSaverError, read_saver
from ackpt.snapshot.shards import plan_shards
from ackpt.snapshot.synchronous import SavedSnapshot
from ackpt.snapshot.tensorflow_errors import SESSION_LOST, reason, translate

_log = logging.getLogger(__name__)

SHARD_BYTES = 256 * MiB


class GraphSnapshotter:
    """Make snapshots of what a saver saves, in the sessions of one graph.

    There are three ways, tried in this order; a warning tells when it is not the first:

    - *pinned*: the trainer pays about a millisecond, plus a copy in memory of what is not
      copy-on-write (reference variables);
    - *fetched*, where the session is remote or cannot hold tensors: the trainer waits until all
      tensors are in host memory;
    - *saved*, where the saver's graph does not tell what it writes (a `save` of its own, other ops
      on the way): the trainer waits until the saver has written a private local copy.

    All methods belong on the trainer thread.
    """

    def __init__(
        self,
        saver: tf.compat.v1.train.Saver,
        *,
        shard_bytes: int = SHARD_BYTES,
        meta_graph: bytes | None = None,
        scratch_dir: Path | None = None,
    ) -> None:
        """Take note of the saver; nothing is added to the graph before `prepare`.

        `shard_bytes` is the size that data files aim at; while one is written, the tensors of those
        already written are no longer held. `meta_graph` is written as `.meta` with every checkpoint
        (None: no such file). `scratch_dir` is where *saved* puts its private copies.

        Raises:
            InvalidOptionError: `shard_bytes` is below 1.
        """
        plan_shards([], shard_bytes)
        self._saver = saver
        self._shard_bytes = shard_bytes
        self._meta_graph = meta_graph
        self._scratch_dir = scratch_dir
        self._tensors: tuple[SavedTensor, ...] = ()
        self._ops: PinningOps | None = None
        self._session: tf.compat.v1.Session | None = None
        self._pin: Pin | None = None
        self._pinned: list[PinnedSnapshot] = []
        self._proven = False
        self._prepared = False

    def prepare(self, session: tf.compat.v1.Session) -> None:
        """Get ready to pin in `session`; call it again for every new session of the same graph.

        The first time it adds ops to the graph, which is finalised again afterwards if it was.
        """
        if not self._prepared:
            self._read(session)
            self._prepared = True
        self._session = session
        self._pin = self._ops.bind(session) if self._ops is not None else None
        self._proven = False

    def pin(self, session: tf.compat.v1.Session, step: int) -> Snapshot:
        """Take a snapshot of the state as it is now; it is never a mix of two steps.

        `session` must not be running a training step meanwhile.

        Raises:
            SnapshotError: the state cannot be read (a variable is not initialised, memory is short).
            tf.errors.AbortedError, tf.errors.UnavailableError: the session is lost; they are passed
                on as they are, so that `MonitoredSession` makes a new one.
        """
        if session is not self._session:
            self.prepare(session)
        try:
            return self._take(session, step)
        except SESSION_LOST:
            raise
        except Exception as error:
            raise translate(error, step=step, doing="taking the snapshot") from error

    def staging(self) -> bool:
        """Tell whether snapshots still need their session, since they are not wholly staged."""
        self._pinned = [each for each in self._pinned if not each.released]
        return bool(self._pinned)

    def close(self) -> None:
        """Let go of the session; `prepare` and `pin` make this usable again."""
        self._session = None
        self._pin = None

    def _read(self, session: tf.compat.v1.Session) -> None:
        try:
            self._tensors = read_saver(session.graph, self._saver)
            _check_types(self._tensors)
        except UnreadableSaverError as error:
            self._tensors = ()
            _log.warning(
                "the saver cannot be read (%s): every snapshot is written by the saver itself to a "
                "local folder, and training waits for that",
                error,
            )
            return
        if _is_remote(session):
            self._warn_fetched("the session is remote")
            return
        self._ops = PinningOps(session.graph, self._tensors, shard_bytes=self._shard_bytes)

    def _take(self, session: tf.compat.v1.Session, step: int) -> Snapshot:
        if not self._tensors:
            return SavedSnapshot.make(
                self._saver,
                session,
                step=step,
                write_meta_graph=self._meta_graph is not None,
                scratch_dir=self._scratch_dir,
            )
        if self._pin is None or self._ops is None:
            return self._fetch(session, step)
        try:
            handles = self._pin()
        except SESSION_LOST:
            raise
        except tf.errors.OpError as error:
            if self._proven:
                raise
            fetched = self._fetch(session, step)
            self._ops = self._pin = None
            self._warn_fetched(f"{type(error).__name__}: {reason(error)}")
            return fetched
        self._proven = True
        pinned = PinnedSnapshot(self._ops, session, handles, step=step, meta_graph=self._meta_graph)
        self._pinned = [each for each in self._pinned if not each.released] + [pinned]
        return pinned

    def _fetch(self, session: tf.compat.v1.Session, step: int) -> Snapshot:
        values = session.run([each.tensor for each in self._tensors])
        return FetchedSnapshot(
            self._tensors,
            values,
            step=step,
            shard_bytes=self._shard_bytes,
            meta_graph=self._meta_graph,
        )

    def _warn_fetched(self, why: str) -> None:
        _log.warning(
            "tensors cannot be pinned in this session (%s): every snapshot is fetched to host memory, "
            "training waits for the copy, and it takes the checkpoint's size in memory until it is written",
            why,
        )


def _check_types(tensors: Sequence[SavedTensor]) -> None:
    """Make sure that all are of types whose values can be held: an iterator's state cannot."""
    for each in tensors:
        if each.tensor.dtype.base_dtype in (tf.variant, tf.resource):
            raise UnreadableSaverError(f"{each.name} is a {each.tensor.dtype.name}")


def _is_remote(session: tf.compat.v1.Session) -> bool:
    target = session.sess_str
    return (target.decode() if isinstance(target, bytes) else str(target)) not in ("", "local")
