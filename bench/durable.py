"""Measure the time to durable: from the trigger of a save to its commit, and what it could be at best.

    python bench/durable.py [--mib 1024] [--saves 3] [--rounds 3] [--rate-mib 150] [--smoke]

A hook saves 16 resource variables, each save after the one before has ended, to a local folder, to a
Google Cloud Storage server in a process of its own, and to the same server behind a link of a limited
rate. "staging" is the same hook with a store that takes no time, "uploading" sends files that lie
staged already. Both overlap file by file, so the whole should take little more than the slower of
the two; the last column tells how much. TensorFlow's synchronous hook writes to the folder by its
own means (its filesystem for gs:// is no longer part of TensorFlow).
The variables stay as they are; that their bytes are sent all the same is an option of the URL.
What bounds the figures: the disk, which staging and a file:// target share, and the server, which
has one of the cores. Every way has a process of its own, in turn; figures are medians.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
VARIABLES = 16
SHARDS = 4
SAVE_SECS = 600.0
WAYS = ("tf sync", "staging", "uploading", "ackpt")


def measure(way: str, target: str, mib: int, saves: int) -> float:
    """Save several times in one of the `WAYS`; return the median seconds from trigger to commit."""
    with tempfile.TemporaryDirectory(prefix="ackpt-durable-") as scratch:
        if target == "file":
            target = f"file://{scratch}/run?copy_unchanged=false"
        return (_upload if way == "uploading" else _train)(way, target, mib, saves, Path(scratch))


def _train(way: str, target: str, mib: int, saves: int, scratch: Path) -> float:
    import tensorflow as tf

    import ackpt
    from bench.halves import InstantBackend

    tf1 = tf.compat.v1
    tf1.disable_v2_behavior()
    tf1.logging.set_verbosity(tf1.logging.ERROR)
    clock = _Clock()
    with tf.Graph().as_default():
        step = tf1.train.get_or_create_global_step()
        shape = [mib * 2**20 // 4 // VARIABLES]
        for number in range(VARIABLES):
            normal = tf1.random_normal_initializer(seed=number)
            tf1.get_variable(f"v{number}", shape=shape, initializer=normal, use_resource=True)
        train = tf1.assign_add(step, 1).op
        saver = tf1.train.Saver(max_to_keep=1)
        if way == "tf sync":
            folder = target.removeprefix("file://").partition("?")[0]
            hook: Any = tf1.train.CheckpointSaverHook(folder, save_steps=1, saver=saver)
        else:
            ackpt.register_backend("instant", InstantBackend)
            hook = ackpt.AsyncCheckpointSaverHook(
                target if way == "ackpt" else "instant://nowhere/run",
                save_steps=1,
                saver=saver,
                shard_bytes=mib * 2**20 // SHARDS,
                staging_dir=scratch / "staging",
                listeners=[clock.listener()],
            )
        _note_trigger(hook, clock, ends=way == "tf sync")
        with tf1.train.MonitoredSession(hooks=[hook]) as session:
            for _ in range(saves + 1):  # the first one warms up
                session.run(train)
                clock.wait()
    return statistics.median(clock.times[1 : saves + 1])


def _upload(way: str, target: str, mib: int, saves: int, scratch: Path) -> float:
    import ackpt
    from bench.halves import ReadySnapshot

    files = []
    for number in range(SHARDS):
        files.append(scratch / f"data-{number}")
        files[-1].write_bytes(os.urandom(mib * 2**20 // SHARDS))
    times = []
    with ackpt.BackgroundCheckpointer(
        target, staging_dir=scratch / "staging", retention=ackpt.KeepLast(1)
    ) as checkpointer:
        for step in range(saves + 1):
            started = time.perf_counter()
            checkpointer.submit(ReadySnapshot(files, step=step)).result(SAVE_SECS)
            times.append(time.perf_counter() - started)
            checkpointer.wait(SAVE_SECS)
    return statistics.median(times[1:])


class _Clock:
    """Take the time from each trigger to the commit that follows it."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.started: float | None = None
        self._ended = threading.Event()

    def end(self) -> None:
        if self.started is not None:  # not the save that a training begins with
            self.times.append(time.perf_counter() - self.started)
            self.started = None
            self._ended.set()

    def wait(self) -> None:
        if not self._ended.wait(SAVE_SECS):
            raise TimeoutError(f"a save has not ended after {SAVE_SECS:g} s")
        self._ended.clear()

    def listener(self) -> Any:
        import ackpt
        from ackpt import events

        clock = self

        class Ends(ackpt.CheckpointListener):
            async def on_committed(self, event: events.Committed) -> None:
                clock.end()

            async def on_failed(self, event: events.Failed) -> None:
                clock.end()  # the hook raises it in the next step

        return Ends()


def _note_trigger(hook: Any, clock: _Clock, *, ends: bool) -> None:
    after_run = hook.after_run

    def timed(run_context: Any, run_values: Any) -> None:
        clock.started = time.perf_counter()
        after_run(run_context, run_values)
        if ends:
            clock.end()

    hook.after_run = timed


@contextmanager
def _gcs(rate_bytes: int | None) -> Iterator[str]:
    from bench.link import run_url, server

    with server(rate_bytes) as endpoint:
        yield run_url(endpoint, "run") + "&copy_unchanged=false"


def main() -> None:
    """Measure every way to every target in a process of its own, in turn, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--saves", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate-mib", type=int, default=150, help="MiB a second of the limited link")
    parser.add_argument("--smoke", action="store_true", help="one round of a small model")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        way, target, mib, saves = options.one
        print(json.dumps(measure(way, target, int(mib), int(saves))))
        return
    if options.smoke:
        options.mib, options.saves, options.rounds = 16, 1, 1

    limited = f"gs, {options.rate_mib} MiB/s"
    targets: dict[str, Callable[[], Any]] = {
        "file": lambda: nullcontext("file"),
        "gs": lambda: _gcs(None),
        limited: lambda: _gcs(options.rate_mib * 2**20),
    }
    if options.smoke:
        del targets["gs"]
    results: dict[str, dict[str, float]] = {}
    print(f"{'target':18}" + "".join(f"{way + ', s':>15}" for way in WAYS) + f"{'over slower':>13}")
    for name, open_target in targets.items():
        medians = _medians(open_target, name == "file", options)
        medians = {"staging": results["file"]["staging"], **medians} if results else medians
        medians["over_slower"] = medians["ackpt"] / max(medians["staging"], medians["uploading"])
        results[name] = medians
        cells = "".join(f"{medians[way]:15.2f}" if way in medians else f"{'-':>15}" for way in WAYS)
        print(f"{name:18}{cells}{medians['over_slower']:13.2f}", flush=True)
    print(json.dumps({"bench": "durable", "mib": options.mib, "results": results}))


def _medians(open_target: Callable[[], Any], local: bool, options: argparse.Namespace) -> dict[str, float]:
    """Measure in turns; staging alone, which knows no target, and TensorFlow's hook only once."""
    ways = WAYS if local else ("uploading", "ackpt")
    rounds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(options.rounds):
        for way in ways:
            with open_target() as target:
                rounds[way].append(_run_one(way, target, options.mib, options.saves))
    return {way: statistics.median(found) for way, found in rounds.items()}


def _run_one(way: str, target: str, mib: int, saves: int) -> float:
    done = subprocess.run(
        [sys.executable, __file__, "--one", way, target, str(mib), str(saves)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2"},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return float(json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
