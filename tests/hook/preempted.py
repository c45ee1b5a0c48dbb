"""A TensorFlow training that is preempted, in its own process: `-m tests.hook.preempted MODE FOLDER`."""

from __future__ import annotations

import sys
import time

import tensorflow as tf

import ackpt

tf1 = tf.compat.v1

GRACE_SECS = 6.0


def main(mode: str, folder: str) -> None:
    """Train until told to stop; say so at the fifth step."""
    preemption = ackpt.Preemption(grace_secs=GRACE_SECS, reserve_secs=1.0, save_after_secs=0.0)
    hook = ackpt.AsyncCheckpointSaverHook(folder, save_steps=100_000, preemption=preemption)

    def work() -> float:
        time.sleep(60 if mode == "hang" and done == 5 else 0.01)
        return 1.0

    done = 0
    with tf.Graph().as_default():
        step = tf1.train.get_or_create_global_step()
        pause = tf1.py_func(work, [], tf.float64)
        with tf.control_dependencies([pause]):
            train = tf1.assign_add(step, 1)
        with tf1.train.MonitoredTrainingSession(hooks=[hook]) as session:
            while not session.should_stop():
                if done == 5:
                    print("ready", flush=True)
                done = int(session.run(train))
                if mode == "call" and done == 5:
                    hook.preempt()
    print("went on after", done, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
