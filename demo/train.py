"""One training process: restore the newest checkpoint, train on to the last step, save on the way."""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import ackpt
from demo import diary, model


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m demo.train", description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--model-dir", type=Path, required=True)
    parser.add_argument("--staging", type=Path, required=True)
    parser.add_argument("--diary", type=Path, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--save-steps", type=int, required=True)
    options = parser.parse_args()
    logging.basicConfig(format="    %(levelname)s %(message)s")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    logging.getLogger("ackpt").setLevel(logging.INFO)
    train(options)


def train(options: argparse.Namespace) -> None:
    """Restore, then train."""
    diary.append(options.diary, "Started")
    prefix = ackpt.restore(options.url, options.model_dir, staging_dir=options.staging)
    step = int(prefix.rpartition("-")[2]) if prefix is not None else None
    diary.append(options.diary, "Restored", step=step)
    hook = ackpt.AsyncCheckpointSaverHook(
        options.url,
        save_steps=options.save_steps,
        listeners=[diary.Diary(options.diary)],
        staging_dir=options.staging,
    )
    estimator = model.make_estimator(options.model_dir, steps_between_saves=options.save_steps, hooks=[hook])
    estimator.train(model.training_data(), max_steps=options.steps)
    diary.append(options.diary, "Trained", step=options.steps)


if __name__ == "__main__":
    main()
