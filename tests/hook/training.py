"""Small trainings under a hook, and what is to be seen of them in the target."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf

from bench.mixes import Mix, build, read_back

tf1 = tf.compat.v1
TF1_BEHAVIOUR = "ACKPT_TESTS_WITH_TF1_BEHAVIOUR"

if os.environ.get(TF1_BEHAVIOUR):
    tf1.disable_v2_behavior()

SMALL = Mix(variables=4, elements=1000)


@contextmanager
def session(
    hooks: Sequence[tf1.train.SessionRunHook], *, mix: Mix = SMALL, **options: object
) -> Iterator[tuple[tf1.train.MonitoredSession, tf.Operation]]:
    """Open a monitored session, in a graph of its own, with a model of `mix`."""
    with tf.Graph().as_default():
        train = build(mix)
        with tf1.train.MonitoredTrainingSession(
            hooks=list(hooks),
            save_checkpoint_secs=None,
            save_checkpoint_steps=None,
            save_summaries_steps=None,
            save_summaries_secs=None,
            log_step_count_steps=None,
            **options,
        ) as monitored:
            yield monitored, train


def train(hooks: Sequence[tf1.train.SessionRunHook], steps: int, **options: object) -> None:
    """Train for so many steps, or until a hook asks to stop."""
    with session(hooks, **options) as (monitored, op):
        for _ in range(steps):
            if monitored.should_stop():
                break
            monitored.run(op)


def steps_in(folder: Path) -> list[int]:
    """Return the steps of the checkpoints that TensorFlow finds in `folder`."""
    return sorted(int(path.stem.rpartition("-")[2]) for path in folder.glob("*.index"))


def assert_whole(folder: Path) -> None:
    """Make sure that every checkpoint in `folder` is of one step, and the newest is found."""
    for step in steps_in(folder):
        reading = read_back(str(folder / f"model.ckpt-{step}"))
        assert reading.whole, reading
    assert tf1.train.latest_checkpoint(str(folder)) == str(folder / f"model.ckpt-{steps_in(folder)[-1]}")


class Recorder(tf1.train.CheckpointSaverListener):
    """Write down every call."""

    def __init__(self, *, stop_at: int | None = None) -> None:
        self.calls: list[tuple[str, int | None]] = []
        self._stop_at = stop_at

    def begin(self) -> None:
        self.calls.append(("begin", None))

    def before_save(self, session: tf1.Session, global_step_value: int) -> None:
        self.calls.append(("before_save", global_step_value))

    def after_save(self, session: tf1.Session, global_step_value: int) -> bool | None:
        self.calls.append(("after_save", global_step_value))
        return True if global_step_value == self._stop_at else None

    def end(self, session: tf1.Session, global_step_value: int) -> None:
        self.calls.append(("end", global_step_value))
