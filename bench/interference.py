"""Measure what the steps of a training cost more while a save is staged, and while its bytes travel.

    python bench/interference.py [--mib 256] [--saves 3] [--rounds 3] [--rate-mib 50] [--feed 0] [--smoke]

Every way trains the same model (16 resource variables, all updated at every step, and a product of
matrices) in a process of its own, in turn, several rounds. The steps between two saves are quiet,
those that begin before a save is staged (TensorFlow's hook: written) are "staging", and those
between that and the commit are "travelling". Each way's steps are compared with its own quiet ones:
the inflation is the median of the former over the median of the latter.
"mover" is a training with no hook beside a bare process that sends the same bytes over one socket,
and nothing else, to the same server at the same rate: what the travelling of bytes costs at least.
With `--feed` each step begins with so many additions in Python, under the interpreter's lock, as a
training that feeds its steps has them.
TensorFlow's asynchronous hook writes to the local disk, and nothing travels.
What bounds the figures: the cores. The server, too, needs one, as a neighbour on a machine would;
with every way it is the same server. `over_mover` and `over_tf` compare inflations.
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
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
VARIABLES = 16
MATRIX = 768
QUIET_STEPS = 12
SAVE_SECS = 300.0
WAYS = ("none", "mover", "tf async", "ackpt thread", "ackpt process")

Figures = dict[str, float]


def measure(way: str, endpoint: str, mib: int, saves: int, feed: int) -> Figures:
    """Train in one of the `WAYS`; return median steps in milliseconds, and what was moved."""
    import tensorflow as tf

    tf1 = tf.compat.v1
    tf1.disable_v2_behavior()
    tf1.logging.set_verbosity(tf1.logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="ackpt-interference-") as scratch, tf.Graph().as_default():
        train, saver = _model(tf, mib)
        episode = _Episode()
        trigger, hooks = _way(way, endpoint, mib, Path(scratch), episode, saver)
        steps: dict[str, list[float]] = {"quiet": [], "staging": [], "travelling": []}
        with tf1.train.MonitoredSession(hooks=hooks) as session:
            episode.wait()  # hooks save what a training begins with
            for _ in range(QUIET_STEPS):
                session.run(train)  # the first ones warm up
            moved = episode.moved
            for _ in range(saves):
                _train(session, train, steps["quiet"], QUIET_STEPS, feed)
                trigger()
                session.run(train)  # with the stall, which bench/stall.py measures
                while not episode.ended():
                    phase = "travelling" if episode.staged() else "staging"
                    _train(session, train, steps[phase], 1, feed)
            moved = episode.moved - moved
        figures = {f"{phase}_ms": statistics.median(found) * 1e3 for phase, found in steps.items() if found}
        return {**figures, "steps": float(sum(map(len, steps.values()))), "moved_bytes": float(moved)}


def _model(tf: Any, mib: int) -> tuple[Any, Any]:
    tf1 = tf.compat.v1
    step = tf1.train.get_or_create_global_step()
    shape = [mib * 2**20 // 4 // VARIABLES]
    variables = [
        tf1.get_variable(f"v{number}", shape=shape, initializer=tf1.zeros_initializer(), use_resource=True)
        for number in range(VARIABLES)
    ]
    one = tf.constant(1.0)
    updates = [tf1.assign_add(v, tf.broadcast_to(one, v.shape)).op for v in variables]
    matrix = tf1.random_uniform([MATRIX, MATRIX], seed=1)
    product = tf.linalg.matmul(tf.linalg.matmul(matrix, matrix), matrix).op
    train = tf.group(*updates, product, tf1.assign_add(step, 1).op)
    return train, tf1.train.Saver(variables, max_to_keep=1)


def _train(session: Any, train: Any, times: list[float], count: int, feed: int) -> None:
    for _ in range(count):
        started = time.perf_counter()
        sum(number for number in range(feed))
        session.run(train)
        times.append(time.perf_counter() - started)


class _Episode:
    """Follow one save after the other; told of them on any thread."""

    def __init__(self) -> None:
        self._staged = threading.Event()
        self._ended = threading.Event()
        self.process: subprocess.Popen[str] | None = None
        self.moved = 0
        self.error: BaseException | None = None

    def begin(self) -> None:
        self._staged.clear()
        self._ended.clear()

    def note_staged(self) -> None:
        self._staged.set()

    def note_ended(self, size: int = 0, error: BaseException | None = None) -> None:
        self.moved += size
        self.error = self.error or error
        self._staged.set()
        self._ended.set()

    def staged(self) -> bool:
        return self._staged.is_set()

    def ended(self) -> bool:
        if self.process is not None and self.process.poll() is not None:
            said, self.process = self.process.communicate()[0], None
            self.note_ended(int(said))
        if self.error is not None:
            raise self.error
        return self._ended.is_set()

    def wait(self) -> None:
        if not self._ended.wait(SAVE_SECS):
            raise TimeoutError(f"a save has not ended after {SAVE_SECS:g} s")


def _way(
    way: str, endpoint: str, mib: int, scratch: Path, episode: _Episode, saver: Any
) -> tuple[Callable[[], None], list[Any]]:
    """Return what begins a save, and the hooks that do it."""
    if way == "none":
        episode.note_ended()
        return (lambda: None), []
    if way == "mover":
        episode.note_ended()
        path = scratch / "checkpoint"
        path.write_bytes(os.urandom(2**20) * mib)
        return (lambda: _begin_move(endpoint, path, episode)), []
    timer = _Timer()
    hook = _hook(way, endpoint, scratch, episode, saver)
    hook._timer = timer
    if way.startswith("ackpt"):
        begin = hook.begin

        def begin_and_look_at_every_step() -> None:
            begin()
            hook._trigger.may_be_due = lambda: True

        hook.begin = begin_and_look_at_every_step

    def trigger() -> None:
        episode.begin()
        timer.due = True

    return trigger, [hook]


class _Timer:
    """Stand for a hook's timer: a save is due when the measurement says so."""

    def __init__(self) -> None:
        self.due = False
        self._last: int | None = None

    def should_trigger_for_step(self, step: int) -> bool:
        return self.due

    def update_last_triggered_step(self, step: int) -> tuple[None, None]:
        self.due = False
        self._last = step
        return None, None

    def last_triggered_step(self) -> int | None:
        return self._last

    def reset(self) -> None:
        self._last = None


def _begin_move(endpoint: str, path: Path, episode: _Episode) -> None:
    from bench.link import BUCKET

    episode.begin()
    episode.note_staged()
    host, _, port = endpoint.removeprefix("http://").rpartition(":")
    episode.process = subprocess.Popen(
        [sys.executable, "-S", str(ROOT / "bench" / "mover.py"), host, port, BUCKET, str(path)],
        stdout=subprocess.PIPE,
        text=True,
    )


def _hook(way: str, endpoint: str, scratch: Path, episode: _Episode, saver: Any) -> Any:
    import tensorflow as tf

    import ackpt
    from ackpt import events
    from bench.link import run_url

    if way == "tf async":
        from tensorflow.python.tpu.async_checkpoint import AsyncCheckpointSaverHook

        class Saved(tf.compat.v1.train.CheckpointSaverListener):  # type: ignore[misc]
            def after_save(self, session: Any, global_step_value: int) -> None:
                episode.note_ended()

        return AsyncCheckpointSaverHook(str(scratch / "run"), save_steps=1, saver=saver, listeners=[Saved()])

    class Tells(ackpt.CheckpointListener):
        async def on_staged(self, event: events.Staged) -> None:
            episode.note_staged()

        async def on_committed(self, event: events.Committed) -> None:
            episode.note_ended(event.size)

        async def on_failed(self, event: events.Failed) -> None:
            episode.note_ended(error=event.error)

    return ackpt.AsyncCheckpointSaverHook(
        run_url(endpoint, f"run-{os.getpid()}"),
        save_steps=1,
        saver=saver,
        save_graph_def=False,
        staging_dir=scratch / "staging",
        uploader="process" if way == "ackpt process" else "thread",
        listeners=[Tells()],
    )


def main() -> None:
    """Measure every way in a process of its own, in turn, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument("--saves", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate-mib", type=int, default=50, help="MiB a second of the link")
    parser.add_argument("--feed", type=int, default=0, help="additions in Python at each step")
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=WAYS)
    parser.add_argument("--smoke", action="store_true", help="one round of a small model")
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        way, endpoint, mib, saves, feed = options.one
        print(json.dumps(measure(way, endpoint, int(mib), int(saves), int(feed))))
        return

    from bench import link

    if options.smoke:
        options.mib, options.saves, options.rounds, options.rate_mib = 16, 1, 1, 16
    rounds: dict[str, list[Figures]] = {way: [] for way in options.ways}
    for _ in range(options.rounds):
        for way, found in rounds.items():
            with link.server(options.rate_mib * 2**20) as endpoint:
                figures = _run_one(way, endpoint, options.mib, options.saves, options.feed)
            if figures is not None:
                found.append(figures)
    results = {way: _result(found) for way, found in rounds.items() if found}
    for each in results.values():
        _compare(each, results)
    _print(results)
    print(json.dumps({"bench": "interference", "mib": options.mib, "results": results}))


def _result(found: list[Figures]) -> Figures:
    """Return the medians of the rounds; inflations are each round's own."""
    for each in found:
        for phase in ("staging", "travelling"):
            if f"{phase}_ms" in each:
                each[f"{phase}_inflation"] = each[f"{phase}_ms"] / each["quiet_ms"]
    keys = [key for key in found[0] if all(key in each for each in found)]
    return {key: statistics.median(each[key] for each in found) for key in keys}


def _compare(figures: Figures, results: dict[str, Figures]) -> None:
    for phase, other, name in (("travelling", "mover", "over_mover"), ("staging", "tf async", "over_tf")):
        mine, theirs = figures.get(f"{phase}_inflation"), results.get(other, {}).get(f"{phase}_inflation")
        if mine is not None and theirs is not None:
            figures[name] = mine / theirs


def _print(results: dict[str, Figures]) -> None:
    columns = {
        "quiet ms": "quiet_ms",
        "staging ms": "staging_ms",
        "travelling ms": "travelling_ms",
        "staging x": "staging_inflation",
        "over tf": "over_tf",
        "travelling x": "travelling_inflation",
        "over mover": "over_mover",
    }
    print(f"{'way':15}" + "".join(f"{name:>15}" for name in columns))
    for way, figures in results.items():
        cells = (f"{figures[key]:15.2f}" if key in figures else f"{'-':>15}" for key in columns.values())
        print(f"{way:15}" + "".join(cells), flush=True)


def _run_one(way: str, endpoint: str, mib: int, saves: int, feed: int) -> Figures | None:
    """Measure in a process of its own; None where this TensorFlow has no such hook."""
    done = subprocess.run(
        [sys.executable, __file__, "--one", way, endpoint, str(mib), str(saves), str(feed)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        if way == "tf async" and "No module named" in done.stderr:
            print("this TensorFlow has no asynchronous hook of its own; it is left out", file=sys.stderr)
            return None
        raise RuntimeError(f"{way}: {done.stderr}")
    result: Figures = json.loads(done.stdout.splitlines()[-1])
    return result


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
