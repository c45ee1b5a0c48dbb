"""A TensorFlow training that is preempted, in its own process: `-m tests.hook.preempted MODE FOLDER`."""

from __future__ import annotations

import signal
import sys
import time

import tensorflow as tf

import ackpt

tf1 = tf.compat.v1

GRACE_SECS = 6.0


class Last(tf1.train.SessionRunHook):
    """Be a hook of the user's, behind all of ours."""

    def end(self, session: tf1.Session) -> None:
        print("the last hook ended", flush=True)


def main(mode: str, folder: str) -> None:
    """Train until told to stop; say so at the fifth step."""
    preemption = ackpt.Preemption(grace_secs=GRACE_SECS, reserve_secs=1.0, save_after_secs=0.0)
    hooks = [
        ackpt.AsyncCheckpointSaverHook(each, save_steps=100_000, preemption=preemption)
        for each in ([f"{folder}-1", f"{folder}-2"] if mode in ("two", "two-quiet") else [folder])
    ]
    hook = hooks[0]

    def work() -> float:
        time.sleep(60 if mode == "hang" and done == 5 else 0.01)
        return 1.0

    done = 0
    with tf.Graph().as_default():
        step = tf1.train.get_or_create_global_step()
        pause = tf1.py_func(work, [], tf.float64)
        with tf.control_dependencies([pause]):
            train = tf1.assign_add(step, 1)
        with tf1.train.MonitoredTrainingSession(hooks=[*hooks, Last()]) as session:
            while not session.should_stop() and not (mode == "two-quiet" and done == 8):
                if done == 5:
                    print("ready", flush=True)
                done = int(session.run(train))
                if mode == "call" and done == 5:
                    hook.preempt()
    print("went on after", done, flush=True)
    if mode == "two-quiet":
        handler = signal.getsignal(signal.SIGTERM)
        print(getattr(handler, "name", handler), signal.set_wakeup_fd(-1), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
