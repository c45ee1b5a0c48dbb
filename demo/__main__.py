"""Train, be killed in the middle of a save, come back, evaluate; exit with 1 if anything is not as promised.

`python -m demo --url URL`, or `python -m demo --gs` for a local Google Cloud Storage server.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path

from demo import diary, store, table
from demo.run import Run, kill_in_the_middle_of_a_save

STEPS = 280
SAVE_STEPS = 40
_COMMITS_BEFORE_THE_KILL = 2
_KILLS = 5
_PROCESS_SECS = 300.0
_ACCURACY = 0.9


class BrokenPromiseError(Exception):
    """Report that the demonstration did not show what it is to show."""


def main() -> int:
    """Read the command line, demonstrate, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--url", help="save below this URL")
    where.add_argument("--gs", action="store_true", help="save to a local Google Cloud Storage server")
    parser.add_argument("--folder", type=Path, default=Path("demo-run"), help="for everything local")
    options = parser.parse_args()
    folder = options.folder.absolute()
    for name in ("model", "staging", "evaluation", "diary.jsonl"):
        shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if options.url is not None:
            demonstrate(Run(url=store.new_run(options.url), folder=folder, environment=os.environ))
        else:
            with store.gcs_server(folder / "gcs") as address:
                os.environ["STORAGE_EMULATOR_HOST"] = address
                demonstrate(Run(url=store.new_run(store.bucket_url()), folder=folder, environment=os.environ))
    except BrokenPromiseError as error:
        print(f"\nNOT AS PROMISED: {error}", file=sys.stderr)
        return 1
    return 0


def demonstrate(run: Run) -> None:
    """Show the whole story of one run.

    Raises:
        BrokenPromiseError: something in it is not as promised.
    """
    print(f"== training to step {STEPS}, saving to {run.url} every {SAVE_STEPS} steps", flush=True)
    killed = _train_until_killed(run)
    print(f"== the newest committed checkpoint is step {run.committed()[-1]}; starting again", flush=True)
    _train_to_the_end(run, killed)
    print("== evaluating from the store, in an empty folder", flush=True)
    figures = json.loads(run.evaluate().splitlines()[-1])
    _expect(figures["step"] == STEPS, f"evaluated step {figures['step']}, expected {STEPS}")
    _expect(not figures["torn"], f"variables that mix steps: {figures['torn']}")
    _expect(figures["accuracy"] > _ACCURACY, f"accuracy {figures['accuracy']:.3f}, expected over {_ACCURACY}")
    print(f"\n{table.text(table.rows(diary.read(run.diary), run.committed()))}")
    print(f"\naccuracy at step {figures['step']}, restored from the store: {figures['accuracy']:.3f}")


def _train_until_killed(run: Run) -> int:
    """Train and kill in the middle of a save; return that save's step."""
    for attempt in range(_KILLS):
        process = run.start(steps=STEPS, save_steps=SAVE_STEPS)
        try:
            left = kill_in_the_middle_of_a_save(
                run,
                process,
                commits=_COMMITS_BEFORE_THE_KILL + attempt,
                timeout_secs=_PROCESS_SECS,
            )
        except RuntimeError as error:
            raise BrokenPromiseError(str(error)) from error
        finally:
            process.kill()
            process.wait()
        if left is not None:
            print(f"== killed in the middle of saving step {left.step}: staged, on its way, not committed")
            return left.step
        print("== killed just after a commit; once more")
    raise BrokenPromiseError(f"{_KILLS} kills, and none of them came in the middle of a save")


def _train_to_the_end(run: Run, killed: int) -> None:
    process = run.start(steps=STEPS, save_steps=SAVE_STEPS)
    try:
        code = process.wait(_PROCESS_SECS)
    finally:
        process.kill()
        process.wait()
    _expect(code == 0, f"training ended with exit code {code}")
    restored = run.restored()
    _expect(restored == killed, f"training went on from step {restored}, expected {killed}, which was staged")
    _expect(run.committed()[-1] == STEPS, f"the last commit is step {run.committed()[-1]}, expected {STEPS}")
    print(f"== went on from step {restored} and reached step {STEPS}", flush=True)


def _expect(promise: bool, otherwise: str) -> None:
    if not promise:
        raise BrokenPromiseError(otherwise)


if __name__ == "__main__":
    sys.exit(main())
