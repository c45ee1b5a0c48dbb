"""A training session, and a worker that stages snapshots while it goes on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import tensorflow as tf

from ackpt.snapshot.base import Snapshot
from ackpt.snapshot.meta_graph import describe_graph
from ackpt.snapshot.tensorflow_graph import GraphSnapshotter
from bench.mixes import Mix, build, session_config

tf1 = tf.compat.v1
TF1_BEHAVIOUR = "ACKPT_TESTS_WITH_TF1_BEHAVIOUR"

if os.environ.get(TF1_BEHAVIOUR):
    tf1.disable_v2_behavior()


@dataclass
class Training:
    """Hold a monitored session, the raw one in it, and what trains."""

    monitored: tf1.train.MonitoredSession
    session: tf1.Session
    saver: tf1.train.Saver
    train: tf.Operation
    worker: ThreadPoolExecutor
    steps: int = 0
    staging: list[Future[list[str]]] = field(default_factory=list)

    def run(self, steps: int) -> None:
        """Train for some steps."""
        for _ in range(steps):
            self.monitored.run(self.train)
        self.steps += steps

    def snapshotter(self, shard_bytes: int = 1 << 20, *, meta: bool = False) -> GraphSnapshotter:
        """Make a snapshotter of the session's saver."""
        meta_graph = None
        if meta:
            meta_graph = describe_graph(self.session.graph, self.saver).meta_graph.SerializeToString()
        made = GraphSnapshotter(self.saver, shard_bytes=shard_bytes, meta_graph=meta_graph)
        made.prepare(self.session)
        return made

    def stage(self, snapshot: Snapshot, folder: Path) -> Future[list[str]]:
        """Stage a snapshot on the worker; the result is the names of the files, in their order."""
        future = self.worker.submit(stage, snapshot, folder)
        self.staging.append(future)
        return future


def stage(snapshot: Snapshot, folder: Path) -> list[str]:
    """Stage a snapshot and release it, as the engine does, and return the names of the files."""
    try:
        return [file.key for file in snapshot.stage(folder, f"model.ckpt-{snapshot.step}")]
    finally:
        snapshot.release()


@contextmanager
def training(
    mix: Mix, *, sharded: bool | None = None, master: str = "", saver: tf1.train.Saver | None = None
) -> Iterator[Training]:
    """Train a model of `mix` in a session of its own graph."""
    with tf.Graph().as_default(), ThreadPoolExecutor(1) as worker:
        train = build(mix)
        made = saver or tf1.train.Saver(sharded=mix.devices > 1 if sharded is None else sharded)
        with tf1.train.MonitoredTrainingSession(
            master=master,
            scaffold=tf1.train.Scaffold(saver=made),
            config=session_config(mix) if not master else None,
        ) as monitored:
            yield Training(monitored, monitored._tf_sess(), made, train, worker)
