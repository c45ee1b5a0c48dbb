"""Where tensors cannot be pinned, snapshots are consistent all the same, and a warning tells the cost."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import tensorflow as tf

from ackpt.errors import SnapshotError, StorageFullError
from ackpt.snapshot.fetched import FetchedSnapshot
from ackpt.snapshot.synchronous import SavedSnapshot
from ackpt.snapshot.tensorflow_graph import GraphSnapshotter
from bench.mixes import Mix, build, read_back
from tests.snapshot.training import stage, tf1, training

MIX = Mix(variables=8, elements=100_000, partitions=2)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Give the target of a real server; TensorFlow has no way to stop one."""
    server = tf.distribute.Server.create_local_server()
    yield server.target
    del server


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name.startswith("ackpt")]


@pytest.mark.parametrize("resource", [True, False])
def test_a_remote_session_is_fetched_whole_with_one_warning(
    server: str, resource: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with training(Mix(variables=8, elements=100_000, resource=resource), master=server) as run:
        snapshotter = run.snapshotter(shard_bytes=1_000_000, meta=True)
        for _ in range(3):
            run.run(2)
            snapshot = snapshotter.pin(run.session, run.steps)
            assert isinstance(snapshot, FetchedSnapshot)
            done = run.stage(snapshot, tmp_path)
            while not done.done():
                run.run(1)
            assert len(done.result()) == 4 + 2
            assert read_back(str(tmp_path / f"model.ckpt-{snapshot.step}")).whole
    (warning,) = _warnings(caplog)
    assert "remote" in warning
    assert "training waits for the copy" in warning
    with tf.Graph().as_default(), tf1.Session() as session:
        saver = tf1.train.import_meta_graph(str(tmp_path / f"model.ckpt-{snapshot.step}.meta"))
        saver.restore(session, str(tmp_path / f"model.ckpt-{snapshot.step}"))


def test_what_cannot_be_copied_in_the_session_is_fetched_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with tf.Graph().as_default(), tf1.Session() as session:
        value = tf.bitcast(tf.constant([1, 2], tf.int8), tf.qint8)
        saver = tf1.train.Saver([tf1.get_variable("q", initializer=value, use_resource=False)])
        session.run(tf1.global_variables_initializer())
        snapshotter = GraphSnapshotter(saver)
        for step in range(3):
            snapshot = snapshotter.pin(session, step)
            assert isinstance(snapshot, FetchedSnapshot)
            assert stage(snapshot, tmp_path)
            saver.restore(session, str(tmp_path / f"model.ckpt-{step}"))
            assert session.run(tf.bitcast(session.graph.get_tensor_by_name("q:0"), tf.int8)).tolist() == [
                1,
                2,
            ]
    (warning,) = _warnings(caplog)
    assert "QINT8" in warning.upper()


def test_strings_are_fetched_and_written(server: str, tmp_path: Path) -> None:
    with tf.Graph().as_default(), tf1.Session(server) as session:
        text = tf1.get_variable("text", initializer=tf.constant(["one", "three"]))
        saver = tf1.train.Saver([text])
        session.run(tf1.global_variables_initializer())
        stage(GraphSnapshotter(saver).pin(session, 1), tmp_path)
    read = tf.train.load_checkpoint(str(tmp_path / "model.ckpt-1")).get_tensor("text")
    assert read.tolist() == [b"one", b"three"]


def test_a_full_disk_fails_a_fetched_snapshot_like_a_pinned_one(server: str, small_disk: Path) -> None:
    with training(Mix(variables=4, elements=1_000_000), master=server) as run:
        snapshot = run.snapshotter().pin(run.session, 3)
        with pytest.raises(StorageFullError, match="no room left while staging of step 3"):
            stage(snapshot, small_disk)
    assert not [name for name in os.listdir(small_disk) if "scratch" in name]


class _Counting(tf1.train.Saver):  # type: ignore[misc]
    saves = 0

    def save(self, *args: object, **kwargs: object) -> object:
        self.saves += 1
        return super().save(*args, **kwargs)


def _other_savers() -> dict[str, object]:
    return {
        "a save of its own": _Counting,
        "a save of its own, sharded": lambda: _Counting(sharded=True),
        "a save of its own, padded": lambda: _Counting(pad_step_number=True),
    }


@pytest.mark.parametrize("kind", _other_savers())
def test_a_saver_that_cannot_be_read_writes_for_itself_with_one_warning(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="ackpt")
    scratch, folder = tmp_path / "scratch", tmp_path / "staging"
    folder.mkdir()
    with tf.Graph().as_default(), tf1.Session() as session:
        train = build(MIX)
        saver = _other_savers()[kind]()  # type: ignore[operator]
        session.run(tf1.global_variables_initializer())
        snapshotter = GraphSnapshotter(saver, meta_graph=b"wanted", scratch_dir=scratch)
        for step in range(3):
            snapshot = snapshotter.pin(session, step)
            assert isinstance(snapshot, SavedSnapshot)
            session.run(train)
            names = stage(snapshot, folder)
            assert names[-1] == f"model.ckpt-{step}.meta"
            assert all(name.startswith(f"model.ckpt-{step}") for name in names)
            saver.restore(session, str(folder / f"model.ckpt-{step}"))
            assert session.run(tf1.train.get_global_step()) == step
            session.run(train)
        assert not list(scratch.iterdir())
        assert len(saver.last_checkpoints) == 0
    (warning,) = _warnings(caplog)
    assert "written by the saver itself" in warning
    assert not (folder / "checkpoint").exists()


@pytest.mark.parametrize("sharded", [False, True])
def test_the_v1_format_is_refused_and_what_to_do_is_said(sharded: bool, tmp_path: Path) -> None:
    with tf.Graph().as_default(), tf1.Session() as session:
        build(Mix(variables=1, elements=1))
        saver = tf1.train.Saver(write_version=tf1.train.SaverDef.V1, sharded=sharded)
        session.run(tf1.global_variables_initializer())
        with pytest.raises(SnapshotError, match=r"expected ckpt-8\.index .* writes V2"):
            GraphSnapshotter(saver, scratch_dir=tmp_path).pin(session, 8)
    assert not list(tmp_path.iterdir())


def test_what_a_saver_raises_reaches_us_as_a_snapshot_error(tmp_path: Path) -> None:
    class Broken(tf1.train.Saver):  # type: ignore[misc]
        def save(self, *args: object, **kwargs: object) -> object:
            raise ValueError("no good")

    with tf.Graph().as_default(), tf1.Session() as session:
        build(Mix(variables=1, elements=1))
        with pytest.raises(SnapshotError, match="taking the snapshot of step 8 failed: ValueError: no good"):
            GraphSnapshotter(Broken(), scratch_dir=tmp_path).pin(session, 8)
    assert not list(tmp_path.iterdir())


def test_a_saver_without_variables_is_named(tmp_path: Path) -> None:
    with tf.Graph().as_default(), tf1.Session() as session:
        saver = tf1.train.Saver(allow_empty=True)
        with pytest.raises(SnapshotError, match="got nothing; give the hook a saver that has variables"):
            GraphSnapshotter(saver, scratch_dir=tmp_path).pin(session, 8)


def test_releasing_a_saved_snapshot_removes_its_private_copy(tmp_path: Path) -> None:
    with tf.Graph().as_default(), tf1.Session() as session:
        build(MIX)
        saver = _Counting()
        session.run(tf1.global_variables_initializer())
        snapshot = GraphSnapshotter(saver, scratch_dir=tmp_path).pin(session, 0)
        assert list(tmp_path.iterdir())
        snapshot.release()
        assert not list(tmp_path.iterdir())
