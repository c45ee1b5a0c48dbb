"""Measure what a save costs the trainer: the stall when it is triggered, and the steps that follow.

    python bench/stall.py [--mib 64 1024] [--saves 8] [--rounds 3] [--quick]

Every hook trains the same model (16 resource variables, all updated at every step) in a process of
its own, in turn, several rounds. Before each save the one before has ended. The stall is the time
that the trainer thread spends in the hook's `after_run` when it saves; the first one is told apart.
The inflation is the median of the steps right after a save, over the median step with no hook.
Figures are medians of the rounds.
Prints a table and, as its last line, one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
VARIABLES = 16
STEPS_BETWEEN_SAVES = 10
SAVE_SECS = 120.0


def measure(hook_name: str, mib: int, saves: int) -> dict[str, float]:
    """Train with one hook; return times in milliseconds (idle: in microseconds)."""
    import tensorflow as tf

    import ackpt
    from bench import hooks

    tf1 = tf.compat.v1
    tf1.disable_v2_behavior()
    tf1.logging.set_verbosity(tf1.logging.ERROR)
    stalls: list[float] = []
    steps: list[float] = []
    saved: list[str] = []
    with tempfile.TemporaryDirectory(prefix="ackpt-stall-") as scratch, tf.Graph().as_default():
        step = tf1.train.get_or_create_global_step()
        variables = [
            tf1.get_variable(
                f"v{number}",
                shape=[mib * 2**20 // 4 // VARIABLES],
                initializer=tf1.zeros_initializer(),
                use_resource=True,
            )
            for number in range(VARIABLES)
        ]
        one = tf.constant(1.0)
        updates = [tf1.assign_add(v, tf.broadcast_to(one, v.shape)).op for v in variables]
        train = tf.group(*updates, tf1.assign_add(step, 1).op)
        made = hooks.make(
            hook_name,
            Path(scratch, "run"),
            save_steps=STEPS_BETWEEN_SAVES,
            on_saved=saved.append,
            saver=tf1.train.Saver(max_to_keep=1),
            staging=Path(scratch, "staging"),
            overlap=ackpt.Coalesce(),
        )
        for hook in made:
            _time_after_run(hook, stalls)
        total = (saves + 1) * STEPS_BETWEEN_SAVES
        with tf1.train.MonitoredTrainingSession(hooks=list(made)) as session:
            for number in range(total):
                if made and number % STEPS_BETWEEN_SAVES == STEPS_BETWEEN_SAVES - 1:
                    _wait_for(saved, number // STEPS_BETWEEN_SAVES + 1)
                started = time.perf_counter()
                session.run(train)
                steps.append(time.perf_counter() - started - (stalls[-1] if stalls else 0.0))
    # with a stall in every after_run, the saves are the long ones: one every so many steps
    saving = [stalls[i] for i in range(STEPS_BETWEEN_SAVES - 1, len(stalls), STEPS_BETWEEN_SAVES)]
    following = [steps[i + 1] for i in range(STEPS_BETWEEN_SAVES - 1, total - 1, STEPS_BETWEEN_SAVES)]
    return {
        "first_stall_ms": saving[0] * 1e3 if saving else 0.0,
        "stall_ms": statistics.median(saving[1:]) * 1e3 if len(saving) > 1 else 0.0,
        "following_step_ms": statistics.median(following) * 1e3,
        "step_ms": statistics.median(steps) * 1e3,
    }


def _wait_for(saved: Sequence[str], count: int) -> None:
    deadline = time.monotonic() + SAVE_SECS
    while len(saved) < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"only {len(saved)} of {count} saves have ended after {SAVE_SECS} s")
        time.sleep(0.01)


def _time_after_run(hook: Any, stalls: list[float]) -> None:
    after_run = hook.after_run

    def timed(run_context: Any, run_values: Any) -> None:
        started = time.perf_counter()
        after_run(run_context, run_values)
        stalls.append(time.perf_counter() - started)

    hook.after_run = timed


def main() -> None:
    """Run every measurement in a process of its own, in turn, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--mib", type=int, nargs="*", default=[64, 256, 1024], help="sizes of the model")
    parser.add_argument("--saves", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round of a small model")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        name, mib, saves = options.one
        print(json.dumps(measure(name, int(mib), int(saves))))
        return

    from bench import hooks

    if options.quick:
        options.mib, options.saves, options.rounds = [16], 3, 1
    results: dict[str, dict[str, dict[str, float]]] = {}
    print(
        f"{'MiB':>5} {'hook':10}{'first stall ms':>16}{'stall ms':>10}{'next step ms':>14}{'inflation':>11}"
    )
    for mib in options.mib:
        rounds: dict[str, list[dict[str, float]]] = {name: [] for name in hooks.available()}
        for _ in range(options.rounds):
            for name, found in rounds.items():
                found.append(_run_one(name, mib, options.saves))
        medians = {name: _median(found) for name, found in rounds.items()}
        bare = medians["none"]["step_ms"]
        for name, found_medians in medians.items():
            found_medians["inflation"] = found_medians["following_step_ms"] / bare
            print(
                f"{mib:5} {name:10}{found_medians['first_stall_ms']:16.2f}{found_medians['stall_ms']:10.2f}"
                f"{found_medians['following_step_ms']:14.1f}{found_medians['inflation']:11.2f}",
                flush=True,
            )
        results[str(mib)] = medians
    print(json.dumps({"bench": "stall", "results": results}))


def _median(found: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(each[key] for each in found) for key in found[0]}


def _run_one(name: str, mib: int, saves: int) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, __file__, "--one", name, str(mib), str(saves)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2"},
        check=True,
        capture_output=True,
        text=True,
    )
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
