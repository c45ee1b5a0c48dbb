"""Measure what a hook costs a training step when no save is due, over training with no hook at all.

    python bench/idle.py [--steps 20000] [--rounds 5] [--smoke]

Sessions of one process, with different hooks, train the same least of models (one addition to the
global step) in short blocks, in turn, so that what else the machine does falls on all alike. A
hook's cost is the median of its blocks' mean step, less that of the session without hooks. Next to
it stands what its two methods take when they are called as TensorFlow calls them, which is the
sharper figure: "none" stands twice, to show how far two equal sessions are apart.
Prints a table and, as its last line, one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BLOCK_STEPS = 200
NEVER_STEPS = 10**9
NEVER_SECS = 10**6


def measure(steps: int, folder: Path) -> dict[str, tuple[float, float]]:
    """Train `steps` steps with every hook; return the median step, and the hook's own calls, in µs."""
    import tensorflow as tf

    import ackpt

    tf1 = tf.compat.v1
    tf1.disable_v2_behavior()
    tf1.logging.set_verbosity(tf1.logging.ERROR)
    hooks: dict[str, Callable[[str], Sequence[object]]] = {
        "none": lambda _: [],
        "none again": lambda _: [],
        "tf sync": lambda at: [tf1.train.CheckpointSaverHook(at, save_steps=NEVER_STEPS)],
        "ackpt, by steps": lambda at: [ackpt.AsyncCheckpointSaverHook(at, save_steps=NEVER_STEPS)],
        "ackpt, by seconds": lambda at: [ackpt.AsyncCheckpointSaverHook(at, save_secs=NEVER_SECS)],
    }
    means: dict[str, list[float]] = {name: [] for name in hooks}
    sessions: dict[str, tuple[Sequence[Any], Any]] = {}
    with ExitStack() as stack:
        runs: dict[str, Callable[[], object]] = {}
        for name, make in hooks.items():
            graph = stack.enter_context(tf.Graph().as_default())
            step = tf1.train.get_or_create_global_step(graph)
            train = tf1.assign_add(step, 1).op
            made = make(str(folder / name.replace(" ", "-").replace(",", "")))
            session = stack.enter_context(tf1.train.MonitoredSession(hooks=made))
            sessions[name] = made, session
            runs[name] = lambda session=session, train=train: session.run(train)  # type: ignore[misc]
        for block in range(steps // BLOCK_STEPS + 1):
            for name, run in runs.items():
                started = time.perf_counter()
                for _ in range(BLOCK_STEPS):
                    run()
                if block:  # the first warms up
                    means[name].append((time.perf_counter() - started) / BLOCK_STEPS)
        calls = {name: _time_calls(*session, steps) for name, session in sessions.items()}
    return {name: (statistics.median(found) * 1e6, calls[name] * 1e6) for name, found in means.items()}


def _time_calls(hooks: Sequence[Any], session: Any, steps: int) -> float:
    """Return the seconds that the hooks' methods take around a step, with no step between them."""
    import tensorflow as tf

    values = tf.compat.v1.train.SessionRunValues(results=0, options=None, run_metadata=None)

    def call_all(context: Any) -> float:
        started = time.perf_counter()
        for _ in range(steps):
            for hook in hooks:
                hook.before_run(context)
            for hook in hooks:
                hook.after_run(context, values)
        return (time.perf_counter() - started) / steps

    seconds: float = session.run_step_fn(lambda step_context: call_all(step_context))
    return seconds


def main() -> None:
    """Measure several rounds, and print the median of each hook's cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--smoke", action="store_true", help="few steps, one round")
    options = parser.parse_args()
    if options.smoke:
        options.steps, options.rounds = 2 * BLOCK_STEPS, 1

    rounds = []
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory(prefix="ackpt-idle-") as scratch:
            rounds.append(measure(options.steps, Path(scratch, str(number))))
    bare = statistics.median(each["none"][0] for each in rounds)
    costs = {
        name: {
            "step_us": statistics.median(each[name][0] - each["none"][0] for each in rounds),
            "calls_us": statistics.median(each[name][1] for each in rounds),
        }
        for name in rounds[0]
        if name != "none"
    }
    print(f"{'hook':20}{'step over none, us':>20}{'its calls, us':>15}   (a step takes {bare:.0f} us)")
    for name, cost in costs.items():
        print(f"{name:20}{cost['step_us']:20.1f}{cost['calls_us']:15.1f}")
    print(json.dumps({"bench": "idle", "step_us": bare, "over_none": costs}))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
