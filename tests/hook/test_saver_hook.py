"""The hook in a monitored session: TensorFlow's ways, a committed checkpoint for every save, no stall."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import tensorflow as tf

import ackpt
from ackpt import errors
from ackpt.backends import open_backend, register_backend
from ackpt.backends.base import Backend
from ackpt.backends.file import FileBackend
from ackpt.checkpoint.retention import KeepAll, KeepInterval, KeepLast
from ackpt.events import Committed
from ackpt.hook.saver_hook import saver_retention
from ackpt.testing import Fails, FaultScript, On, Slow, inject
from ackpt.url import StorageURL
from bench.mixes import Mix
from tests.engine.runs import Run
from tests.hook.training import (
    TF1_BEHAVIOUR,
    Recorder,
    assert_whole,
    session,
    steps_in,
    tf1,
    train,
)

Hook = ackpt.AsyncCheckpointSaverHook


# -- what is said at once


@pytest.mark.parametrize("when", [{}, {"save_secs": 1, "save_steps": 1}])
def test_not_exactly_one_of_save_secs_and_save_steps_is_a_value_error(when: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="every_secs"):
        Hook("/tmp/run", **when)


def test_a_saver_and_a_scaffold_is_a_value_error() -> None:
    with tf.Graph().as_default():
        saver = tf1.train.Saver([tf1.get_variable("v", shape=[])])
        with pytest.raises(ValueError, match="both saver and scaffold"):
            Hook("/tmp/run", save_steps=1, saver=saver, scaffold=tf1.train.Scaffold())


@pytest.mark.parametrize(
    ("target", "options", "error", "message"),
    [
        ("gcs://bucket/run", {}, errors.UnknownSchemeError, "known schemes: .*gs"),
        ("gs://bucket/run?part=1", {}, errors.InvalidOptionError, "valid options: .*part_size"),
        ("run", {"shard_bytes": 0}, errors.InvalidOptionError, "shard_bytes"),
        ("run", {"checkpoint_basename": ""}, errors.InvalidOptionError, "name"),
    ],
)
def test_what_can_be_known_at_once_is_said_at_once(
    target: str, options: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Hook(target, save_steps=1, **options)


def test_making_a_hook_takes_nothing(tmp_path: Path) -> None:
    Hook(tmp_path / "run", save_steps=1)
    Hook(tmp_path / "run", save_steps=1)  # a model_fn makes one for every mode
    assert not (tmp_path / "run").exists()


def test_a_relative_target_stays_where_it_was_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    hook = Hook("run", save_steps=10)
    monkeypatch.chdir(tmp_path / "elsewhere")
    train([hook], 1)
    assert steps_in(tmp_path / "run") == [0, 1]
    assert list((tmp_path / "run").glob("events*"))
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_target_that_is_a_file_is_an_error_before_the_first_step(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    with pytest.raises(errors.BucketNotFoundError, match="not a folder"):
        train([Hook(tmp_path / "run", save_steps=1)], 1)
    assert (tmp_path / "run").read_text() == "mine"


def test_no_global_step_is_tensorflow_s_error(tmp_path: Path) -> None:
    with tf.Graph().as_default(), pytest.raises(RuntimeError, match="Global step should be created"):
        Hook(tmp_path, save_steps=1).begin()


def test_two_hooks_on_one_directory_are_an_error_before_the_first_step(tmp_path: Path) -> None:
    with session([Hook(tmp_path, save_steps=2)]) as (monitored, op):
        with pytest.raises(errors.StagingLockedError):
            train([Hook(f"file://{tmp_path}", save_steps=2)], 1)
        monitored.run(op)
    assert_whole(tmp_path)


def test_a_training_that_was_not_restored_is_an_error_before_the_first_step(tmp_path: Path) -> None:
    train([Hook(tmp_path, save_steps=10, retention=ackpt.KeepLast(1))], 30)
    with pytest.raises(errors.StepConflictError, match="step 0 is behind step 30.*ackpt.restore"):
        train([Hook(tmp_path, save_steps=10)], 1)
    assert steps_in(tmp_path) == [30]
    train([Hook(tmp_path, save_steps=10)], 1, checkpoint_dir=str(tmp_path))
    assert steps_in(tmp_path) == [30, 31]


def test_a_variable_without_a_value_is_an_error_before_the_first_step(tmp_path: Path) -> None:
    with tf.Graph().as_default():
        tf1.train.get_or_create_global_step()
        variable = tf1.get_variable("v", shape=[3])
        scaffold = tf1.train.Scaffold(
            init_op=tf1.variables_initializer([tf1.train.get_global_step()]),
            ready_op=tf.constant([], tf.string),
            ready_for_local_init_op=tf.constant([], tf.string),
            saver=tf1.train.Saver([variable, tf1.train.get_global_step()]),
        )
        hook = Hook(tmp_path, save_steps=1, scaffold=scaffold)
        with pytest.raises(errors.SnapshotError, match="FailedPrecondition"):
            tf1.train.MonitoredTrainingSession(scaffold=scaffold, hooks=[hook])
    train([Hook(tmp_path, save_steps=1)], 1)  # and the run was let go of


# -- when it saves


@pytest.mark.parametrize(("every", "steps"), [(1, 4), (3, 10), (5, 10), (100, 7)])
def test_it_saves_the_steps_that_tensorflow_s_hook_saves(every: int, steps: int, tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    keep = ackpt.KeepAll()
    train([Hook(ours, save_steps=every, retention=keep, overlap=ackpt.Queue(1))], steps)
    recorder = Recorder()
    train([tf1.train.CheckpointSaverHook(str(theirs), save_steps=every, listeners=[recorder])], steps)
    assert steps_in(ours) == [step for call, step in recorder.calls if call == "after_save"]
    assert_whole(ours)


def test_it_saves_by_time(tmp_path: Path) -> None:
    recorder = Recorder()
    with session([Hook(tmp_path, save_secs=1, listeners=[recorder])]) as (monitored, op):
        while len([call for call, _ in recorder.calls if call == "before_save"]) < 3:
            monitored.run(op)
    assert_whole(tmp_path)


def test_a_hook_that_knows_the_steps_of_a_run_saves_no_later(tmp_path: Path) -> None:
    class Leaps(tf1.train.SessionRunHook):
        def after_run(self, context: object, values: object) -> None:
            context.session.run(self.leap)  # type: ignore[attr-defined]

        def begin(self) -> None:
            self.leap = tf1.assign_add(tf1.train.get_global_step(), 9).op

    hook = Hook(tmp_path, save_steps=40, retention=ackpt.KeepAll(), overlap=ackpt.Queue(1))
    hook._set_steps_per_run(10)
    train([Leaps(), hook], 12)
    assert steps_in(tmp_path) == [0, 40, 80, 120]


def test_while_no_save_is_near_a_step_costs_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = 0
    run = tf1.Session.run

    def count(self: object, *args: object, **kwargs: object) -> object:
        nonlocal runs
        runs += 1
        return run(self, *args, **kwargs)

    with session([Hook(tmp_path, save_steps=10**6)]) as (monitored, op):
        monitored.run(op)
        monkeypatch.setattr(tf1.Session, "run", count)
        for _ in range(1000):
            monitored.run(op)
        monkeypatch.undo()
    assert runs <= 1000 + 1000 // 50


# -- what it writes


def test_the_checkpoint_starts_a_new_training(tmp_path: Path) -> None:
    train([Hook(tmp_path / "run", save_steps=4)], 6)
    prefix = ackpt.restore(tmp_path / "run", tmp_path / "local")
    assert prefix is not None
    with session([], checkpoint_dir=str(tmp_path / "local")) as (monitored, _op):
        assert monitored.run(tf1.train.get_global_step()) == 6
    with tf.Graph().as_default(), tf1.Session() as restored:
        tf1.train.import_meta_graph(f"{prefix}.meta").restore(restored, str(prefix))
        assert restored.run(tf1.global_variables()[1]).min() == 6


def test_a_training_goes_on_with_other_shards_than_before(tmp_path: Path) -> None:
    run, local = tmp_path / "run", tmp_path / "local"
    train([Hook(run, save_steps=4, failure=ackpt.Raise())], 6)
    assert ackpt.restore(run, local) is not None
    seen: list[tuple[int, bool]] = []

    class Note(ackpt.CheckpointListener):
        async def on_committed(self, event: Committed) -> None:
            seen.append((event.step, event.already))

    hook = Hook(run, save_steps=4, failure=ackpt.Raise(), shard_bytes=4000, listeners=[Note()])
    train([hook], 3, checkpoint_dir=str(local))
    assert seen == [(6, True), (9, False)]
    assert_whole(run)


@pytest.mark.parametrize("resource", [True, False])
@pytest.mark.parametrize("devices", [1, 2])
def test_checkpoints_of_all_kinds_of_variables_are_whole(
    resource: bool, devices: int, tmp_path: Path
) -> None:
    mix = Mix(variables=6, elements=50_000, resource=resource, devices=devices, partitions=2)
    hook = Hook(tmp_path, save_steps=3, shard_bytes=200_000, retention=ackpt.KeepAll())
    train([hook], 10, mix=mix, config=tf1.ConfigProto(device_count={"CPU": devices}))
    assert_whole(tmp_path)


@pytest.mark.parametrize("kind", ["saver", "scaffold", "collection"])
def test_the_saver_is_found_where_tensorflow_s_hook_finds_it(kind: str, tmp_path: Path) -> None:
    with tf.Graph().as_default():
        step = tf1.train.get_or_create_global_step()
        only = tf1.get_variable("only", shape=[2])
        tf1.get_variable("other", shape=[2])
        saver = tf1.train.Saver([only, step], max_to_keep=None)
        scaffold = tf1.train.Scaffold(saver=saver if kind == "scaffold" else None)
        if kind == "collection":
            tf1.add_to_collection(tf1.GraphKeys.SAVERS, saver)
        given = {"saver": {"saver": saver}, "scaffold": {"scaffold": scaffold}, "collection": {}}[kind]
        hook = Hook(tmp_path, save_steps=1, **given)
        with tf1.train.MonitoredTrainingSession(scaffold=scaffold, hooks=[hook]) as monitored:
            monitored.run(step)
    names = [name for name, _ in tf.train.list_variables(str(tmp_path / "model.ckpt-0"))]
    assert names == ["global_step", "only"]


def test_a_saver_with_the_state_of_an_iterator_is_saved_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with tf.Graph().as_default():
        iterator = tf1.data.make_one_shot_iterator(tf.data.Dataset.range(100))
        state = tf.data.experimental.make_saveable_from_iterator(iterator)
        tf1.add_to_collection(tf1.GraphKeys.SAVEABLE_OBJECTS, state)
        step = tf1.train.get_or_create_global_step()
        with tf.control_dependencies([iterator.get_next()]):
            op = tf1.assign_add(step, 1)
        with tf1.train.MonitoredTrainingSession(hooks=[Hook(tmp_path, save_steps=2)]) as monitored:
            for _ in range(4):
                monitored.run(op)
    assert steps_in(tmp_path)[-1] == 4
    reader = tf.train.load_checkpoint(str(tmp_path / "model.ckpt-4"))
    assert reader.get_tensor("global_step") == 4
    assert len(reader.get_variable_to_shape_map()) > 1
    assert [r.message for r in caplog.records if "written by the saver itself" in r.message]


def test_max_to_keep_of_the_saver_is_the_default_retention(tmp_path: Path) -> None:
    with tf.Graph().as_default():
        op = tf1.assign_add(tf1.train.get_or_create_global_step(), 1)
        scaffold = tf1.train.Scaffold(saver=tf1.train.Saver(max_to_keep=2))
        hook = Hook(tmp_path, save_steps=1, scaffold=scaffold, overlap=ackpt.Queue(9))
        with tf1.train.MonitoredTrainingSession(scaffold=scaffold, hooks=[hook]) as monitored:
            for _ in range(5):
                monitored.run(op)
    assert steps_in(tmp_path) == [4, 5]


def test_a_saver_s_options_become_a_retention() -> None:
    SaverDef = tf1.train.SaverDef
    assert saver_retention(SaverDef()) == KeepAll()
    assert saver_retention(SaverDef(max_to_keep=3)) == KeepLast(3)
    assert saver_retention(SaverDef(max_to_keep=3, keep_checkpoint_every_n_hours=2)) == (
        KeepLast(3) | KeepInterval(7200)
    )


def test_without_save_graph_def_no_graph_is_written(tmp_path: Path) -> None:
    train([Hook(tmp_path, save_steps=5, save_graph_def=False)], 2)
    assert not list(tmp_path.glob("*.meta"))
    assert not list(tmp_path.glob("graph.pbtxt"))


def _events(folder: Path) -> list[tf1.Event]:
    return [
        event
        for path in folder.glob("events.out.tfevents.*")
        for event in tf1.train.summary_iterator(str(path))
    ]


def _assert_described(events: list[tf1.Event], saved: list[int]) -> None:
    graph_def = tf1.GraphDef.FromString(next(e.graph_def for e in events if e.graph_def))
    assert "v0" in {node.name for node in graph_def.node}
    assert not [node.name for node in graph_def.node if "ackpt" in node.name]
    assert any(event.meta_graph_def for event in events)
    checkpoint = tf1.SessionLog.CHECKPOINT
    assert [e.step for e in events if e.session_log.status == checkpoint] == saved


def test_a_local_run_has_its_graph_and_its_session_log_in_its_folder(tmp_path: Path) -> None:
    train([Hook(tmp_path, save_steps=100)], 2)
    _assert_described(_events(tmp_path), [0, 2])
    text = (tmp_path / "graph.pbtxt").read_text()
    assert 'name: "v0"' in text
    assert "ackpt" not in text


async def test_a_remote_run_has_its_graph_and_its_session_log_in_the_store(tmp_path: Path) -> None:
    train([Hook("memory://hook-events/run", save_steps=100)], 2)
    backend = open_backend("memory://hook-events/run")
    names = [info.key async for info in backend.list()]
    for name in [each for each in names if each.startswith("events.out")]:
        (tmp_path / name).write_bytes(b"".join([block async for block in backend.get(name)]))
    _assert_described(_events(tmp_path), [0, 2])
    assert "graph.pbtxt" in names
    assert not Path("memory:").exists()


def test_a_remote_session_is_saved_whole_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = tf.distribute.Server.create_local_server()
    hook = Hook(tmp_path, save_steps=3, overlap=ackpt.Queue(9), retention=ackpt.KeepAll())
    train([hook], 7, mix=Mix(variables=4, elements=100_000), master=server.target)
    assert steps_in(tmp_path) == [0, 3, 6, 7]
    assert_whole(tmp_path)
    warnings = [r.message for r in caplog.records if r.name.startswith("ackpt")]
    assert len(warnings) == 1
    assert "fetched to host memory" in warnings[0]


# -- listeners


def test_listeners_are_called_as_tensorflow_calls_them(tmp_path: Path) -> None:
    ours, theirs = Recorder(), Recorder()
    keep_all = {"retention": ackpt.KeepAll(), "overlap": ackpt.Block()}
    train([Hook(tmp_path / "ours", save_steps=2, listeners=[ours], **keep_all)], 5)
    train([tf1.train.CheckpointSaverHook(str(tmp_path / "t"), save_steps=2, listeners=[theirs])], 5)
    for call in ("begin", "before_save", "after_save", "end"):
        assert [c for c in ours.calls if c[0] == call] == [c for c in theirs.calls if c[0] == call]
    assert ours.calls[0] == ("begin", None)
    assert ours.calls[-1] == ("end", 5)


def test_a_listener_is_told_after_the_commit(tmp_path: Path) -> None:
    found: list[bool] = []

    class Looks(tf1.train.CheckpointSaverListener):
        def after_save(self, session: tf1.Session, step: int) -> None:
            assert tf1.get_default_graph() is session.graph
            found.append((tmp_path / f"model.ckpt-{step}.manifest.json").exists())

    train([Hook(tmp_path, save_steps=2, listeners=[Looks()])], 4)
    assert found
    assert all(found)


def test_a_listener_that_takes_long_finds_its_own_step_the_newest(tmp_path: Path) -> None:
    found: list[tuple[int, str | None]] = []

    class Evaluates(tf1.train.CheckpointSaverListener):
        def after_save(self, session: tf1.Session, step: int) -> None:
            time.sleep(0.1)
            found.append((step, tf1.train.latest_checkpoint(str(tmp_path))))

    train([Hook(tmp_path, save_steps=2, listeners=[Evaluates()], overlap=ackpt.Queue(9))], 8)
    assert found == [(step, str(tmp_path / f"model.ckpt-{step}")) for step in (0, 2, 4, 6, 8)]


def test_a_listener_s_wish_to_stop_stops_the_training(tmp_path: Path) -> None:
    recorder = Recorder(stop_at=6)
    with session([Hook(tmp_path, save_steps=3, listeners=[recorder], overlap=ackpt.Block())]) as (m, op):
        steps = 0
        while not m.should_stop():
            m.run(op)
            steps += 1
            assert steps < 100_000
    assert ("after_save", 6) in recorder.calls
    assert_whole(tmp_path)


def test_what_before_save_raises_is_raised_as_it_is(tmp_path: Path) -> None:
    class Raises(tf1.train.CheckpointSaverListener):
        def before_save(self, session: tf1.Session, step: int) -> None:
            if step == 4:
                raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        train([Hook(tmp_path, save_steps=2, listeners=[Raises()])], 9)
    assert_whole(tmp_path)


@pytest.mark.parametrize("at", [0, 5])
def test_what_after_save_raises_reaches_the_trainer(at: int, tmp_path: Path) -> None:
    class Raises(tf1.train.CheckpointSaverListener):
        def after_save(self, session: tf1.Session, step: int) -> None:
            if step == at:
                raise KeyError("mine")

    with (
        pytest.raises(KeyError, match="mine"),
        session([Hook(tmp_path, save_steps=10**6, listeners=[Raises()])]) as (monitored, op),
    ):
        for _ in range(5):
            monitored.run(op)
    assert_whole(tmp_path)


def test_coroutine_listeners_are_told_too(tmp_path: Path) -> None:
    told: list[tuple[str, int]] = []

    class Coroutine(ackpt.CheckpointListener):
        async def on_staged(self, event: object) -> None:
            told.append(("staged", event.step))  # type: ignore[attr-defined]

        async def on_committed(self, event: object) -> None:
            told.append(("committed", event.step))  # type: ignore[attr-defined]

    train([Hook(tmp_path, save_steps=2, listeners=[Coroutine(), Recorder()], overlap=ackpt.Block())], 2)
    assert told == [("staged", 0), ("committed", 0), ("staged", 2), ("committed", 2)]


# -- when something fails


class Flaky(tf1.train.Saver):  # type: ignore[misc]
    """Fail at every save but those of the steps in `good`."""

    good: tuple[int, ...] = ()

    def save(self, sess: object, save_path: str, global_step: int = 0, **options: object) -> object:
        if global_step not in self.good:
            raise ValueError(f"no save at {global_step}")
        return super().save(sess, save_path, global_step=global_step, **options)


def _flaky(good: tuple[int, ...]) -> tf1.train.Scaffold:
    saver = Flaky()
    saver.good = good
    return tf1.train.Scaffold(saver=saver)


def _train_with(scaffold: tf1.train.Scaffold, hook: Hook, op: tf.Operation, steps: int) -> None:
    with tf1.train.MonitoredTrainingSession(scaffold=scaffold, hooks=[hook]) as monitored:
        for _ in range(steps):
            monitored.run(op)


@pytest.mark.parametrize(
    ("policy", "good", "message"),
    [
        (ackpt.Raise(), (0,), "saving step 1 to .* failed: .*no save at 1"),
        (ackpt.Tolerate(1), (0,), r"saving step [23] to .*\([23] saves in a row have failed\)"),
        (ackpt.Tolerate(9), (0, 1, 2), "saving step 4 to .* failed"),
        (ackpt.Tolerate(9), (0, 4), None),
    ],
)
def test_failed_saves_reach_the_trainer_as_the_policy_says(
    policy: object, good: tuple[int, ...], message: str | None, tmp_path: Path
) -> None:
    with tf.Graph().as_default():
        op = tf1.assign_add(tf1.train.get_or_create_global_step(), 1).op
        scaffold = _flaky(good)
        hook = Hook(tmp_path, save_steps=1, scaffold=scaffold, failure=policy, overlap=ackpt.Block())
        if message is None:
            _train_with(scaffold, hook, op, 4)
        else:
            with pytest.raises(errors.SaveFailedError, match=message):
                _train_with(scaffold, hook, op, 4)
    assert steps_in(tmp_path) == sorted(set(good) & {0, *range(5)})


def test_a_last_save_that_fails_is_tried_once_more(tmp_path: Path) -> None:
    class Once(tf1.train.Saver):  # type: ignore[misc]
        failed = False

        def save(self, *args: object, global_step: int = 0, **options: object) -> object:
            if global_step == 2 and not self.failed:
                self.failed = True
                raise ValueError("just this once")
            return super().save(*args, global_step=global_step, **options)

    with tf.Graph().as_default():
        op = tf1.assign_add(tf1.train.get_or_create_global_step(), 1).op
        scaffold = tf1.train.Scaffold(saver=Once())
        _train_with(scaffold, Hook(tmp_path, save_steps=100, scaffold=scaffold), op, 2)
    assert steps_in(tmp_path) == [0, 2]


class Breaks(tf1.train.SessionRunHook):
    """Raise after a run, once."""

    def __init__(self, error: BaseException, *, after: int) -> None:
        self._error: BaseException | None = error
        self._after = after

    def after_run(self, context: object, values: object) -> None:
        self._after -= 1
        if self._after == 0:
            assert self._error is not None
            raise self._error


@pytest.mark.parametrize("error", [ValueError("boom"), KeyboardInterrupt()])
def test_when_training_raises_what_was_pinned_is_committed_and_the_run_is_free(
    error: BaseException, tmp_path: Path
) -> None:
    # as large as it is, step 3 is pinned and not staged when the next hook raises
    mix = Mix(variables=4, elements=4_000_000)
    hooks = [Hook(tmp_path, save_steps=3, overlap=ackpt.Queue(1)), Breaks(error, after=3)]
    with pytest.raises(type(error)):
        train(hooks, 9, mix=mix)
    assert steps_in(tmp_path) == [0, 3]
    assert_whole(tmp_path)
    train([Hook(tmp_path, save_steps=10**6)], 4)  # nobody holds the run
    assert steps_in(tmp_path)[-1] == 4


@pytest.mark.parametrize("error", [tf.errors.AbortedError, tf.errors.UnavailableError])
def test_training_goes_on_saving_when_its_session_was_lost(
    error: type[tf.errors.OpError], tmp_path: Path
) -> None:
    hook = Hook(tmp_path, save_steps=4, overlap=ackpt.Queue(9), retention=ackpt.KeepAll())
    lost = Breaks(error(None, None, "gone"), after=6)
    with session([hook, lost], checkpoint_dir=str(tmp_path)) as (monitored, op):
        monitored.run(op)
        checkpointer = hook._checkpointer
        operations = len(tf1.get_default_graph().get_operations())
        for _ in range(8):
            monitored.run(op)
        assert len(tf1.get_default_graph().get_operations()) == operations
        assert hook._checkpointer is checkpointer
    # the run that was lost was the sixth, of step 6: training went back to the checkpoint of step 4
    assert steps_in(tmp_path) == [0, 4, 8]
    assert_whole(tmp_path)


def test_without_grace_what_was_pinned_is_staged_and_the_next_start_commits_it(tmp_path: Path) -> None:
    mix = Mix(variables=4, elements=4_000_000)
    hook = Hook(tmp_path, save_steps=3, overlap=ackpt.Queue(1), exit_grace_secs=0)
    with pytest.raises(ValueError, match="boom"):
        train([hook, Breaks(ValueError("boom"), after=3)], 9, mix=mix)
    with ackpt.BackgroundCheckpointer(tmp_path, name="model.ckpt"):
        pass
    assert 3 in steps_in(tmp_path)
    assert_whole(tmp_path)


def _open_slow(url: StorageURL) -> Backend:
    inner = FileBackend.from_url(replace(url, scheme="file", bucket="", path=f"/{url.path}"))
    return inject(
        inner, FaultScript(On(fault=Slow(0.2), operation="put*", key="*.manifest.json", times=None))
    )


register_backend("slow", _open_slow)


def test_a_session_that_is_lost_is_followed_by_one_with_the_newest_checkpoint(tmp_path: Path) -> None:
    # step 3 is still on its way when its session is lost
    hook = Hook(f"slow://here{tmp_path}", save_steps=3)
    lost = Breaks(tf.errors.AbortedError(None, None, "gone"), after=3)
    with session([hook, lost], checkpoint_dir=str(tmp_path)) as (monitored, op):
        for _ in range(3):
            monitored.run(op)
        assert monitored._tf_sess().run(tf1.train.get_global_step()) == 4


def test_a_hook_serves_one_training_after_another(tmp_path: Path) -> None:
    hook = Hook(tmp_path, save_steps=100)
    train([hook], 2, checkpoint_dir=str(tmp_path))
    train([hook], 3, checkpoint_dir=str(tmp_path))
    assert steps_in(tmp_path) == [0, 2, 5]
    assert_whole(tmp_path)


def test_a_store_that_fails_does_not_stop_the_training_and_is_named_at_the_end() -> None:
    denied = Fails(lambda request: errors.PermissionDeniedError("not you", key=request.key))
    run = Run(FaultScript(On(fault=denied, operation="put*", key="model.ckpt-[46].*", times=None)))
    steps = 0
    with (
        pytest.raises(errors.SaveFailedError, match="saving step 6 to scripted://.*not you"),
        session([Hook(run.url, save_steps=2, overlap=ackpt.Block())]) as (monitored, op),
    ):
        for _ in range(6):
            monitored.run(op)
            steps += 1
    assert steps == 6
    assert asyncio.run(run.committed()) == [0, 2]


def test_events_are_logged_and_nothing_warns_in_a_training_that_is_well(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="ackpt")
    train([Hook(tmp_path, save_steps=2)], 4)
    ours = [record for record in caplog.records if record.name.startswith("ackpt")]
    assert ours
    assert not [record.message for record in ours if record.levelno >= logging.WARNING]


EXITS = """
import sys, ackpt, tensorflow as tf
sys.path.insert(0, {root!r})
from bench.mixes import MIXES, build
with tf.Graph().as_default():
    op = build(MIXES["8 x 4M resource"])
    hook = ackpt.AsyncCheckpointSaverHook({target!r}, save_steps=2)
    monitored = tf.compat.v1.train.MonitoredTrainingSession(hooks=[hook])
    for _ in range(2):
        monitored.run(op)
# neither end() nor close(): the interpreter just ends
"""


def test_a_program_that_ends_without_end_leaves_a_committed_checkpoint(tmp_path: Path, root: Path) -> None:
    script = EXITS.format(root=str(root), target=str(tmp_path))
    subprocess.run([sys.executable, "-c", script], check=True, cwd=root, capture_output=True, timeout=100)
    assert steps_in(tmp_path)[-1] == 2
    assert_whole(tmp_path)


def test_a_fork_of_a_trainer_is_told_so(tmp_path: Path) -> None:
    with session([Hook(tmp_path, save_steps=1)]) as (monitored, op):
        monitored.run(op)
        hook = next(each for each in monitored._hooks if isinstance(each, Hook))
        child = os.fork()
        if child == 0:
            try:
                hook._running().wait(1)
            except errors.ForkedProcessError:
                os._exit(17)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 17


@pytest.mark.timeout(400)
@pytest.mark.skipif(TF1_BEHAVIOUR in os.environ, reason="this is the run with TF2 behaviour off")
def test_all_of_this_holds_with_tf2_behaviour_off() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", __file__],
        env={**os.environ, TF1_BEHAVIOUR: "1"},
        capture_output=True,
        text=True,
        timeout=390,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
