"""Kill the demo's training at many random moments: each time the next run has to come back.

After each kill the newest committed checkpoint has to be readable by TensorFlow, and whole; the
next process has to go on from it, or from a newer one that the killed process had staged.
Exits with 1 if anything is not as promised.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import ackpt
from demo import model, store
from demo.run import Run

_ENDLESS = 10**9
_SAVE_STEPS = 10
_START_SECS = 120.0
_LIFE_SECS = 8.0
"""How long a training process lives at most, from the moment at which it begins to restore."""


def main() -> int:
    """Read the command line, kill, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m demo.kill_many", description=__doc__)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--url", help="save below this URL (default: a folder)")
    parser.add_argument("--folder", type=Path, default=Path("demo-run/kill-many"))
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}", flush=True)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    folder = options.folder.absolute()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    url = store.new_run(options.url or f"file://{folder}/bucket")
    failures = kill_many(
        Run(url=url, folder=folder, environment=os.environ), options.times, random.Random(seed)
    )
    print(f"{options.times} kills, {failures} not as promised")
    return 1 if failures else 0


def kill_many(run: Run, times: int, chance: random.Random) -> int:
    """Kill `times` training processes, one after another; return how often a promise was broken."""
    failures = 0
    committed: list[int] = []
    for number in range(1, times + 1):
        lived = _live_and_die(run, chance.uniform(0.0, _LIFE_SECS))
        went_on, problems = _went_on_from(run, committed)
        committed = run.committed()
        problems += _read_back(run, committed, number)
        failures += bool(problems)
        print(
            f"{number:3}  lived {lived:.2f} s, {went_on}, newest committed "
            f"{committed[-1] if committed else 'none'}: {'; '.join(problems) or 'as promised'}",
            flush=True,
        )
    return failures


def _went_on_from(run: Run, committed: list[int]) -> tuple[str, list[str]]:
    """Say where the last process went on from, and what is wrong with that; `committed` was before it."""
    newest = committed[-1] if committed else 0
    try:
        step = run.restored()
    except LookupError:
        return "killed while restoring", []
    if (step or 0) < newest:
        return f"went on from {step}", [f"expected step {newest} or newer"]
    return f"went on from {step}", []


def _live_and_die(run: Run, life_secs: float) -> float:
    """Start a training process, kill it `life_secs` after it began to restore; return how long it lived."""
    seen = run.starts()
    process = run.start(steps=_ENDLESS, save_steps=_SAVE_STEPS, log=run.folder / "training.log")
    try:
        deadline = time.monotonic() + _START_SECS
        while run.starts() == seen:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"training did not start: exit code {process.returncode}")
            time.sleep(0.01)
        started = time.monotonic()
        try:
            process.wait(life_secs)
        except subprocess.TimeoutExpired:
            return time.monotonic() - started
        raise RuntimeError(
            f"training ended by itself with exit code {process.returncode}; see {run.folder}/training.log"
        )
    finally:
        process.kill()
        process.wait()


def _read_back(run: Run, committed: list[int], number: int) -> list[str]:
    """Fetch the newest committed checkpoint as a reader would; return what is wrong with it."""
    folder = run.folder / f"read-{number}"
    prefix = ackpt.restore(run.url, folder)
    try:
        if prefix is None:
            return [f"nothing to restore, though {committed} are committed"] if committed else []
        torn = model.torn_variables(prefix)
        return [f"{prefix} mixes steps: {torn}"] if torn else []
    except (OSError, ValueError, AssertionError) as error:
        return [f"{prefix} cannot be read: {error!r}"]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
