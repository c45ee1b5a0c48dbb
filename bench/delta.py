"""Count the bytes that leave the machine while a model of which 90 % is frozen is fine-tuned.

    python bench/delta.py [--mib 160] [--saves 4] [--rounds 3] [--smoke]

The real hook saves to a Google Cloud Storage server in a process of its own; the bytes are those of
the bodies that the server has received, per save after the first one. "everything" is the same hook
with `copy_unchanged=false`, which sends what TensorFlow's way sends: every byte of every checkpoint.
The newest checkpoint is fetched, read by plain TensorFlow, and compared with the variables byte for
byte. "stall" is what the trainer thread pays for a save, "durable" the time from the first byte sent
to the commit; the digests that decide on a copy cost the latter. Every way has a process of its own, in turn.
What bounds the times: the server, which has one of the cores. Figures are medians.
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
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
VARIABLES = 10
"""Of which the last one is trained."""

WAYS = ("everything", "unchanged copied")


def measure(way: str, server: str, mib: int, saves: int) -> dict[str, float]:
    """Fine-tune, save `saves` times after the first, and tell what a save has cost."""
    import numpy as np
    import tensorflow as tf

    import ackpt

    tf1 = tf.compat.v1
    tf1.disable_v2_behavior()
    tf1.logging.set_verbosity(tf1.logging.ERROR)
    option = "" if way == "unchanged copied" else "&copy_unchanged=false"
    target = f"gs://bench/run?endpoint={server}&anonymous=true{option}"
    events: list[Any] = []

    class Commits(ackpt.CheckpointListener):
        async def on_committed(self, event: ackpt.events.Committed) -> None:
            events.append(event)

    with tempfile.TemporaryDirectory(prefix="ackpt-delta-") as scratch, tf.Graph().as_default():
        step = tf1.train.get_or_create_global_step()
        variables = [
            tf1.get_variable(
                f"layer{number}",
                shape=[mib * 2**20 // 4 // VARIABLES],
                initializer=tf1.random_normal_initializer(seed=number),
                use_resource=True,
                trainable=number == VARIABLES - 1,
            )
            for number in range(VARIABLES)
        ]
        loss = tf.add_n([tf.reduce_sum(tf.square(each)) for each in variables])
        train = tf1.train.GradientDescentOptimizer(0.01).minimize(loss, global_step=step)
        reads = {each.op.name: each.value() for each in variables}
        hook = ackpt.AsyncCheckpointSaverHook(
            target,
            save_steps=1,
            saver=tf1.train.Saver(max_to_keep=2),
            shard_bytes=mib * 2**20 // 4,
            staging_dir=Path(scratch, "staging"),
            overlap=ackpt.Block(),
            listeners=[Commits()],
        )
        with tf1.train.MonitoredSession(hooks=[hook]) as session:
            _wait_for(events, 1)
            before = _received(server)
            for count in range(saves):
                session.run(train)
                _wait_for(events, count + 2)
            values = session.run(reads)
        received = _received(server) - before
        prefix = ackpt.restore(target, Path(scratch, "restored"))
        reader = tf.train.load_checkpoint(str(prefix))
        same = all(np.array_equal(reader.get_tensor(name), value) for name, value in values.items())
    saved = events[1:]
    return {
        "checkpoint_bytes": saved[-1].size,
        "received_bytes": received / len(saved),
        "copied_bytes": saved[-1].copied,
        "share": received / sum(each.size for each in saved),
        "restored_equal": same,
        "stall_ms": 1e3 * statistics.median(each.stall_secs for each in saved),
        "durable_s": statistics.median(each.upload_secs for each in saved),
    }


def _wait_for(events: list[Any], count: int) -> None:
    limit = time.monotonic() + 600
    while len(events) < count:
        if time.monotonic() > limit:
            raise TimeoutError(f"{len(events)} of {count} saves are committed after 600 s")
        time.sleep(0.005)


def _received(server: str) -> int:
    """Return the bytes of all bodies that the server has received so far."""
    with urllib.request.urlopen(f"{server}/_admin/log", timeout=60) as reply:
        return sum(int(entry["received"]) for entry in json.load(reply))


@contextmanager
def _gcs() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="ackpt-delta-gcs-") as folder:
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.servers.gcs", "--bucket", "bench", "--folder", folder],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert server.stdout is not None
            yield server.stdout.readline().strip()
        finally:
            server.terminate()
            server.wait(30)


def main() -> None:
    """Measure both ways in turn, each with a server of its own, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--mib", type=int, default=160)
    parser.add_argument("--saves", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--smoke", action="store_true", help="one round of a small model")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        way, server, mib, saves = options.one
        print(json.dumps(measure(way, server, int(mib), int(saves))))
        return
    if options.smoke:
        options.mib, options.saves, options.rounds = 20, 2, 1
    rounds: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(options.rounds):
        for way in WAYS:
            with _gcs() as server:
                rounds[way].append(_run_one(way, server, options.mib, options.saves))
    results = {
        way: {key: statistics.median(each[key] for each in found) for key in found[0]}
        for way, found in rounds.items()
    }
    print(f"{'way':20}{'bytes a save':>16}{'share':>8}{'equal':>7}{'stall, ms':>11}{'durable, s':>12}")
    for way, found in results.items():
        print(
            f"{way:20}{found['received_bytes']:16,.0f}{found['share']:8.1%}{found['restored_equal']!s:>7}"
            f"{found['stall_ms']:11.2f}{found['durable_s']:12.3f}"
        )
    share = max(each["share"] for each in rounds["unchanged copied"])
    if share > 0.15:
        raise SystemExit(f"{share:.1%} of the bytes were sent, expected at most 15 %")
    print(json.dumps({"bench": "delta", "mib": options.mib, "results": results}))


def _run_one(way: str, server: str, mib: int, saves: int) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, __file__, "--one", way, server, str(mib), str(saves)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2"},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
