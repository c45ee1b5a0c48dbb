"""Trainings that show a defect of TensorFlow's asynchronous hook, as facts; each in a process of its own.

    python -m tests.estimator.defects ROW HOOK FOLDER

HOOK is `tensorflow` or `ackpt`. Prints one JSON object.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf
from tensorflow.python.tpu.async_checkpoint import AsyncCheckpointSaverHook as TensorFlowHook

import ackpt
from ackpt.events import Event, Outcome
from bench.mixes import MIXES, Mix, build, read_back

tf1 = tf.compat.v1
SMALL = Mix(variables=2, elements=10)

Facts = dict[str, object]


def make(hook: str, folder: Path, **arguments: object) -> tf1.train.CheckpointSaverHook:
    """Make the hook that is asked for."""
    kinds = {"tensorflow": TensorFlowHook, "ackpt": ackpt.AsyncCheckpointSaverHook}
    return kinds[hook](str(folder), **arguments)


def train(hook: tf1.train.CheckpointSaverHook, mix: Mix, steps: int, pause_secs: float = 0.0) -> int:
    """Train for so many steps, or until a hook asks to stop; return the steps done."""
    done = 0
    with tf.Graph().as_default():
        op = build(mix)
        with tf1.train.MonitoredTrainingSession(hooks=[hook]) as session:
            while done < steps and not session.should_stop():
                session.run(op)
                done += 1
                time.sleep(pause_secs)
    return done


class Listener(tf1.train.CheckpointSaverListener):
    """Count the calls after a save, and do something there."""

    def __init__(self, then: Callable[[int], bool | None] = lambda step: None) -> None:
        self.steps: list[int] = []
        self._then = then

    def after_save(self, session: tf1.Session, global_step_value: int) -> bool | None:
        self.steps.append(int(global_step_value))
        return self._then(int(global_step_value))


def torn(hook: str, folder: Path) -> Facts:
    """Read every checkpoint back as soon as it is written."""
    tf1.disable_v2_behavior()
    found = []

    def read(step: int) -> None:
        found.append(read_back(str(folder / f"model.ckpt-{step}")).whole)

    train(make(hook, folder, save_steps=10, listeners=[Listener(read)]), MIXES["40 x 200k ref"], 160)
    return {"checkpoints": len(found), "torn": found.count(False)}


def nothing_written(hook: str, folder: Path) -> Facts:
    """Train with TensorFlow 2's behaviour on, as it is by default."""
    train(make(hook, folder, save_steps=5), SMALL, 20)
    return {"latest": tf.train.latest_checkpoint(str(folder))}


class BreakingSaver(tf1.train.Saver):
    """Fail at every save but the first."""

    saves = 0

    def save(self, *arguments: object, **options: object) -> object:
        BreakingSaver.saves += 1
        if BreakingSaver.saves > 1:
            raise OSError("the disk is on fire")
        return super().save(*arguments, **options)


def lost_errors(hook: str, folder: Path) -> Facts:
    """Let the saver fail, and see whether the training ends as if nothing had happened."""
    tf1.disable_v2_behavior()
    try:
        with tf.Graph().as_default():
            op = build(SMALL)
            made = make(hook, folder, save_steps=5, saver=BreakingSaver())
            with tf1.train.MonitoredTrainingSession(hooks=[made]) as session:
                for _ in range(23):
                    session.run(op)
                    time.sleep(0.02)
    except Exception as error:
        return {"raised": type(error).__name__}
    return {"raised": None}


def ignored_stop(hook: str, folder: Path) -> Facts:
    """Let a listener ask to stop after the first save."""
    tf1.disable_v2_behavior()
    listener = Listener(lambda step: True)
    return {"steps": train(make(hook, folder, save_steps=5, listeners=[listener]), SMALL, 100, 0.02)}


def dropped_saves(hook: str, folder: Path) -> Facts:
    """Trigger a save every few steps while a listener takes long, and count what became of them."""
    tf1.disable_v2_behavior()
    listener = Listener(lambda step: time.sleep(0.4))
    made = make(hook, folder, save_steps=5, listeners=[listener])
    outcomes: list[int] = []
    if hook == "ackpt":
        begin = made.begin

        def begin_and_subscribe() -> None:
            begin()
            made._checkpointer.subscribe(lambda event: _note(event, outcomes))

        made.begin = begin_and_subscribe
    train(made, SMALL, 100, 0.02)
    return {"triggered": 21, "accounted_for": len(outcomes if hook == "ackpt" else listener.steps)}


def _note(event: Event, outcomes: list[int]) -> None:
    if isinstance(event, Outcome):
        outcomes.append(event.step)


def idle_cost(hook: str, folder: Path) -> Facts:
    """Count what the hook asks of the session while no save is due."""
    tf1.disable_v2_behavior()
    calls = 0
    run = tf1.Session.run

    def counted(session: tf1.Session, *arguments: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        return run(session, *arguments, **options)

    tf1.Session.run = counted
    steps = 200
    train(make(hook, folder, save_steps=100_000), SMALL, steps)
    return {"steps": steps, "runs": calls}


def wrong_graph(hook: str, folder: Path) -> Facts:
    """Train in a graph that is not the process's default one, and look at the graph that was written."""
    tf1.disable_v2_behavior()
    train(make(hook, folder, save_steps=5), SMALL, 5)
    return {"nodes": (folder / "graph.pbtxt").read_text().count("node {")}


ROWS = (torn, nothing_written, lost_errors, ignored_stop, dropped_saves, idle_cost, wrong_graph)


if __name__ == "__main__":
    tf1.logging.set_verbosity(tf1.logging.ERROR)
    row = {each.__name__: each for each in ROWS}[sys.argv[1]]
    print(json.dumps(row(sys.argv[2], Path(sys.argv[3]))))
