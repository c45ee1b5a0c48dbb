"""Pinned snapshots: never torn, readable by TensorFlow, and gone when they are released."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from ackpt.errors import SnapshotError, StorageFullError
from ackpt.snapshot.pinned import PinnedSnapshot
from ackpt.snapshot.tensorflow_graph import GraphSnapshotter
from bench.mixes import MIXES, Mix, build, read_back
from tests.snapshot.training import TF1_BEHAVIOUR, stage, tf1, training

SMALL = Mix(variables=4, elements=1000)


@pytest.mark.parametrize("name", MIXES)
def test_a_snapshot_staged_under_training_is_whole(name: str, tmp_path: Path) -> None:
    with training(MIXES[name]) as run:
        snapshotter = run.snapshotter(shard_bytes=MIXES[name].size // 5)
        for _ in range(4):
            run.run(1)
            snapshot = snapshotter.pin(run.session, run.steps)
            assert isinstance(snapshot, PinnedSnapshot)
            done = run.stage(snapshot, tmp_path)
            while not done.done():
                run.run(1)
            assert len(done.result()) > 5
            reading = read_back(str(tmp_path / f"model.ckpt-{snapshot.step}"))
            assert reading.whole, reading


@pytest.mark.parametrize("shard_bytes", [1, 8000, 1 << 30])
def test_every_reader_of_tensorflow_takes_the_checkpoint(shard_bytes: int, tmp_path: Path) -> None:
    with training(Mix(variables=4, elements=1000, partitions=3)) as run:
        run.run(7)
        names = stage(run.snapshotter(shard_bytes, meta=True).pin(run.session, 7), tmp_path)
        prefix = str(tmp_path / "model.ckpt-7")
        assert names[-2:] == ["model.ckpt-7.index", "model.ckpt-7.meta"]
        assert names[:-2] == sorted(
            f"model.ckpt-7.data-{i:05d}-of-{len(names) - 2:05d}" for i in range(len(names) - 2)
        )
        assert sorted(os.listdir(tmp_path)) == sorted(names)
        assert tf1.train.checkpoint_exists(prefix)
        assert read_back(prefix).whole
        run.run(5)
        run.saver.restore(run.session, prefix)
        assert run.session.run(tf1.train.get_global_step()) == 7
    with tf.Graph().as_default(), tf1.Session() as session:
        saver = tf1.train.import_meta_graph(f"{prefix}.meta")
        saver.restore(session, prefix)
        values = session.run(tf1.global_variables())
        assert {int(element) for value in values for element in np.ravel(value)} == {7}


def test_the_meta_graph_knows_nothing_of_our_ops_even_when_they_are_there(tmp_path: Path) -> None:
    with training(SMALL) as run:
        run.snapshotter()
        second = run.snapshotter(meta=True)
        stage(second.pin(run.session, 0), tmp_path)
    meta = tf1.MetaGraphDef.FromString((tmp_path / "model.ckpt-0.meta").read_bytes())
    assert not [node.name for node in meta.graph_def.node if "ackpt" in node.name]
    assert meta.saver_def.save_tensor_name == run.saver.saver_def.save_tensor_name
    assert tf1.GraphKeys.GLOBAL_VARIABLES in meta.collection_def


def test_scattered_updates_do_not_reach_a_snapshot(tmp_path: Path) -> None:
    with tf.Graph().as_default(), tf1.Session() as session:
        table = tf1.get_variable(
            "v", shape=[50_000, 8], initializer=tf1.zeros_initializer(), use_resource=True
        )
        rows = tf.range(0, 50_000, 7)
        scatter = tf1.scatter_add(table, rows, tf.ones([len(range(0, 50_000, 7)), 8])).op
        saver = tf1.train.Saver()
        session.run(tf1.global_variables_initializer())
        snapshotter = GraphSnapshotter(saver)
        for step in range(3):
            snapshot = snapshotter.pin(session, step)
            session.run(scatter)
            stage(snapshot, tmp_path)
            values = tf.train.load_checkpoint(str(tmp_path / f"model.ckpt-{step}")).get_tensor("v")
            assert values[::7].min() == values.max() == step


def test_a_table_that_is_updated_in_place_does_not_tear_a_snapshot(tmp_path: Path) -> None:
    with tf.Graph().as_default(), tf1.Session() as session:
        table = tf.lookup.experimental.DenseHashTable(
            tf.int64, tf.int64, default_value=-1, empty_key=-1, deleted_key=-2, initial_num_buckets=4096
        )
        keys = tf.range(1000, dtype=tf.int64)
        value = tf1.placeholder(tf.int64, [])
        fill = table.insert(keys, tf.fill([1000], value))
        saver = tf1.train.Saver([tf1.get_collection(tf1.GraphKeys.SAVEABLE_OBJECTS)[0]])
        session.run(fill, {value: 1})
        snapshot = GraphSnapshotter(saver).pin(session, 1)
        session.run(fill, {value: 2})
        stage(snapshot, tmp_path)
        reader = tf.train.load_checkpoint(str(tmp_path / "model.ckpt-1"))
        name = next(each for each in reader.get_variable_to_shape_map() if each.endswith("values"))
        assert set(np.unique(reader.get_tensor(name))) <= {-1, 0, 1}


def test_a_saver_of_trackable_objects_is_pinned_with_its_object_graph(tmp_path: Path) -> None:
    with tf.Graph().as_default():
        variable = tf.Variable(tf.zeros([10]))
        checkpoint = tf.train.Checkpoint(weights=variable)
        step = tf1.train.get_or_create_global_step()
        scaffold = tf1.train.Scaffold(saver=checkpoint)
        with tf1.train.MonitoredTrainingSession(scaffold=scaffold) as monitored:
            del step
            snapshot = GraphSnapshotter(scaffold.saver).pin(monitored._tf_sess(), 3)
            assert isinstance(snapshot, PinnedSnapshot)
            stage(snapshot, tmp_path)
    names = dict(tf.train.list_variables(str(tmp_path / "model.ckpt-3")))
    assert "weights/.ATTRIBUTES/VARIABLE_VALUE" in names
    assert "_CHECKPOINTABLE_OBJECT_GRAPH" in names


def test_the_graph_grows_once_and_is_final_again() -> None:
    with training(SMALL) as run:
        snapshotter = run.snapshotter()
        grown = len(run.session.graph.get_operations())
        snapshotter.prepare(run.session)
        snapshotter.pin(run.session, 0).release()
        assert len(run.session.graph.get_operations()) == grown
        assert run.session.graph.finalized


def test_a_new_session_on_the_same_graph_pins_its_own_state(tmp_path: Path) -> None:
    with tf.Graph().as_default() as graph:
        train = build(SMALL)
        saver = tf1.train.Saver()
        init = tf1.global_variables_initializer()
        graph.finalize()
        snapshotter = GraphSnapshotter(saver)
        for steps in (3, 5):
            with tf1.Session() as session:
                session.run(init)
                for _ in range(steps):
                    session.run(train)
                stage(snapshotter.pin(session, steps), tmp_path)
                assert read_back(str(tmp_path / f"model.ckpt-{steps}")).whole


class _MallInfo(ctypes.Structure):
    """Be `struct mallinfo2` of glibc, https://man7.org/linux/man-pages/man3/mallinfo.3.html."""

    _fields_ = [(f"field_{number}", ctypes.c_size_t) for number in range(10)]
    # arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks, keepcost

    @property
    def allocated(self) -> int:
        """Return what is in use: `uordblks` and `hblkhd` (chunks of their own mapping)."""
        return int(self.field_7 + self.field_4)


def _allocated() -> int:
    """Return the bytes that are allocated now; resident memory tells little, freed pages are kept."""
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = _MallInfo
    return int(mallinfo2().allocated)


@pytest.mark.parametrize("end", ["staged", "closed early", "never staged"])
def test_released_snapshots_do_not_stay_in_memory(end: str, tmp_path: Path) -> None:
    with training(Mix(variables=4, elements=4_000_000)) as run:
        snapshotter = run.snapshotter(shard_bytes=16 << 20)

        def once() -> None:
            snapshot = snapshotter.pin(run.session, run.steps)
            files = snapshot.stage(tmp_path, "model.ckpt")
            if end == "staged":
                list(files)
            elif end == "closed early":
                next(files)
            files.close()  # type: ignore[attr-defined]
            snapshot.release()
            for path in tmp_path.iterdir():
                path.unlink()

        once()
        run.run(2)
        before = _allocated()
        for _ in range(10):
            once()
            run.run(1)
        assert _allocated() - before < 100 << 20  # ten of them weigh 610 MiB


def test_a_shard_s_tensors_are_let_go_of_before_its_file_is_yielded(tmp_path: Path) -> None:
    with training(SMALL) as run:
        snapshot = run.snapshotter(shard_bytes=4000).pin(run.session, 0)
        assert isinstance(snapshot, PinnedSnapshot)
        files = snapshot.stage(tmp_path, "model.ckpt-0")
        held = list(snapshot._handles)
        next(files)
        with pytest.raises(tf.errors.OpError, match="not in the session store|session"):
            snapshot._ops.write(run.session, held, 0, str(tmp_path / "again"))
        snapshot._ops.write(run.session, held, 1, str(tmp_path / "again"))
        snapshot.release()
        with pytest.raises(tf.errors.OpError, match="not in the session store|session"):
            snapshot._ops.write(run.session, held, 1, str(tmp_path / "again"))


def test_a_snapshotter_knows_until_when_its_session_is_needed(tmp_path: Path) -> None:
    with training(SMALL) as run:
        snapshotter = run.snapshotter()
        assert not snapshotter.staging()
        first, second = (snapshotter.pin(run.session, step) for step in (0, 1))
        stage(first, tmp_path)
        assert snapshotter.staging()
        second.release()
        assert not snapshotter.staging()


def test_closing_the_iterator_leaves_only_finished_files(tmp_path: Path) -> None:
    with training(SMALL) as run:
        snapshot = run.snapshotter(shard_bytes=4000).pin(run.session, 0)
        files = snapshot.stage(tmp_path, "model.ckpt-0")
        first = next(files)
        files.close()  # type: ignore[attr-defined]
        snapshot.release()
        assert os.listdir(tmp_path) == [first.key]


def test_a_session_closed_before_the_staging_is_named_as_the_reason(tmp_path: Path) -> None:
    with training(SMALL) as run:
        snapshot = run.snapshotter().pin(run.session, 12)
    with pytest.raises(SnapshotError, match="session was closed while staging of step 12") as caught:
        list(snapshot.stage(tmp_path, "model.ckpt-12"))
    assert caught.value.step == 12
    snapshot.release()
    assert not list(tmp_path.iterdir())


def test_a_variable_without_a_value_is_named_and_nothing_is_pinned() -> None:
    with tf.Graph().as_default(), tf1.Session() as session:
        build(SMALL)
        saver = tf1.train.Saver()
        with pytest.raises(SnapshotError, match="taking the snapshot of step 4 failed.*FailedPrecondition"):
            GraphSnapshotter(saver).pin(session, 4)


@pytest.mark.parametrize("error", [tf.errors.AbortedError, tf.errors.UnavailableError])
def test_a_lost_session_is_left_to_monitored_session(error: type[tf.errors.OpError]) -> None:
    with training(SMALL) as run:
        snapshotter = run.snapshotter()

        def lost() -> list[str]:
            raise error(None, None, "the worker is gone")

        snapshotter._pin = lost
        with pytest.raises(error):
            snapshotter.pin(run.session, 0)


def test_a_full_disk_is_an_error_of_its_own_and_leaves_nothing_pinned(small_disk: Path) -> None:
    with training(Mix(variables=4, elements=1_000_000)) as run:
        snapshot = run.snapshotter(shard_bytes=4_000_000).pin(run.session, 3)
        with pytest.raises(StorageFullError, match="no room left while staging of step 3"):
            list(snapshot.stage(small_disk, "model.ckpt-3"))
        snapshot.release()
        assert not [name for name in os.listdir(small_disk) if "scratch" in name]


def test_a_file_system_without_hard_links_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: object, target: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with training(SMALL) as run:
        snapshot = run.snapshotter().pin(run.session, 0)
        with pytest.raises(SnapshotError, match="no hard links; set staging_dir"):
            list(snapshot.stage(tmp_path, "model.ckpt-0"))
        snapshot.release()
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(TF1_BEHAVIOUR in os.environ, reason="this is the run with TF2 behaviour off")
def test_all_of_this_holds_with_tf2_behaviour_off() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", __file__],
        env={**os.environ, TF1_BEHAVIOUR: "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
