"""Count torn checkpoints: train without a pause and read every checkpoint back, for each hook and mix.

    python bench/torn.py [--saves 200] [--mixes NAME …] [--quick]

After n steps every element of every variable is n, so a checkpoint tells by itself whether it mixes
steps. TensorFlow's asynchronous hook writes nothing at all with TF2 behaviour, so all run without.
Prints a table and, as its last line, one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STEPS_BETWEEN_SAVES = 10


def measure(mix_name: str, hook_name: str, saves: int) -> dict[str, int]:
    """Train with one hook on one mix until it has written `saves` checkpoints or had the chance to."""
    import tensorflow as tf

    import ackpt
    from bench import hooks, mixes

    tf1 = tf.compat.v1
    tf1.disable_v2_behavior()
    tf1.logging.set_verbosity(tf1.logging.ERROR)
    mix = mixes.MIXES[mix_name]
    readings = []
    with tempfile.TemporaryDirectory(prefix="ackpt-torn-") as scratch, tf.Graph().as_default():
        train = mixes.build(mix)
        saver = tf1.train.Saver(max_to_keep=2, sharded=mix.devices > 1)
        made = hooks.make(
            hook_name,
            Path(scratch, "run"),
            save_steps=STEPS_BETWEEN_SAVES,
            on_saved=lambda prefix: readings.append(mixes.read_back(prefix)),
            saver=saver,
            staging=Path(scratch, "staging"),
            overlap=ackpt.Block(),
        )
        stop = tf1.train.StopAtStepHook(last_step=saves * STEPS_BETWEEN_SAVES)
        config = mixes.session_config(mix)
        with tf1.train.MonitoredTrainingSession(hooks=[*made, stop], config=config) as session:
            while not session.should_stop():
                session.run(train)
    torn = [each for each in readings if not each.whole]
    return {
        "checkpoints": len(readings),
        "torn": len(torn),
        "skew": max((each.skew for each in torn), default=0),
    }


def main() -> None:
    """Run every measurement in a process of its own, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--saves", type=int, default=200, help="saves for each mix with ackpt's hook")
    parser.add_argument("--peer-saves", type=int, default=16, help="saves for each mix with the others")
    parser.add_argument("--mixes", nargs="*", help="names of mixes (default: all)")
    parser.add_argument("--quick", action="store_true", help="a few saves of the smallest mix")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one[0], options.one[1], int(options.one[2]))))
        return

    from bench import hooks, mixes

    chosen = options.mixes or list(mixes.MIXES)
    if options.quick:
        chosen, options.saves, options.peer_saves = chosen[:1], 6, 4
    results: dict[str, dict[str, dict[str, int]]] = {}
    print(f"{'variables':36}{'hook':10}{'checkpoints':>12}{'torn':>6}{'skew':>6}")
    for mix in chosen:
        for hook in (name for name in hooks.available() if name != "none"):
            saves = options.saves if hook == "ackpt" else options.peer_saves
            result = _run_one(mix, hook, saves)
            results.setdefault(mix, {})[hook] = result
            print(
                f"{mix:36}{hook:10}{result['checkpoints']:12}{result['torn']:6}{result['skew']:6}", flush=True
            )
    print(json.dumps({"bench": "torn", "results": results}))


def _run_one(mix: str, hook: str, saves: int) -> dict[str, int]:
    done = subprocess.run(
        [sys.executable, __file__, "--one", mix, hook, str(saves)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2"},
        check=True,
        capture_output=True,
        text=True,
    )
    result: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return result


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
