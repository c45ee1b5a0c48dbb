"""The hook with an uploader process: TensorFlow's listeners, and its state file, are as without."""

from __future__ import annotations

import time
from pathlib import Path

import tensorflow as tf

import ackpt
from tests.hook.training import assert_whole, train

tf1 = tf.compat.v1


def test_a_listener_here_finds_its_own_step_the_newest_though_another_process_sends(tmp_path: Path) -> None:
    run = tmp_path / "run"
    found: list[tuple[int, str | None]] = []

    class Evaluates(tf1.train.CheckpointSaverListener):
        def after_save(self, session: tf1.Session, step: int) -> None:
            time.sleep(0.1)
            found.append((step, tf1.train.latest_checkpoint(str(run))))

    hook = ackpt.AsyncCheckpointSaverHook(
        str(run),
        save_steps=2,
        listeners=[Evaluates()],
        overlap=ackpt.Queue(9),
        staging_dir=tmp_path / "staging",
        uploader="process",
    )
    train([hook], 6)
    assert found == [(step, str(run / f"model.ckpt-{step}")) for step in (0, 2, 4, 6)]
    assert_whole(run)
    assert (run / "graph.pbtxt").exists()
